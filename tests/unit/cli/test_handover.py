"""Connections handed to the worker that leads: which, when, whole, and who takes them in its place."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from types import SimpleNamespace
from typing import Any

import pytest

from ca_service.cli.connections import Connection
from ca_service.cli.handover import FEW, IN_A_ROW, MANY, Handover
from ca_service.cli.worker import LoopWorker

pytestmark = pytest.mark.enable_socket

REQUEST = b"POST /sign HTTP/1.1\r\nHost: ca.example\r\nContent-Length: 2\r\n\r\n{}"
SINCE = 12.25


@pytest.fixture
def handover() -> Iterator[Handover]:
    with closing(Handover()) as made:
        yield made


@pytest.fixture
def led(handover: Handover, monkeypatch: pytest.MonkeyPatch) -> Handover:
    """As another worker has it than the one that leads, which shares its page and its socket."""
    assert handover.look(time.monotonic(), 0)
    handover.leads = False
    monkeypatch.setattr(handover, "_is_first", lambda: False)
    handover.begin(2)
    return handover


@pytest.fixture
def line() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client's end of a connection, and the server's."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        client = stack.enter_context(socket.create_connection(listener.getsockname()))
        yield client, stack.enter_context(listener.accept()[0])


def given(handover: Handover, sock: socket.socket, *, request: bytes = REQUEST, signings: int = 2) -> bool:
    return handover.give(sock, request, SINCE, signings)


def as_leader(handover: Handover, clients: int) -> None:
    """Have the one that leads look how many it has."""
    handover.leads = True
    handover.look(time.monotonic(), clients)
    handover.leads = False


def taken(handover: Handover) -> int:
    """How many wait there; they are closed."""
    found = [*handover.to_leader.taken(), *handover.from_leader.taken()]
    for handed in found:
        handed.sock.close()
    return len(found)


def test_a_connection_goes_over_with_its_request(
    led: Handover, line: tuple[socket.socket, socket.socket]
) -> None:
    client, server = line
    assert given(led, server)
    server.close()
    (handed,) = led.to_leader.taken()
    assert (handed.request, handed.since) == (REQUEST, SINCE)
    handed.sock.sendall(b"answer")
    assert client.recv(100) == b"answer"
    handed.sock.close()
    assert client.recv(100) == b"", "nobody else has it open"
    assert list(led.to_leader.taken()) == []


def test_the_first_request_on_a_connection_stays(
    led: Handover, line: tuple[socket.socket, socket.socket]
) -> None:
    assert not given(led, line[1], signings=IN_A_ROW - 1)
    assert list(led.to_leader.taken()) == []


def test_who_leads_keeps_its_own(handover: Handover, line: tuple[socket.socket, socket.socket]) -> None:
    handover.look(time.monotonic(), 0)
    assert not given(handover, line[1])


def test_one_that_has_enough_is_given_no_more(
    led: Handover, line: tuple[socket.socket, socket.socket]
) -> None:
    assert [given(led, line[1]) for _ in range(FEW + 2)] == [True] * FEW + [False] * 2
    as_leader(led, FEW - 1)
    assert [given(led, line[1]) for _ in range(2)] == [True, False]
    assert taken(led) == FEW + 1


def test_one_that_has_fewer_is_given_half_of_many(
    led: Handover, line: tuple[socket.socket, socket.socket]
) -> None:
    as_leader(led, 3)
    led.look(time.monotonic(), 63)
    assert sum(given(led, line[1]) for _ in range(63)) == 30, "33 each"
    assert taken(led) == 30


@pytest.mark.parametrize(
    ("has", "other", "over"), [(31, 1, 15), (23, 1, 7), (47, 3, 22), (17, 16, 0), (16, 0, 0)]
)
def test_who_leads_hands_out_what_is_over(
    led: Handover, line: tuple[socket.socket, socket.socket], has: int, other: int, over: int
) -> None:
    now = time.monotonic()
    led.look(now, other)
    led.leads = True
    led.begin(1)
    led.look(now, has)
    assert sum(given(led, line[1]) for _ in range(has)) == over
    assert len(list(led.to_leader.taken())) == 0
    assert taken(led) == over
    led.look(now + 0.1, has)
    assert not given(led, line[1]), "the others have not counted yet"
    led.look(now + 1, has)
    assert given(led, line[1]) == bool(over)
    led.look(now + 4, has)
    assert not given(led, line[1]), "the other has not shown itself"
    taken(led)


def test_who_has_many_hands_nothing_over(led: Handover, line: tuple[socket.socket, socket.socket]) -> None:
    now = time.monotonic()
    led.look(now, MANY)
    assert not given(led, line[1])
    led.look(now, 1)
    led.leads = True
    led.begin(1)
    led.look(now, MANY)
    assert not given(led, line[1])


def test_nothing_is_given_while_nobody_leads(
    handover: Handover, line: tuple[socket.socket, socket.socket]
) -> None:
    assert handover.is_unattended(time.monotonic())
    assert not given(handover, line[1])
    handover.look(time.monotonic(), 0)
    handover.retire()
    assert not given(handover, line[1]), "nor to one that ends"
    assert handover.look(time.monotonic(), 0), "the next may lead at once"


def test_nothing_is_given_to_one_that_hangs(
    led: Handover, line: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    later = time.monotonic() + 3
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert led.is_unattended(later)
    assert not given(led, line[1])


def test_one_process_leads_until_it_ends(handover: Handover) -> None:
    hear, say = os.pipe()
    child = os.fork()
    if not child:
        os.write(say, b"1" if handover.look(1.0, 0) else b"0")
        time.sleep(600)
    try:
        assert os.read(hear, 1) == b"1"
        assert not handover.look(2.0, 0)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(hear)
        os.close(say)
    assert handover.look(3.0, 0)


def test_what_is_too_long_or_too_much_stays(led: Handover, line: tuple[socket.socket, socket.socket]) -> None:
    assert not given(led, line[1], request=b"x" * 65_536)
    while given(led, line[1], request=b"x" * 60_000):
        as_leader(led, 0)
    assert taken(led), "they wait until somebody takes them"


class Worker:
    """As much of a worker as hands connections over and takes them."""

    def __init__(self, handover: Handover) -> None:
        worker: Any = LoopWorker.__new__(LoopWorker)
        worker.handover, worker.cfg = handover, SimpleNamespace(is_ssl=False)
        worker.connections, worker.arrived, worker.alive = {}, [], True
        worker.epoll = SimpleNamespace(unregister=lambda _: None)
        self.worker = worker


def test_a_worker_goes_on_where_another_stopped(
    led: Handover, line: tuple[socket.socket, socket.socket]
) -> None:
    client, server = line
    giver, taker = Worker(led).worker, Worker(led).worker
    connection = Connection(giver.cfg, server, server.getpeername(), server.getsockname())
    connection.gathered, connection.whole, connection.signings = REQUEST, True, 2
    connection.since, connection.watched = SINCE, 1
    giver.connections[connection.number] = connection
    assert giver._is_handed_over(connection)
    assert giver.connections == {}
    taker._take_over(led.to_leader)
    (arrived,) = taker.arrived
    assert taker.connections == {arrived.number: arrived}
    assert (arrived.gathered, arrived.whole, arrived.busy, arrived.since) == (REQUEST, True, True, SINCE)
    assert arrived.client == client.getsockname()
    assert arrived.server == client.getpeername()
    arrived.sock.close()


def test_what_is_not_all_there_or_in_tls_stays(
    led: Handover, line: tuple[socket.socket, socket.socket]
) -> None:
    giver = Worker(led).worker
    connection = Connection(giver.cfg, line[1], "", "")
    connection.gathered, connection.signings = REQUEST, 2
    assert not giver._is_handed_over(connection)
    connection.whole = True
    giver.cfg.is_ssl = True
    assert not giver._is_handed_over(connection)


def test_a_worker_that_stops_keeps_what_it_has(
    led: Handover, line: tuple[socket.socket, socket.socket]
) -> None:
    giver = Worker(led).worker
    connection = Connection(giver.cfg, line[1], "", "")
    connection.gathered, connection.whole, connection.signings = REQUEST, True, 2
    giver.alive = False
    assert not giver._is_handed_over(connection)
