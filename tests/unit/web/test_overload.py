"""What is refused while too much is asked, what never is, and that all is served again afterwards."""

import struct
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import request
from werkzeug.test import create_environ

from ca_service.web.application import base_app
from ca_service.web.overload import Overload, waited_seconds

PATIENCE = 0.2
PLACES = 3
DEADLINE = 60.0


class Counts:
    def __init__(self) -> None:
        self.counted: Counter[str] = Counter()

    def count(self, event: str, **labels: str) -> None:
        self.counted[f"{event}:{labels['reason']}"] += 1

    def duration(self, stage: str, seconds: float) -> None:
        raise AssertionError(stage)

    def size(self, what: str, number: float) -> None:
        raise AssertionError(what)

    def level(self, what: str, value: float, **labels: str) -> None:
        raise AssertionError(what)


class Busy:
    """An application whose calls last until they are let go."""

    def __init__(self) -> None:
        self.observer = Counts()
        self.waited = 0.0
        self.inside = threading.Semaphore(0)
        self.go_on = threading.Event()
        overload = Overload(
            places=PLACES,
            patience=PATIENCE,
            observer=self.observer,
            waited=lambda _: self.waited,
        )
        self.app = base_app(overload=overload)
        self.app.add_url_rule("/<path:name>", view_func=self._serve, methods=["GET", "POST"])

    def _serve(self, name: str) -> str:
        if request.method == "POST":
            self.inside.release()
            assert self.go_on.wait(DEADLINE)
        return name

    def get(self, path: str) -> int:
        return self.app.test_client().get(path).status_code

    def post(self) -> int:
        return self.app.test_client().post("/work").status_code

    def refusal(self) -> tuple[str, int]:
        """The reason and the Retry-After of the answer to one more request."""
        reply = self.app.test_client().get("/work")
        assert reply.status_code == 503
        assert reply.headers["X-Request-Id"]
        return reply.get_json()["details"][0]["reason"], int(reply.headers["Retry-After"])


@pytest.fixture
def busy() -> Busy:
    return Busy()


@pytest.fixture
def filled(busy: Busy) -> Iterator[Busy]:
    """All places are taken by requests that do not come to an end."""
    with ThreadPoolExecutor(PLACES) as pool:
        served = [pool.submit(busy.post) for _ in range(PLACES)]
        try:
            for _ in range(PLACES):
                assert busy.inside.acquire(timeout=DEADLINE)
            yield busy
        finally:
            busy.go_on.set()
        assert [each.result() for each in served] == [200] * PLACES


def test_a_request_that_waited_too_long_is_refused_with_a_time_to_come_back(busy: Busy) -> None:
    busy.waited = PATIENCE * 1.01
    refusals = [busy.refusal() for _ in range(6)]
    assert {reason for reason, _ in refusals} == {"overloaded"}
    assert sorted({after for _, after in refusals}) == [1, 2, 3], "spread, or all come back at once"
    assert busy.observer.counted == {"overloaded:waited": 6}


@pytest.mark.parametrize("path", ["/ocsp/MAA=", "/crl/k/2026-11-0a.crl", "/ca/k.crt", "/healthz", "/readyz"])
def test_status_and_health_are_answered_however_long_they_waited(filled: Busy, path: str) -> None:
    filled.waited = PATIENCE * 100
    assert filled.get(path) == 200


def test_after_a_refusal_less_waiting_is_enough_until_one_hardly_waited(busy: Busy) -> None:
    busy.waited = PATIENCE / 2
    assert busy.get("/work") == 200
    busy.waited = PATIENCE * 2
    assert busy.get("/work") == 503
    busy.waited = PATIENCE / 2
    assert busy.get("/work") == 503
    busy.waited = PATIENCE / 5
    assert busy.get("/work") == 200, "a fifth is less than a quarter"
    busy.waited = PATIENCE / 2
    assert busy.get("/work") == 503
    busy.waited = 0.0
    assert busy.get("/work") == 200
    busy.waited = PATIENCE / 2
    assert busy.get("/work") == 200


def test_stalled_requests_keep_status_no_thread_and_later_ones_no_time(filled: Busy) -> None:
    assert filled.refusal()[0] == "overloaded", "the first waits for a place, in vain"
    for _ in range(20):
        assert filled.get("/work") == 503
    assert filled.observer.counted == {"overloaded:full": 21}
    assert filled.get("/ocsp/MAA=") == 200
    filled.go_on.set()


def test_whoever_waits_for_a_place_gets_the_next(busy: Busy) -> None:
    with ThreadPoolExecutor(PLACES * 4) as pool:
        served = [pool.submit(busy.post) for _ in range(PLACES * 4)]
        for _ in range(PLACES):
            assert busy.inside.acquire(timeout=DEADLINE)
        assert not busy.inside.acquire(blocking=False), "no more than there are places"
        busy.go_on.set()
        answers = Counter(each.result() for each in served)
    # On a machine that stands still for the length of their patience some are refused; none is lost.
    assert set(answers) <= {200, 503}
    assert answers[200] >= PLACES
    assert busy.get("/work") == 200


def test_all_is_served_again_once_the_stall_is_over(filled: Busy) -> None:
    assert filled.get("/work") == 503
    filled.go_on.set()
    for _ in range(int(DEADLINE / PATIENCE)):
        if filled.get("/work") == 200:
            break
    else:
        pytest.fail("places were not given back")
    for _ in range(PLACES * 5):
        assert filled.post() == 200


def test_a_call_that_fails_gives_its_place_back() -> None:
    busy = Busy()

    def fail() -> str:
        raise RuntimeError("a fault of ours")

    busy.app.add_url_rule("/fail/now", view_func=fail)
    for _ in range(PLACES * 2):
        assert busy.get("/fail/now") == 500
    assert busy.get("/work") == 200


class Connection:
    def __init__(self, milliseconds: int | None) -> None:
        self.milliseconds = milliseconds

    def getsockopt(self, _level: int, _option: int, size: int) -> bytes:
        if self.milliseconds is None:
            raise OSError("not a TCP connection")
        return (bytes(8) + struct.pack("=12I", *[7] * 11, self.milliseconds))[:size]


def test_the_kernel_says_how_long_a_request_waited() -> None:
    environ = create_environ()
    assert waited_seconds(environ) == 0.0
    assert waited_seconds({**environ, "gunicorn.socket": Connection(2500)}) == 2.5
    assert waited_seconds({**environ, "gunicorn.socket": Connection(None)}) == 0.0
