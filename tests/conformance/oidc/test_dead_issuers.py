"""A dead issuer holds a few of its own callers for two seconds, and nobody else."""

import threading
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
TURNS = ("one", "two")
"""Each with an issuer that is not known yet."""


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


def service_for(folder: Path, dead: MockServer, living: MockServer) -> RunningService:
    member = {"client-id": "sigstore", "type": "email"}
    named = [living.issuer("people"), *(dead.issuer(turn) for turn in TURNS)]
    issuers = {
        "oidc-issuers": {issuer.url: member for issuer in named},
        "meta-issuers": {f"{dead.url}/{turn}-*": member for turn in TURNS},
    }
    return production_service(folder / "ca", issuers=yaml.safe_dump(issuers), workers=2)


class Bystanders:
    """Callers of the living issuer, one certificate after the other, while a with block runs."""

    def __init__(self, service: RunningService, token: str) -> None:
        self._service = service
        self._token = token
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(2)]
        self.issued = 0
        self.refused: list[str] = []

    def _run(self) -> None:
        body = key_body(KEY, EMAIL)
        with http() as session:
            while not self._stop.wait(0.01):
                reply = session.post(
                    f"{self._service.url}/api/v2/signingCert",
                    json=body,
                    headers=bearer(self._token),
                    timeout=60,
                )
                if reply.status_code == 200:
                    self.issued += 1
                else:
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

    def went_on(self) -> bool:
        """Whether each who asked got a certificate."""
        return self.issued > 0 and self.refused == []


def test_callers_of_a_dead_issuer_hear_so_while_others_go_on(
    dead: MockServer, living: MockServer, tmp_path: Path
) -> None:
    service = service_for(tmp_path, dead, living)
    token = living.issuer("people").token(**PERSON)
    lost = {turn: dead.issuer(turn).token(**PERSON) for turn in TURNS}

    def dead_caller(turn: str) -> str:
        reply = ask(service, lost[turn])
        found = facts(reply, 503, "issuer-unavailable")
        assert found["issuer"] == f"{dead.url}/{turn}"
        assert 0 < int(reply.headers["Retry-After"]) <= 10
        return found["cause"]

    with running(service), ThreadPoolExecutor(CALLERS) as pool:
        dead.freeze()
        told: list[str] = []
        for turn in TURNS:
            with Bystanders(service, token) as bystanders:
                told += pool.map(dead_caller, [turn] * CALLERS)
            assert bystanders.went_on(), bystanders.refused
        # Were they all held until the time-out, nobody would hear that too many wait.
        assert set(told) == {"timeout", "busy"}
        dead.thaw()
        back = lost[TURNS[0]]
        wait_until(lambda: ask(service, back).status_code == 200, 60, "the issuer is back", pause=0.5)


def test_inventing_issuers_of_a_wildcard_exhausts_nothing(
    dead: MockServer, living: MockServer, tmp_path: Path
) -> None:
    service = service_for(tmp_path, dead, living)
    token = living.issuer("people").token(**PERSON)
    forger = Provider("https://nobody.example")

    def ask_for(forged: str) -> str:
        return facts(ask(service, forged), 503, "issuer-unavailable")["cause"]

    with running(service), ThreadPoolExecutor(CALLERS) as pool:
        dead.freeze()
        memory = []
        for turn in TURNS:
            invented = [forger.token(iss=f"{dead.url}/{turn}-{number}") for number in range(150)]
            with Bystanders(service, token) as bystanders:
                assert set(pool.map(ask_for, invented)) <= {"timeout", "busy", "budget"}
            assert bystanders.went_on(), bystanders.refused
            memory.append(sum(worker.memory_info().rss for worker in service.workers()))
        # The first turn brings the workers to their working size.
        assert memory[-1] - memory[0] < 30_000_000, memory
        dead.thaw()
        asked = {path.split("/")[1] for path in dead.asked()}
    for turn in TURNS:
        # A wildcard may cause 30 first fetches in a minute, in each of the two workers.
        assert 0 < len([name for name in asked if name.startswith(f"{turn}-")]) <= 60
