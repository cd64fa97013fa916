"""The load scenario itself, for some seconds at a rate that any machine holds: it works, and it can tell."""

import copy
import socket
import threading
from array import array
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.load.connection import Connection, Reply
from tests.load.memory import Growth
from tests.load.phases import Phase, Stage
from tests.load.place import stage
from tests.load.report import flat, spoken, table, verdicts
from tests.load.tally import Tally, times

USERS = 50
PERIOD = 4.0
SECONDS = 8.0
KINDS = {"admin", "issue", "log", "ocsp-get", "all"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    # A machine that stands still itself is no overload.
    environ = {"CASVC_SERVER__PATIENCE_MS": "60000"}
    with stage(tmp_path_factory.mktemp("load"), workers=2, signers=20, issued=16, environ=environ) as started:
        yield started


@pytest.fixture(scope="module")
def phase(prepared: Stage) -> Phase:
    # Users enough for one of each kind, who ask seldom enough for any machine.
    for seconds in (SECONDS, 8 * SECONDS):
        ran = prepared.at_rate("steady", USERS / PERIOD, seconds, period=PERIOD)
        # On a busy machine not every user has begun by then.
        if set(ran.kinds) >= KINDS:
            break
    return ran


def test_every_kind_of_user_is_served_without_an_error(prepared: Stage, phase: Phase) -> None:
    assert set(phase.kinds) >= KINDS
    assert phase.users == USERS
    assert phase.errors == phase.refused == 0, phase.kinds
    assert phase.died == 0
    assert prepared.service.cli("fsck").returncode == 0
    judged = verdicts(phase, phase, phase, phase, fsck=None, short=True)
    assert all(each.holds for each in judged), spoken(judged)
    assert "| steady | issue |" in table([phase])


def test_what_did_not_hold_is_said(phase: Phase) -> None:
    judged = verdicts(phase, phase, phase, phase, fsck="the tree is another", short=True)
    assert [each.what for each in judged if not each.holds] == ["fsck: everything agrees"]
    lost = copy.deepcopy(phase)
    lost.all["statuses"]["TimeoutError"] = 1
    judged = verdicts(lost, phase, phase, phase, fsck=None, short=True)
    assert [each.what for each in judged if not each.holds] == ["steady load: no error and no refusal"]
    (failed,) = (
        each for each in verdicts(phase, phase, lost, phase, fsck=None, short=True) if not each.holds
    )
    assert failed.what == "overload: each request is served, or refused with a time to come back"
    # A worker that died in any phase died, also in the seconds in which the service comes to rest.
    for place in range(4):
        phases = [replace(phase, died=int(place == number)) for number in range(4)]
        judged = verdicts(*phases, fsck=None, short=True)
        assert [each.what for each in judged if not each.holds] == ["no worker died"]


def test_a_refusal_says_when_to_ask_again_and_anything_else_is_an_error(tmp_path: Path) -> None:
    tally = Tally()
    assert tally.answered("issue", Reply(200, False, 10, 0.1)) is None
    assert tally.answered("issue", Reply(503, True, 10, 0.1)) is None
    assert tally.answered("issue", Reply(429, True, 10, 0.1)) is None
    assert tally.answered("issue", Reply(503, False, 10, 0.1)) == "503 without Retry-After"
    assert tally.answered("issue", Reply(500, True, 10, 0.1)) == "500"
    tally.failed("issue", TimeoutError())
    facts = tally.kinds["issue"].facts()
    assert facts["statuses"] == {
        "200": 1,
        "429": 1,
        "500": 1,
        "503": 1,
        "503 without Retry-After": 1,
        "TimeoutError": 1,
    }
    assert (facts["good"]["count"], facts["refused"]["count"]) == (1, 2)


def test_of_a_hundred_times_one_may_be_longer() -> None:
    measured = times(array("f", [float(number) for number in range(1, 101)]))
    assert measured == {"count": 100, "p50_ms": 50_000.0, "p99_ms": 99_000.0, "max_ms": 100_000.0}


def test_memory_that_grows_is_not_flat() -> None:
    still = Growth(worker=1, samples=9, first=100.0, last=101.0, highest=104.0)
    assert flat([still, still]).holds
    assert not flat([still, Growth(worker=2, samples=9, first=100.0, last=106.0, highest=106.0)]).holds
    assert not flat([]).holds


def test_a_connection_that_was_closed_meanwhile_is_opened_again_once() -> None:
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for _ in range(2):
                accepted, _address = server.accept()
                with accepted:
                    accepted.recv(1000)
                    accepted.sendall(reply)
            accepted, _address = server.accept()
            accepted.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        connection = Connection("127.0.0.1", server.getsockname()[1])
        assert connection.ask(b"GET / HTTP/1.1\r\n\r\n").status == 200
        assert connection.ask(b"GET / HTTP/1.1\r\n\r\n").status == 200, "on a new connection"
        with pytest.raises(ConnectionResetError):
            connection.ask(b"GET / HTTP/1.1\r\n\r\n")
        thread.join(60)
