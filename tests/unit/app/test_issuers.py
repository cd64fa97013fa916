"""The issuers in force change only from one right directory to another."""

import json
import logging
from pathlib import Path

import pytest

from ca_service.app.issuers import IssuersInForce, read_issuers
from ca_service.errors import ConfigurationError
from ca_service.identity.issuers import Issuer, IssuerType
from ca_service.settings import Settings, load_settings
from ca_service.settings.rendering import EXAMPLE, settings_file

FIRST, SECOND = "https://first.example.com", "https://second.example.com"
DEVELOPMENT = Issuer("http://127.0.0.1:5555/dev-idp", "sigstore", IssuerType.EMAIL)


def listed(*urls: str, more: str = "") -> str:
    issuers = "".join(f"  {url}:\n    client-id: sigstore\n    type: email\n{more}" for url in urls)
    return f"oidc-issuers:\n{issuers}"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "ca.toml").write_text(settings_file(EXAMPLE))
    path = tmp_path / "issuers.yaml"
    path.write_text(listed(FIRST))
    return path


def settings(file: Path, **environ: str) -> Settings:
    return load_settings(file.parent / "ca.toml", environ)


def test_a_right_file_replaces_the_issuers_in_force(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    issuers = IssuersInForce(settings(file))
    file.write_text(listed(SECOND, more="    unheard-of: 1\n"))
    assert issuers.current().find(SECOND) is None, "nothing changes before it is asked for"
    with caplog.at_level(logging.INFO):
        assert issuers.reload()
    assert issuers.current().find(SECOND) is not None
    assert issuers.current().find(FIRST) is None
    assert "unheard-of is not a known member" in caplog.text
    assert "1 issuers and 0 wildcards" in caplog.text


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            listed(SECOND, more="    ca-cert: nonsense\n"),
            f"issuers.yaml: issuer {SECOND}: ca-cert is not a PEM",
        ),
        ("oidc-issuers: [", "neither YAML nor JSON"),
        ("", "names no issuer"),
        (listed("http://127.0.0.1:5555/dev-idp"), "development identity provider"),
        ("é".encode("latin-1"), "is not UTF-8"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_wrong_file_is_refused_and_the_log_says_why(
    file: Path, caplog: pytest.LogCaptureFixture, content: str | bytes | None, says: str
) -> None:
    issuers = IssuersInForce(settings(file))
    before = issuers.current()
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert not issuers.reload()
    assert issuers.current() is before
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "old issuers stay" in record.getMessage()
    assert says in record.getMessage()
    assert "issuers.yaml" in record.getMessage()


def test_the_development_provider_survives_a_reload(file: Path) -> None:
    issuers = IssuersInForce(settings(file), DEVELOPMENT)
    file.write_text(listed(SECOND))
    assert issuers.reload()
    assert issuers.current().find(DEVELOPMENT.issuer_url) is not None
    assert issuers.current().find(SECOND) is not None


def test_policies_of_the_settings_restrict_the_issuers(file: Path) -> None:
    policy = json.dumps(
        [{"issuer": FIRST, "algorithms": ["ES256"], "required_claims": {"hd": "example.com"}}]
    )
    issuers = IssuersInForce(settings(file, CASVC_ISSUER_POLICY=policy))
    found = issuers.current().find(FIRST)
    assert found is not None
    assert found.algorithms == ("ES256",)
    assert list(found.rules.required) == ["hd"]
    file.write_text(listed(SECOND))
    assert not issuers.reload(), "the policy's issuer is gone, and nobody would notice that it guards nothing"
    assert issuers.current().find(FIRST) is found


def test_a_policy_of_an_issuer_that_is_not_in_the_file_is_refused_at_the_start(file: Path) -> None:
    policy = json.dumps([{"issuer": SECOND}])
    with pytest.raises(ConfigurationError) as raised:
        read_issuers(settings(file, CASVC_ISSUER_POLICY=policy))
    assert "[[issuer_policy]]" in raised.value.message
    assert f"{SECOND} is not in the issuer file" in raised.value.message
    assert str(file) in raised.value.message
