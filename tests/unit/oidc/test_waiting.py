"""How many callers a silent issuer can hold, so that threads are left for the others."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ClassVar

import pytest

from ca_service.errors import IssuerUnavailable
from ca_service.identity.claims import VerifiedToken
from ca_service.oidc import key_cache
from ca_service.oidc.key_cache import FAILED_MS, MAX_WAITING
from ca_service.oidc.verifier import TokenVerifier
from tests.unit.oidc.issuer import Provider, directory


class Silent(Provider):
    """An issuer that answers when the gate is opened, and counts who waits."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.asked = threading.Event()
        self.before_answer = self._wait
        known = directory()
        self.verifier = TokenVerifier(lambda: known, self.fetch, self.clock)

    def _wait(self) -> None:
        self.asked.set()
        assert self.gate.wait(60)

    def crowd(self, pool: ThreadPoolExecutor, size: int) -> list[Future[VerifiedToken]]:
        token = self.token()
        callers = [pool.submit(self.verifier.verify, token) for _ in range(size)]
        assert self.asked.wait(60)
        return callers


def until(reached: Callable[[], bool]) -> None:
    ends = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < ends, "it did not happen"
        time.sleep(0.001)


def test_a_crowd_at_a_healthy_issuers_first_fetch_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_cache, "PATIENCE_MS", 60_000)
    issuer = Silent()
    with ThreadPoolExecutor(3 * MAX_WAITING) as pool:
        callers = issuer.crowd(pool, 3 * MAX_WAITING)
        issuer.gate.set()
        assert {caller.result(60).issuer_url for caller in callers} == {issuer.url}


class CountedSeats(threading.BoundedSemaphore):
    """Notes how long each caller would have waited for a seat."""

    patience: ClassVar[list[float | None]] = []

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        self.patience.append(timeout)
        return super().acquire(blocking, timeout)


def test_a_silent_issuer_holds_some_callers_and_tells_the_others_to_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threading, "BoundedSemaphore", CountedSeats)
    issuer = Silent()
    with ThreadPoolExecutor(2 * MAX_WAITING) as pool:
        callers = issuer.crowd(pool, 2 * MAX_WAITING)
        until(lambda: sum(caller.done() for caller in callers) == MAX_WAITING)
        issuer.now += 1
        with pytest.raises(IssuerUnavailable, match="too many wait") as raised:
            issuer.verifier.verify(issuer.token())
        assert CountedSeats.patience[-1] == 0, "a fetch this old is waited for by those who are there only"
        assert raised.value.retry_after == 2
        issuer.gate.set()
        refused = [caller for caller in callers if caller.exception(60) is not None]
        assert len(refused) == MAX_WAITING
    assert issuer.verifier.verify(issuer.token()).issuer_url == issuer.url


def test_one_caller_sees_whether_an_issuer_that_failed_is_back() -> None:
    issuer = Silent()
    issuer.gate.set()
    issuer.down = True
    with pytest.raises(IssuerUnavailable) as before:
        issuer.verifier.verify(issuer.token())
    issuer.now += FAILED_MS // 1000
    issuer.gate.clear()
    issuer.asked.clear()
    issuer.down = False
    with ThreadPoolExecutor(1) as pool:
        [first] = issuer.crowd(pool, 1)
        with pytest.raises(IssuerUnavailable) as told:
            issuer.verifier.verify(issuer.token())
        assert told.value.message == before.value.message, "what is known already, without a wait"
        issuer.gate.set()
        assert first.result(60).issuer_url == issuer.url


def test_who_was_late_for_a_fetch_takes_its_result_and_makes_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Under load a caller may find a key unknown, and come to fetch only when another has done so."""
    issuer = Silent()
    issuer.gate.set()
    issuer.verifier.verify(issuer.token())
    issuer.rotate("second")
    token = issuer.token()
    cache = issuer.verifier._cache
    begin = cache._begin
    late: list[int] = []

    def begin_late(entry: key_cache._Entry, now: int, seen: int) -> threading.Event | None:
        if not late:
            late.append(seen)
            entry.searched_at = 0  # as if both had looked at it before either wrote it
            assert issuer.verifier.verify(token).issuer_url, "another caller, who is quicker"
        return begin(entry, now, seen)

    monkeypatch.setattr(cache, "_begin", begin_late)
    assert issuer.verifier.verify(token).issuer_url
    assert late == [1]
    assert len(issuer.fetched) == 4
