"""A dead issuer costs its own callers two seconds, and nobody else anything."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import pytest
import yaml

from tests.conformance.oidc.asking import EMAIL, KEY, PERSON, ask, facts, issued
from tests.support.openid import MockServer
from tests.support.processes import RunningService, http, production_service, running, wait_until
from tests.support.signing import bearer, key_body
from tests.unit.oidc.issuer import Provider

CALLERS = 48
"""More than two workers have threads."""


@pytest.fixture
def dead() -> Iterator[MockServer]:
    """An issuer that was there for its tokens, and then accepts connections and says nothing."""
    with MockServer() as server:
        yield server
        server.thaw()


@pytest.fixture
def living() -> Iterator[MockServer]:
    with MockServer() as server:
        yield server


def service_for(folder: Path, dead: MockServer, living: MockServer, *wildcards: str) -> RunningService:
    member = {"client-id": "sigstore", "type": "email"}
    issuers = {
        "oidc-issuers": {server.issuer("people").url: member for server in (dead, living)},
        "meta-issuers": dict.fromkeys(wildcards, member),
    }
    return production_service(folder / "ca", issuers=yaml.safe_dump(issuers), workers=2)


class Bystanders:
    """Callers of the living issuer, one certificate after the other, while a with block runs."""

    def __init__(self, service: RunningService, token: str) -> None:
        self._service = service
        self._token = token
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(2)]
        self.seconds: list[float] = []
        self.refused: list[str] = []

    def _run(self) -> None:
        body = key_body(KEY, EMAIL)
        with http() as session:
            while not self._stop.wait(0.01):
                began = time.monotonic()
                reply = session.post(
                    f"{self._service.url}/api/v2/signingCert",
                    json=body,
                    headers=bearer(self._token),
                    timeout=30,
                )
                self.seconds.append(time.monotonic() - began)
                if reply.status_code != 200:
                    self.refused.append(reply.text)

    def __enter__(self) -> Self:
        for _ in range(8):
            issued(self._service, self._token)  # until both workers know the living issuer
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def were_served(self) -> None:
        """Demand that each got a certificate, and none had to wait for an issuer."""
        assert self.refused == []
        assert len(self.seconds) > 20
        assert max(self.seconds) < 1.5


def test_callers_of_a_dead_issuer_hear_so_in_time_while_others_go_on(
    dead: MockServer, living: MockServer, tmp_path: Path
) -> None:
    service = service_for(tmp_path, dead, living)
    token = living.issuer("people").token(**PERSON)
    lost = dead.issuer("people").token(**PERSON)

    def dead_caller(_number: int) -> float:
        began = time.monotonic()
        reply = ask(service, lost)
        assert facts(reply, 503, "issuer-unavailable")["issuer"] == f"{dead.url}/people"
        assert 0 < int(reply.headers["Retry-After"]) <= 10
        return time.monotonic() - began

    with running(service), ThreadPoolExecutor(CALLERS) as pool, Bystanders(service, token) as bystanders:
        dead.freeze()
        assert max(pool.map(dead_caller, range(CALLERS))) < 3.5
        # From then on they hear so at once, and it is asked again only after ten seconds.
        assert max(dead_caller(number) for number in range(10)) < 1.5
        bystanders.were_served()
        dead.thaw()
        wait_until(lambda: ask(service, lost).status_code == 200, 25, "the issuer is back", pause=0.5)
    bystanders.were_served()


def test_inventing_issuers_of_a_wildcard_exhausts_nothing(
    dead: MockServer, living: MockServer, tmp_path: Path
) -> None:
    service = service_for(tmp_path, dead, living, f"{dead.url}/cluster-*")
    token = living.issuer("people").token(**PERSON)
    forger = Provider("https://nobody.example")
    invented = [forger.token(iss=f"{dead.url}/cluster-{number}") for number in range(400)]

    def ask_for(forged: str) -> str:
        return facts(ask(service, forged), 503, "issuer-unavailable")["cause"]

    with running(service), ThreadPoolExecutor(CALLERS) as pool, Bystanders(service, token) as bystanders:
        before = [worker.memory_info().rss for worker in service.workers()]
        dead.freeze()
        began = time.monotonic()
        causes = set(pool.map(ask_for, invented))
        assert time.monotonic() - began < 20
        assert causes <= {"timeout", "busy", "budget"}
        bystanders.were_served()
        after = [worker.memory_info().rss for worker in service.workers()]
        assert sum(after) - sum(before) < 60_000_000
        dead.thaw()
        # 30 in a minute for each of the two workers; what was cut off may still be in its backlog.
        asked = dead.asked()
    assert len({path.split("/")[1] for path in asked if path.startswith("/cluster-")}) <= 60
