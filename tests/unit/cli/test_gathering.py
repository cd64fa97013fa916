"""Which requests for certificates are held, so that they go to the log together, and until when."""

import time
from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest

from ca_service.cli.gathering import Gathering
from ca_service.cli.worker import LoopWorker
from tests.support.processes import wait_until

LONG = 60.0


class Serving:
    """As much of a worker as decides on that: nothing is read, and serving is noted."""

    def __init__(self, *, expected: int, seconds: float, underway: bool = False) -> None:
        self.served: list[Any] = []
        self.waits: list[float] = []
        worker: Any = LoopWorker.__new__(LoopWorker)
        worker.arrived, worker.stored, worker.returned = deque(), deque(), deque()
        worker.found, worker.parked = deque(), {}
        worker.prepared, worker.flush_by = 0, 0.0
        worker.preparing, worker.unflushed, worker.listening = [], {}, {}
        worker.connections = {7: object()}
        worker.underway = {object(): object()} if underway else {}
        worker.gathering, worker.waker = Gathering(), -1
        worker.gathering.learn(b"POST /sign")
        worker.gathering.expected, worker.gathering.expect_until = expected, time.monotonic() + seconds
        worker.gathering.hold_until = time.monotonic() + LONG
        worker.epoll = SimpleNamespace(poll=self._poll)
        worker._serve = self.served.append
        self.worker, self.gathering = worker, worker.gathering

    def _poll(self, seconds: float, _most: int) -> list[tuple[int, int]]:
        self.waits.append(seconds)
        return []

    def come(self, *calls: bytes) -> list[Any]:
        """Requests that come at once; which they are."""
        came = [SimpleNamespace(gathered=call + b" HTTP/1.1\r\n\r\n", call=b"", signings=0) for call in calls]
        self.worker.arrived.extend(came)
        self.worker._round()
        return came


def test_after_three_were_answered_together_the_next_three_go_together() -> None:
    serving = Serving(expected=3, seconds=LONG)
    first = serving.come(b"POST /sign")
    assert serving.served == []
    second = serving.come(b"POST /sign")
    assert serving.served == []
    third = serving.come(b"POST /sign")
    assert serving.served == [*first, *second, *third]
    assert not serving.gathering.held


def test_who_comes_alone_waits_for_nobody() -> None:
    serving = Serving(expected=1, seconds=LONG)
    assert serving.come(b"POST /sign") == serving.served


def test_other_requests_are_never_held() -> None:
    serving = Serving(expected=8, seconds=LONG, underway=True)
    assert serving.come(b"GET /ocsp/a") == serving.served


def test_those_who_came_go_on_when_the_others_do_not_come() -> None:
    serving = Serving(expected=3, seconds=LONG)
    came = serving.come(b"POST /sign", b"POST /sign")
    serving.come()
    assert serving.served == []
    assert serving.waits[-1] <= 0.1, "it looks again when they have waited enough"
    serving.gathering.expect_until = time.monotonic()
    serving.come()
    assert serving.served == came


def test_nobody_overtakes_those_who_are_held() -> None:
    serving = Serving(expected=3, seconds=LONG)
    held = serving.come(b"POST /sign")
    serving.gathering.expected = 2
    last = serving.come(b"POST /sign")
    assert serving.served == [*held, *last]


@pytest.mark.parametrize(("seconds", "served"), [(LONG, 0), (-1.0, 1)])
def test_while_others_are_with_the_log_who_comes_is_held_for_a_while(seconds: float, served: int) -> None:
    serving = Serving(expected=0, seconds=-1.0, underway=True)
    serving.gathering.hold_until = time.monotonic() + seconds
    serving.come(b"POST /sign")
    assert len(serving.served) == served


def test_what_is_prepared_is_stored_though_others_come_without_end() -> None:
    serving = Serving(expected=0, seconds=0.0)
    flushed: list[int] = []
    serving.worker.preparing = [object()]

    def prepare() -> None:
        serving.worker.preparing = []
        serving.worker.unflushed = {lambda: flushed.append(1): None}

    serving.worker._prepare = prepare
    serving.come(*[b"GET /ocsp/a"] * 100)
    assert serving.worker.arrived, "more came than were served"
    wait_until(lambda: serving.come(*[b"GET /ocsp/a"] * 100) and flushed, 60, "stored meanwhile")
    assert serving.worker.arrived
    assert flushed == [1]
