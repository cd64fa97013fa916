"""SIGHUP puts a new issuer file in force while requests go on; a broken one only leaves a line in the log."""

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from tests.support.issuer import LocalIssuer
from tests.support.processes import RunningService, dev_service, http, production_service, running, wait_until
from tests.support.signing import bearer, issue, key_body, new_key
from tests.support.tokens import TokenDesk

EMAIL = "reload@example.com"


def listed(*issuers: LocalIssuer, more: str = "") -> str:
    tables = (issuer.issuer_file().removeprefix("oidc-issuers:\n") for issuer in issuers)
    return "oidc-issuers:\n" + "".join(tables) + more


def hang_up(service: RunningService) -> None:
    """Send SIGHUP to the first process, and wait until it has replaced every worker."""
    assert service.process is not None
    before = {process.pid for process in service.family()} - {service.process.pid}
    service.process.send_signal(signal.SIGHUP)
    wait_until(
        lambda: not before & {process.pid for process in service.family()}, 60, "the old workers are gone"
    )
    service.wait_ready()


def records(service: RunningService) -> list[dict[str, str]]:
    lines = service.output.read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


class Signers:
    """Threads that ask without a pause, each on a connection that it keeps, and what came of it."""

    def __init__(self, service: RunningService, issuer: LocalIssuer) -> None:
        self.service = service
        self.headers = bearer(issuer.token(EMAIL))
        self.body = key_body(new_key(), EMAIL)
        self.stop = threading.Event()
        self.failed: list[str] = []
        self.good = 0

    def ask(self) -> None:
        with http() as session:
            while not self.stop.is_set():
                try:
                    reply = session.post(
                        f"{self.service.url}/api/v2/signingCert",
                        json=self.body,
                        headers=self.headers,
                        timeout=60,
                    )
                except requests.RequestException as error:
                    self.failed.append(repr(error))
                else:
                    if reply.status_code == 200:
                        self.good += 1
                    else:
                        self.failed.append(f"{reply.status_code} {reply.text}")

    @contextmanager
    def asking(self) -> Iterator[None]:
        threads = [threading.Thread(target=self.ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            wait_until(lambda: self.good > 10 or self.failed, 60, "requests are answered")
            yield
        finally:
            self.stop.set()
            for thread in threads:
                thread.join()


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
        service = production_service(tmp_path / "ca", issuers=listed(first), workers=2)
        file = service.directory / "issuers.yaml"
        with running(service):
            assert refusal(session, service, second.token(EMAIL)) == "token-issuer-unknown"
            signers = Signers(service, first)
            with signers.asking():
                file.write_text(listed(first, second))
                hang_up(service)
                assert refusal(session, service, second.token(EMAIL)) is None

                broken = listed(
                    first, more="  https://third.example.com:\n    client-id: sigstore\n    type: odd\n"
                )
                file.write_text(broken)
                hang_up(service)
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
            hang_up(service)
            assert refusal(session, service, second.token(EMAIL)) == "token-issuer-unknown"
            assert refusal(session, service, first.token(EMAIL)) is None


def test_the_development_provider_survives_a_hang_up(tmp_path: Path, session: requests.Session) -> None:
    with running(dev_service(tmp_path / "ca", workers=1)) as service:
        token = TokenDesk(service).token(EMAIL)
        for file in ("oidc-issuers: {}\n", "oidc-issuers: ["):
            (service.directory / "issuers.yaml").write_text(file)
            hang_up(service)
            issue(session, service.url, token, EMAIL)
            issue(session, service.url, TokenDesk(service).token(EMAIL), EMAIL)
