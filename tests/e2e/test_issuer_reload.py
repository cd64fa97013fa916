"""SIGHUP puts a new issuer file in force while requests go on; a broken one only leaves a line in the log."""

import json
from pathlib import Path

import requests

from tests.support.issuer import LocalIssuer
from tests.support.processes import (
    UNLIMITED,
    RunningService,
    dev_service,
    production_service,
    running,
    wait_until,
)
from tests.support.signers import Signers
from tests.support.signing import bearer, issue, key_body, new_key
from tests.support.tokens import TokenDesk

EMAIL = "reload@example.com"


def listed(*issuers: LocalIssuer, more: str = "") -> str:
    tables = (issuer.issuer_file().removeprefix("oidc-issuers:\n") for issuer in issuers)
    return "oidc-issuers:\n" + "".join(tables) + more


def records(service: RunningService) -> list[dict[str, str]]:
    lines = service.output.read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def refusal(session: requests.Session, service: RunningService, token: str) -> str | None:
    """The reason this token is refused for, None when it gets a certificate."""
    reply = session.post(
        f"{service.url}/api/v2/signingCert",
        json=key_body(new_key(), EMAIL),
        headers=bearer(token),
        timeout=60,
    )
    return None if reply.status_code == 200 else str(reply.json()["details"][0]["reason"])


def test_a_new_issuer_is_known_after_a_hang_up_and_no_request_fails_meanwhile(
    tmp_path: Path, session: requests.Session
) -> None:
    with LocalIssuer() as first, LocalIssuer() as second:
        service = production_service(tmp_path / "ca", issuers=listed(first), workers=2, environ=UNLIMITED)
        file = service.directory / "issuers.yaml"
        with running(service):
            assert refusal(session, service, second.token(EMAIL)) == "token-issuer-unknown"
            signers = Signers(service.url, first, EMAIL)
            with signers.asking():
                file.write_text(listed(first, second))
                service.replace_workers()
                assert refusal(session, service, second.token(EMAIL)) is None

                broken = listed(
                    first, more="  https://third.example.com:\n    client-id: sigstore\n    type: odd\n"
                )
                file.write_text(broken)
                service.replace_workers()
                assert refusal(session, service, second.token(EMAIL)) is None, "the old issuers stay"
                before = signers.good
                wait_until(lambda: signers.good > before + 10, 60, "requests go on")
            assert signers.failed == []
            configured = session.get(f"{service.url}/api/v2/configuration", timeout=60).json()
            assert [one["issuerUrl"] for one in configured["issuers"]] == [first.url, second.url]

            (why,) = [one for one in records(service) if one["level"] == "error"]
            for named in (str(file), "issuer https://third.example.com", "type is 'odd'", "old issuers stay"):
                assert named in why["message"]

            file.write_text(listed(first))
            service.replace_workers()
            assert refusal(session, service, second.token(EMAIL)) == "token-issuer-unknown"
            assert refusal(session, service, first.token(EMAIL)) is None


def test_the_development_provider_survives_a_hang_up(tmp_path: Path, session: requests.Session) -> None:
    with running(dev_service(tmp_path / "ca", workers=1)) as service:
        token = TokenDesk(service).token(EMAIL)
        for file in ("oidc-issuers: {}\n", "oidc-issuers: ["):
            (service.directory / "issuers.yaml").write_text(file)
            service.replace_workers()
            issue(session, service.url, token, EMAIL)
            issue(session, service.url, TokenDesk(service).token(EMAIL), EMAIL)
