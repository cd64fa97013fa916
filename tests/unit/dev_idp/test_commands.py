"""`dev` and `dev-token` before any server runs: what they refuse, and in which words."""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ca_service.cli.dev import _settings
from ca_service.cli.group import main
from ca_service.errors import ConfigurationError
from ca_service.settings import load_settings


def ca_service(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("CASVC_"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("bind", "says"),
    [
        ("0.0.0.0:5555", "expected a loopback address"),
        ("[::]:5555", "expected a loopback address"),
        ("192.0.2.1:5555", "expected a loopback address"),
        ("ca.example.com:5555", "expected a loopback address"),
        ("127.0.0.1.example.com:5555", "expected a loopback address"),
        ("127.0.0.1", "expected HOST:PORT"),
        ("127.0.0.1:0", "a port of your choice"),
    ],
)
def test_dev_listens_on_loopback_only_and_makes_nothing_otherwise(
    tmp_path: Path, bind: str, says: str
) -> None:
    directory = tmp_path / "ca"
    done = ca_service("dev", "--dir", directory, "--bind", bind)
    assert done.exit_code == 2
    assert says in done.stderr
    assert not directory.exists()


def test_dev_makes_an_authority_that_knows_nothing_of_its_provider(tmp_path: Path) -> None:
    settings = _settings(tmp_path / "ca", "localhost:43217")
    assert settings.service.url == "http://localhost:43217"
    assert settings.server.bind == "127.0.0.1:43217"
    assert settings.oidc.private_networks == ("127.0.0.0/8", "::1/128")
    again = _settings(tmp_path / "ca", None)
    assert again == settings
    stored = load_settings(tmp_path / "ca" / "ca.toml", {})
    assert stored.oidc.private_networks == ()
    for file in (tmp_path / "ca").rglob("*"):
        assert file.is_dir() or b"dev-idp" not in file.read_bytes(), file


def test_dev_refuses_another_address_than_the_one_the_certificates_name(tmp_path: Path) -> None:
    _settings(tmp_path / "ca", "[::1]:43217")
    assert _settings(tmp_path / "ca", None).server.bind == "[::1]:43217"
    for bind in ("[::1]:43218", "127.0.0.1:43217"):
        with pytest.raises(ConfigurationError, match=r"start it with --bind \[::1\]:43217"):
            _settings(tmp_path / "ca", bind)


@pytest.mark.parametrize(
    "url", ["https://ca.example.com", "http://ca.example.com:5555", "https://127.0.0.1:5555"]
)
def test_dev_refuses_an_authority_made_for_others(tmp_path: Path, url: str) -> None:
    status = "http://status.example.com"
    assert ca_service("init", "--dir", tmp_path / "ca", "--url", url, "--status-url", status).exit_code == 0
    done = ca_service("dev", "--dir", tmp_path / "ca")
    assert done.exit_code == 2
    assert "not for this machine alone" in done.stderr


def test_dev_token_says_that_no_server_runs(tmp_path: Path) -> None:
    done = ca_service("dev-token", "--dir", tmp_path, "--email", "ada@example.com")
    assert (done.exit_code, done.stdout) == (3, "")
    assert "no development server runs" in done.stderr
    (tmp_path / "run").mkdir()
    for damaged in ("", "[]", "{}", "\x00"):
        (tmp_path / "run" / "dev.json").write_text(damaged)
        done = ca_service("dev-token", "--dir", tmp_path, "--email", "ada@example.com")
        assert (done.exit_code, done.stdout) == (3, "")
        assert "damaged" in done.stderr


@pytest.mark.parametrize("claim", ["email_verified", "=true", ""])
def test_a_claim_needs_a_name_and_a_value(tmp_path: Path, claim: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "dev.json").write_text(json.dumps({"url": "http://127.0.0.1:1", "secret": "x"}))
    done = ca_service("dev-token", "--dir", tmp_path, "--email", "a@example.com", "--claim", claim)
    assert done.exit_code == 2
    assert "expected NAME=VALUE" in done.stderr
