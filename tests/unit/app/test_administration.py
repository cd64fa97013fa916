"""Who administers, as the settings say it: what is wrong stops the start, and no file names whom dev adds."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from ca_service.app.administration import DEV_ADMINISTRATOR, administration_of, read_administrators
from ca_service.app.issuers import IssuersInForce
from ca_service.authority.administrators import Role
from ca_service.authority.gate import Approach, Gate
from ca_service.authority.ports import Actor
from ca_service.cache.memory import MemoryRateLimiter
from ca_service.cli.host import Unobserved, clock
from ca_service.errors import AdministrationOff, ConfigurationError, Unauthenticated
from ca_service.settings import Settings, load_settings
from ca_service.settings.rendering import EXAMPLE, settings_file
from ca_service.web.dev_idp import DevIdentityProvider

SIGNING = "https://accounts.example.com"
STAFF = "https://staff.example.com"
ISSUERS = f"oidc-issuers:\n  {SIGNING}:\n    client-id: sigstore\n    type: email\n    algorithms: [ES256]\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "issuers.yaml").write_text(ISSUERS)
    return tmp_path


def settings(folder: Path, more: str = "", **environ: str) -> Settings:
    (folder / "ca.toml").write_text(settings_file(EXAMPLE) + more)
    return load_settings(folder / "ca.toml", environ)


def role(issuer: str, role: str = "viewer", claims: str = 'sub = "7"') -> str:
    return f'\n[[admin_role]]\nrole = "{role}"\nissuer = "{issuer}"\nclaims = {{{claims}}}\n'


def test_issuers_need_not_be_in_the_issuer_file_and_are_strict_whatever_it_says(folder: Path) -> None:
    loaded = settings(folder, role(SIGNING) + role(STAFF) + role(STAFF, "revoker"))
    signing = IssuersInForce(loaded)
    rules, issuers = read_administrators(loaded, signing.current)
    assert [(rule.role, rule.issuer) for rule in rules] == [
        (Role.VIEWER, SIGNING),
        (Role.VIEWER, STAFF),
        (Role.REVOKER, STAFF),
    ]
    listed, own = issuers.current().issuers
    assert (listed.client_id, listed.strict_audience, listed.algorithms) == (
        "ca-service-admin",
        True,
        ("ES256",),
    )
    assert (own.issuer_url, own.client_id, own.strict_audience) == (STAFF, "ca-service-admin", True)
    # The signers' directory knows nothing of the staff, and the audience of signers stays theirs.
    assert signing.current().find(STAFF) is None
    found = signing.current().find(SIGNING)
    assert found is not None
    assert found.client_id == "sigstore"


def test_what_the_issuer_file_says_of_an_issuer_counts_after_it_was_read_again(folder: Path) -> None:
    loaded = settings(folder, role(SIGNING))
    signing = IssuersInForce(loaded)
    _, issuers = read_administrators(loaded, signing.current)
    (folder / "issuers.yaml").write_text(ISSUERS.replace("ES256", "RS256"))
    assert signing.reload()
    assert issuers.current().issuers[0].algorithms == ("RS256",)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (role("http://127.0.0.1:5555/dev-idp"), "number 1 .* a development identity provider"),
        (role(SIGNING) + role("https://idp.example.com/dev-idp/"), "number 2 .* a development identity"),
        (role("http://staff.example.com"), "issuer http://staff.example.com: issuer-url"),
        (role("staff.example.com"), "issuer staff.example.com: issuer-url"),
        (role("https://*.example.com"), "wildcard"),
        (role(STAFF, claims='"$..groups" = "x"'), "number 1 .*claim path"),
    ],
)
def test_a_wrong_rule_stops_the_start(folder: Path, more: str, says: str) -> None:
    loaded = settings(folder, more)
    with pytest.raises(ConfigurationError, match=says):
        read_administrators(loaded, IssuersInForce(loaded).current)


def test_an_audience_that_signers_have_is_refused_at_the_start_and_later(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "issuers.yaml").write_text(ISSUERS.replace("sigstore", "corporate"))
    with pytest.raises(
        ConfigurationError, match=f"client-id of {SIGNING} is corporate, the audience of admin"
    ):
        IssuersInForce(settings(folder, CASVC_ADMIN__AUDIENCE="corporate"))
    issuers = IssuersInForce(settings(folder))
    (folder / "issuers.yaml").write_text(ISSUERS.replace("sigstore", "ca-service-admin"))
    assert not issuers.reload()
    assert "expected two different ones" in caplog.text


def test_certificates_for_the_staffs_provider_are_read_at_the_start(folder: Path) -> None:
    (folder / "staff.pem").write_text("no certificate")
    loaded = settings(folder, role(STAFF), CASVC_ADMIN__CA_CERTIFICATES="staff.pem")
    with pytest.raises(ConfigurationError, match="PEM"):
        read_administrators(loaded, IssuersInForce(loaded).current)


def test_development_has_an_administrator_whom_no_file_names(folder: Path) -> None:
    provider = DevIdentityProvider("http://127.0.0.1:5555")
    records: list[tuple[Actor, str, Mapping[str, object]]] = []

    def gate_of(dev: DevIdentityProvider | None) -> Gate:
        loaded = settings(folder)
        return administration_of(
            loaded,
            IssuersInForce(loaded, dev.issuer() if dev else None).current,
            dev=dev,
            limiter=MemoryRateLimiter(),
            record=lambda *record: records.append(record),
            clock=clock,
            observer=Unobserved(),
        ).gate

    def call(token: str) -> Approach:
        return Approach(token, "GET /admin/v1/whoami", "127.0.0.1", "request-1")

    token = provider.sign_token(DEV_ADMINISTRATOR, "ca-service-admin")
    development, production = gate_of(provider), gate_of(None)
    admitted = development.admit(call(token), Role.ADMINISTRATOR)
    assert admitted.administrator.role is Role.ADMINISTRATOR
    with pytest.raises(Unauthenticated):
        development.admit(call(provider.sign_token(DEV_ADMINISTRATOR)), Role.VIEWER)
    with pytest.raises(AdministrationOff):
        production.admit(call(token), Role.VIEWER)
    assert records == []
