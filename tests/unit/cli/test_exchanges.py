"""One request and its reply in a worker: what is kept of it, and what is looked at only once."""

import gc
from collections import deque
from collections.abc import Generator, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http.errors import InvalidHeaderName
from gunicorn.http.message import Request
from gunicorn.http.parser import RequestParser
from gunicorn.http.wsgi import InvalidResponseHeader

from ca_service.authority.ports import Observer
from ca_service.authority.waiting import Elsewhere
from ca_service.cli.connections import Connection, OneWrite
from ca_service.cli.exchange import Exchange
from ca_service.cli.gathering import Gathering
from ca_service.cli.worker import LoopWorker
from ca_service.web.application import base_app
from ca_service.web.overload import Overload
from ca_service.web.shortcuts import DONE, Pending, QuickReply, Shortcut, Unfinished
from tests.support.store import RecordingObserver

REQUEST = b"POST /sign HTTP/1.1\r\nHost: ca.example\r\nContent-Length: 2\r\n\r\n{}"


class Line:
    """A connection without a network: what is sent is kept."""

    def __init__(self) -> None:
        self.cfg, self.client, self.server = Config(), ("192.0.2.7", 4711), ("127.0.0.1", 80)
        self.sock: Any = None
        self.sent = b""

    def sendall(self, octets: bytes) -> None:
        self.sent += octets


def waiting(_environ: object) -> Unfinished[str]:
    def prepare() -> Generator[None, None, str]:
        yield
        return "prepared"

    def finish(prepared: str) -> Generator[None, None, QuickReply]:
        yield
        return QuickReply("text/plain", (), prepared.encode())

    return Unfinished(prepare(), finish, lambda: None, lambda _: None)


def answered(app: Any, worker: Any) -> bytes:
    """One request, led on as the worker does."""
    line = Line()
    request = next(RequestParser(line.cfg, iter([REQUEST]), line.client))
    exchange = Exchange(worker, line, request)  # type: ignore[arg-type]  # as much of a connection as it needs
    exchange.environ[DONE] = exchange.done
    pending = app(exchange.environ, exchange.response.start_response)
    assert isinstance(pending, Pending)
    while not pending.advance():
        pass
    exchange.environ[DONE]()
    assert worker.stored.pop() is exchange
    body = None
    while body is None:
        body = pending.finish()
    LoopWorker._reply(worker, exchange, body)
    return line.sent


@pytest.fixture
def kept() -> Iterator[list[object]]:
    """What the garbage collector found, since nothing else would have freed it."""
    gc.collect()
    before = gc.get_debug()
    gc.disable()
    try:
        yield gc.garbage
    finally:
        gc.set_debug(before)
        gc.garbage.clear()
        gc.enable()


def test_all_of_a_request_is_freed_when_it_is_over(kept: list[object]) -> None:
    observer: Observer = RecordingObserver()
    app = base_app(
        begin=lambda _: None,
        shortcuts=[Shortcut("POST", "/sign", "/sign", waiting)],
        overload=Overload(places=4, patience=10.0, observer=observer),
    )
    worker: Any = SimpleNamespace(cfg=Config(), stored=deque())
    worker.tell = lambda place, what: place.append(what)
    worker._keepalive_after = lambda *_: True
    for _ in range(3):
        assert answered(app, worker).endswith(b"\r\n\r\nprepared")
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    found = {type(each).__name__ for each in kept}
    assert not found & {"Exchange", "Pending", "OneWrite", "Request", "Unfinished"}, found


def test_headers_that_recur_are_checked_as_well_as_others() -> None:
    def reply(*headers: tuple[str, str]) -> list[tuple[str, str]]:
        line = Line()
        request = next(RequestParser(line.cfg, iter([REQUEST]), line.client))
        response = OneWrite(request, line, line.cfg)
        response.start_response("200 OK", list(headers))
        found: list[tuple[str, str]] = response.headers
        return found

    plain = ("Content-Type", "text/plain")
    for _ in range(2):
        assert reply(plain, ("X-Request-Id", "a1"), ("Connection", "close")) == [
            plain,
            ("X-Request-Id", "a1"),
        ]
        assert reply(("Content-Type", " text/plain ")) == [plain]
        for wrong in ("text/plain\r\nX-Other: 1", "text/plain\n"):
            with pytest.raises(InvalidResponseHeader):
                reply(("Content-Type", wrong))


@pytest.mark.parametrize(
    ("proxies", "scheme"),
    [("192.0.2.0/24", "https"), ("192.0.2.7", "https"), ("192.0.2.8", "http"), ("*", "https")],
)
def test_a_peer_is_believed_by_the_proxies_of_its_own_worker(proxies: str, scheme: str) -> None:
    told = b"GET / HTTP/1.1\r\nHost: ca.example\r\nX-Forwarded-Proto: https\r\n\r\n"
    cfg = Config()
    cfg.set("forwarded_allow_ips", proxies)
    for _ in range(2):
        connection = Connection.__new__(Connection)
        connection.cfg, connection.initialized = cfg, True
        connection.parser = RequestParser(cfg, iter([told]), ("192.0.2.7", 4711))
        connection.gathered = b""
        connection.hand_over()
        request = next(connection.parser)
        assert type(request) is not Request
        assert request.scheme == scheme


def test_a_header_that_only_a_proxy_may_send_is_refused_of_others() -> None:
    told = b"GET / HTTP/1.1\r\nHost: ca.example\r\nREMOTE_USER: root\r\n\r\n"
    connection = Connection.__new__(Connection)
    connection.cfg, connection.initialized, connection.gathered = Config(), True, b""
    connection.cfg.set("header_map", "refuse")
    connection.parser = RequestParser(connection.cfg, iter([told]), ("192.0.2.7", 4711))
    connection.hand_over()
    with pytest.raises(InvalidHeaderName):
        next(connection.parser)


class Held:
    """As much of an exchange as waits."""

    def __init__(self, since: float) -> None:
        self.connection = SimpleNamespace(since=since, call=b"POST /sign")


@pytest.mark.parametrize("already", [True, False])
def test_what_another_thread_finds_out_is_waited_for_without_standing_still(*, already: bool) -> None:
    order: list[str] = []
    asked = Elsewhere(lambda: order.append("flushed"))

    def prepare() -> Generator[Elsewhere | None, None, str]:
        order.append("asks")
        if already:
            asked.end()
        yield asked
        order.append("goes on")
        return "prepared"

    worker: Any = LoopWorker.__new__(LoopWorker)
    worker.parked, worker.unflushed, worker.underway = {}, {}, {}
    worker.found, worker.stored, worker.gathering, worker.prepared = deque(), deque(), Gathering(), 0
    worker.tell = lambda place, what: place.append(what)
    pending = Pending(
        Unfinished(prepare(), lambda _: iter(()), lambda: None, lambda _: None),  # type: ignore[arg-type,return-value]
        lambda _: [],
    )
    exchange = Held(since=1.0)
    worker.preparing = [(exchange, pending)]
    worker._prepare()
    assert order == ["asks"]
    assert worker.underway == {}
    if not already:
        worker._go_on()
        assert worker.preparing == [], "it is not over yet"
        (flush,) = worker.unflushed
        flush()
        asked.end()
    worker._go_on()
    worker._prepare()
    assert order == (["asks", "goes on"] if already else ["asks", "flushed", "goes on"])
    assert worker.underway == {exchange: pending}
    assert worker.parked == {}


def test_what_nobody_finds_out_in_time_goes_on_without_it() -> None:
    worker: Any = LoopWorker.__new__(LoopWorker)
    old, new = Held(since=1.0), Held(since=8.0)
    worker.underway, worker.parked, worker.found = {}, {old: "old", new: "new"}, deque()
    worker._give_up(10.0)
    worker.preparing = []
    worker._go_on()
    assert worker.preparing == [(old, "old")]
