"""Gunicorn's worker: one thread serves what can be answered at once, others what has to wait.

Python runs one thread of a process at a time. Threads that compete for that pay at every call into the
kernel, and find their caches cold. So one thread reads all connections, answers OCSP from its cache, and
prepares certificates; what it has prepared when nothing else is ready goes to the log together, and when the
log has it, the same thread signs and replies. Whatever would wait meanwhile (authority/waiting.py) is begun
anew by one of the other threads. No thread waits for a client, slow ones hold memory alone.
"""

import errno
import logging
import os
import select
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from gunicorn.http.body import LengthReader
from gunicorn.http.errors import NoMoreData
from gunicorn.http.wsgi import create
from gunicorn.workers.base import Worker
from gunicorn.workers.gthread import STOP_KEEPALIVE_LINGER

from ca_service.authority.issuance import ANSWER_SECONDS
from ca_service.authority.waiting import Elsewhere, WouldWait, at_once
from ca_service.cli.connection_keeper import SILENCE_SECONDS, ConnectionKeeper
from ca_service.cli.connections import Connection, OneWrite
from ca_service.cli.draining import accept_the_last
from ca_service.cli.handover import IN_A_ROW, Channel, Handover
from ca_service.cli.refusals import fault, refusal
from ca_service.web.correlation import new_name
from ca_service.web.shortcuts import DONE, Pending

_ALIVE_SECONDS = 1.0
_HOLD_SECONDS = 0.02
"""How long requests for certificates are held at most while the log stores those before them."""
_GATHER_SECONDS = 0.006
"""How long the first of them wait, after certificates were answered together, for as many as these were."""
_LOOK_SECONDS = 0.1
_LATELY_SECONDS = 1.0
"""Who asked for a certificate so lately counts as a client of the worker that leads."""
_EVENTS = 128
_FEW_WORKERS = 8
_MOST_CALLS = 16
_TOGETHER = 32
"""How many requests are served, and certificates prepared, before the next look at who else is there."""
_GONE = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN})

_LOG = logging.getLogger("gunicorn.error")


class Exchange:
    """One request and its reply."""

    __slots__ = ("answer_by", "connection", "environ", "request", "response", "worker")

    def __init__(self, worker: "LoopWorker", connection: Connection, request: Any) -> None:
        """Take a request that was parsed."""
        self.worker = worker
        self.connection = connection
        self.request = request
        self.response, self.environ = create(
            request, connection, connection.client, connection.server, worker.cfg, response_class=OneWrite
        )
        self.environ["wsgi.multithread"] = True
        self.environ["gunicorn.socket"] = connection.sock
        self.answer_by = 0.0

    def done(self) -> None:
        """Say, from any thread, that the pending reply can be finished."""
        self.worker.tell(self.worker.stored, self)


class LoopWorker(ConnectionKeeper):
    """A worker process."""

    handover: Handover | None = None
    """What it shares with the others, if there are any."""

    def init_process(self) -> None:
        """Prepare what must not be shared between processes, then run."""
        # Each setting is otherwise looked up through two Python functions, some thirty for each request.
        self.cfg.__dict__.update({name: setting.get() for name, setting in self.cfg.settings.items()})
        self.preparing: list[tuple[Exchange, Pending]] = []
        self.underway: dict[Exchange, Pending] = {}
        self.parked: dict[Exchange, Pending] = {}
        self.unflushed: dict[Callable[[], None], None] = {}
        self.prepared = 0
        # Others may come without end, each round more than are served in it.
        self.flush_by = 0.0
        # What waits for the log is prepared together: such requests are held while others are with it.
        self.held: deque[Connection] = deque()
        self.hold_until = 0.0
        # After many answers at once about as many requests come: each batch costs, however many are in it.
        self.expected = 0
        self.expect_until = 0.0
        self.gathering: set[bytes] = set()
        # What other threads hand to this one, and how they wake it.
        self.stored: deque[Exchange] = deque()
        self.found: deque[Exchange] = deque()
        self.returned: deque[tuple[Connection, bool]] = deque()
        self.waker = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.woken = False
        super().init_process()

    def handle_exit(self, _signal: int, _frame: object) -> None:
        """Begin to stop."""
        self.alive = False
        self._wake()

    handle_quit = Worker.handle_quit

    # -- for the other threads ---------------------------------------------------------------------

    def tell(self, place: "deque[Any]", what: object) -> None:
        """Hand something to the thread that serves."""
        place.append(what)
        self._wake()

    def _wake(self) -> None:
        if not self.woken:
            self.woken = True
            os.eventfd_write(self.waker, 1)

    def _work(self) -> None:
        while True:
            self.jobs.get()()

    # -- the thread that serves --------------------------------------------------------------------

    def run(self) -> None:
        """Serve until told to stop; then finish what was begun."""
        for number, listener in self.listening.items():
            listener.setblocking(False)
            # The kernel would give one worker almost all connections; many would all be woken for one.
            alone = select.EPOLLEXCLUSIVE if self.cfg.workers > _FEW_WORKERS else 0
            self.epoll.register(number, select.EPOLLIN | alone)
        self.epoll.register(self.waker, select.EPOLLIN)
        if self.handover is not None:
            self.handover.begin(self.age)
            self.epoll.register(self.handover.listening, select.EPOLLIN)
        for number in range(self.cfg.threads):
            threading.Thread(target=self._work, name=f"server-{number}", daemon=True).start()
        next_sign = next_look = 0.0
        stop_at: float | None = None
        while True:
            now = time.monotonic()
            if now >= next_sign:
                next_sign = now + _ALIVE_SECONDS
                self.notify()
                if not self.is_parent_alive():
                    self.alive = False
            if now >= next_look:
                next_look = now + _LOOK_SECONDS
                self._give_up(now)
                self._let_go(now)
                if self.alive:
                    self._share_out(now)
            if not self.alive and stop_at is None:
                stop_at = now + self.cfg.graceful_timeout
                self._stop_accepting(now)
            if stop_at is not None and (not self.connections or now >= stop_at):
                return
            self._round()

    def _stop_accepting(self, now: float) -> None:
        for number in self.listening:
            self.epoll.unregister(number)
        for connection in self.keepalived_conns:
            connection.timeout = min(connection.timeout, now + STOP_KEEPALIVE_LINGER)
        last, self.sockets = self.sockets, []
        accept_the_last(last, self._begin)
        if self.handover is not None:
            self.epoll.unregister(self.handover.listening)
            self.handover.retire()
            self._take_over(self.handover.to_leader)
            self._take_over(self.handover.from_leader)

    def _share_out(self, now: float) -> None:
        """Lead, if no other worker does, and see that nothing that was handed over stays where it is."""
        handover = self.handover
        if handover is None:
            return
        since = now - _LATELY_SECONDS
        clients = sum(each.signings > 0 and each.since > since for each in self.connections.values())
        if handover.look(now, clients):
            self.epoll.unregister(handover.from_leader)
            self.epoll.register(handover.to_leader, select.EPOLLIN)
        if handover.leads:
            self._take_over(handover.from_leader)
        elif handover.is_unattended(now):
            self._take_over(handover.to_leader)

    def _take_over(self, channel: Channel) -> None:
        """Serve what other workers have handed over."""
        for handed in channel.taken():
            try:
                client, server = handed.sock.getpeername(), handed.sock.getsockname()
            except OSError:
                handed.sock.close()  # this client has gone
                continue
            connection = Connection(self.cfg, handed.sock, client, server)
            connection.gathered, connection.whole, connection.signings = handed.request, True, IN_A_ROW
            connection.busy, connection.since = True, handed.since
            self.connections[connection.number] = connection
            self.arrived.append(connection)

    def _is_handed_over(self, connection: Connection) -> bool:
        """Whether another worker goes on with this connection."""
        if (
            self.handover is None
            # One that stops has looked for the last time for what nobody took.
            or not self.alive
            or not connection.whole
            or self.cfg.is_ssl
            or not self.handover.give(
                connection.sock, connection.gathered, connection.since, connection.signings
            )
        ):
            return False
        del self.connections[connection.number]
        self._watch(connection, 0)
        connection.sock.close()
        return True

    def _round(self) -> None:
        """Look what is there, without waiting when something is to do, and do some of it."""
        waits = 0.0
        if not (self.arrived or self.unflushed or self.stored or self.found):
            waits = _LOOK_SECONDS if self.connections else _ALIVE_SECONDS
            if self.held:
                until = self.hold_until if self.underway else self.expect_until
                waits = min(max(until - time.monotonic(), 0.0), waits)
        knocked = []
        for number, _ in self.epoll.poll(waits, _EVENTS):
            if number == self.waker:
                os.eventfd_read(number)
                self.woken = False
            elif number in self.listening:
                knocked.append(self.listening[number])
            elif (connection := self.connections.get(number)) is not None:
                self._came(connection)
            elif self.handover is not None:
                self._take_over(self.handover.listening)
        while self.returned:
            self._settle(*self.returned.popleft())
        if self.stored:
            self._finish()
        self._go_on()
        taken = min(len(self.arrived), _TOGETHER)
        for _ in range(taken):
            connection = self.arrived.popleft()
            if not self._is_gathered(connection):
                self._serve(connection)
            elif not self._is_handed_over(connection):
                if self.underway or self.parked or self.held or self._more_are_expected():
                    self.held.append(connection)
                else:
                    self._serve(connection)
        if self.held and self._are_enough():
            while self.held:
                self._serve(self.held.popleft())
        if self.preparing:
            if not self.unflushed:
                self.flush_by = time.monotonic() + _HOLD_SECONDS
            self._prepare()
        if self.unflushed and (
            not self.arrived or self.prepared >= _TOGETHER or time.monotonic() >= self.flush_by
        ):
            flushes, self.unflushed, self.prepared = self.unflushed, {}, 0
            self.hold_until = time.monotonic() + _HOLD_SECONDS
            for flush in flushes:
                flush()
        # Last, and one by one while little is asked, so that of the workers one with nothing to do is first;
        # as many as were served when much is, or whoever is new would wait longest.
        for listener in knocked:
            for _ in range(taken + 1):
                if not self._accept(listener):
                    break

    def _more_are_expected(self) -> bool:
        return self.expected > 1 and time.monotonic() < self.expect_until

    def _are_enough(self) -> bool:
        """Whether those that were held are to go on to the log."""
        now = time.monotonic()
        if self.underway:
            return now >= self.hold_until
        return len(self.held) >= self.expected or now >= self.expect_until

    def _is_gathered(self, connection: Connection) -> bool:
        """Whether such calls wait for the log."""
        call = connection.gathered[: connection.gathered.find(b" HTTP/", 0, 256)]
        connection.call = call
        if call not in self.gathering:
            connection.signings = 0
            return False
        connection.signings += 1
        return True

    def _serve(self, connection: Connection) -> None:
        """Answer a request now, or begin to, or let a thread do it that may wait."""
        if not connection.whole:
            self.threaded[connection] = time.monotonic()
            self.jobs.put(partial(self._serve_waiting, connection, None))
            return
        exchange: Exchange | None = None
        try:
            connection.hand_over()
            request = next(connection.parser)
            exchange = self._exchange(connection, request)
            exchange.environ[DONE] = exchange.done
            with at_once():
                body = self.wsgi(exchange.environ, exchange.response.start_response)
            if isinstance(body, Pending):
                self.preparing.append((exchange, body))
                return
            goes_on = self._reply(exchange, body)
        except WouldWait:
            self.jobs.put(partial(self._serve_waiting, connection, exchange))
        except Exception as error:  # noqa: BLE001 - told apart, by a thread that may wait
            self.jobs.put(partial(self._fail, connection, error))
        else:
            self._settle(connection, goes_on)

    def _prepare(self) -> None:
        """Lead what waits for the log on to there: all of it step by step, for the sake of the caches."""
        preparing, self.preparing = self.preparing, []
        while preparing:
            going = []
            with at_once():
                for exchange, pending in preparing:
                    try:
                        if not pending.advance():
                            if pending.elsewhere is None:
                                going.append((exchange, pending))
                            else:
                                self._park(exchange, pending, pending.elsewhere)
                            continue
                    except WouldWait:
                        pending.over()
                        self.jobs.put(partial(self._serve_waiting, exchange.connection, exchange))
                        continue
                    exchange.answer_by = exchange.connection.since + ANSWER_SECONDS
                    self.underway[exchange] = pending
                    if pending.failed:
                        self.stored.append(exchange)
                        continue
                    self.unflushed[pending.flush] = None
                    self.prepared += 1
                    if len(self.gathering) < _MOST_CALLS:
                        self.gathering.add(exchange.connection.call)
            preparing = going

    def _park(self, exchange: Exchange, pending: Pending, elsewhere: Elsewhere) -> None:
        """Lead it on when another thread has found out what it waits for."""
        self.parked[exchange] = pending
        elsewhere.then = partial(self.tell, self.found, exchange)
        if elsewhere.is_over:  # before it was told whom to tell
            self.found.append(exchange)
        else:
            self.unflushed[elsewhere.flush] = None

    def _go_on(self) -> None:
        """Take those up again that were parked."""
        while self.found:
            exchange = self.found.popleft()
            pending = self.parked.pop(exchange, None)
            if pending is not None:  # else it was told twice
                self.preparing.append((exchange, pending))

    def _finish(self) -> None:
        """Send the replies to requests that the log has dealt with, or has not in time, as together."""
        finishing = []
        while self.stored:
            exchange = self.stored.popleft()
            pending = self.underway.pop(exchange, None)
            if pending is not None:  # else it was given up before
                finishing.append((exchange, pending))
        self.expected = min(len(finishing) + len(self.held), _TOGETHER)
        while finishing:
            going = []
            for exchange, pending in finishing:
                connection = exchange.connection
                try:
                    with at_once():
                        body = pending.finish()
                    if body is None:
                        going.append((exchange, pending))
                        continue
                    goes_on = self._reply(exchange, body)
                except WouldWait:
                    self.jobs.put(partial(self._finish_waiting, exchange, pending))
                except Exception as error:  # noqa: BLE001 - told apart, by a thread that may wait
                    self.jobs.put(partial(self._fail, connection, error))
                else:
                    self._settle(connection, goes_on)
            finishing = going
        self.expect_until = time.monotonic() + _GATHER_SECONDS

    def _give_up(self, now: float) -> None:
        """Answer those that have waited for the log too long."""
        for exchange in [each for each in self.underway if each.answer_by <= now]:
            self.underway[exchange].withdraw()
            self.stored.append(exchange)
        # Whatever they wait for, it is not found out in time, which the next step sees.
        self.found += [each for each in self.parked if each.connection.since + ANSWER_SECONDS <= now]

    # -- in any thread -----------------------------------------------------------------------------

    def _exchange(self, connection: Connection, request: Any) -> Exchange:
        exchange = Exchange(self, connection, request)
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("this worker has answered %d requests and is replaced", self.nr)
            self.alive = False
        if not self.alive or len(self.keepalived_conns) >= self.max_keepalived:
            exchange.response.force_close()
        return exchange

    def _reply(self, exchange: Exchange, body: Iterable[bytes]) -> bool:
        """Write a reply; whether the connection goes on after it."""
        response = exchange.response
        # It holds the exchange, which holds the environment: without this circle all of a request is freed,
        # and its memory used again while it is in the processor's caches, as soon as the request is over.
        exchange.environ.pop(DONE, None)
        try:
            try:
                for octets in body:
                    response.write(octets)
                response.close()
            finally:
                if hasattr(body, "close"):
                    body.close()
        except Exception as error:
            if not response.is_begun:
                raise
            # A second answer on the same connection would be taken for the rest of the first.
            if isinstance(error, OSError):
                _LOG.debug("a client went away before its answer")
            else:
                self.log.exception("a reply was cut off")
            return False
        if response.should_close():
            return False
        reader = exchange.request.body.reader
        if type(reader) is LengthReader and reader.length == 0:
            return True  # the body was read, so nothing has to be drained
        return bool(self._keepalive_after(exchange.connection, True))

    # -- the threads that may wait -----------------------------------------------------------------

    def _serve_waiting(self, connection: Connection, exchange: Exchange | None) -> None:
        def reply() -> bool:
            begun = exchange
            if begun is None:
                connection.hand_over()
                begun = self._exchange(connection, next(connection.parser))
            begun.environ.pop(DONE, None)
            return self._reply(begun, self.wsgi(begun.environ, begun.response.start_response))

        self._return(connection, reply)

    def _finish_waiting(self, exchange: Exchange, pending: Pending) -> None:
        def reply() -> bool:
            while (body := pending.finish()) is None:
                pass
            return self._reply(exchange, body)

        self._return(exchange.connection, reply)

    def _return(self, connection: Connection, reply: Callable[[], bool]) -> None:
        """Reply, and give the connection back to the thread that serves."""
        try:
            goes_on = reply()
        except Exception as error:  # noqa: BLE001 - told apart there
            self._fail(connection, error)
        else:
            self.tell(self.returned, (connection, goes_on))

    def _fail(self, connection: Connection, error: Exception) -> None:
        """Answer what is no request, or what failed unforeseen; then hang up."""
        try:
            if isinstance(error, NoMoreData | StopIteration):
                _LOG.debug("a client went away in the middle of its request")
            elif isinstance(error, ssl.SSLError):
                _LOG.debug("a connection could not be begun", exc_info=error)
            elif isinstance(error, BlockingIOError):
                _LOG.info("a client stopped in the middle of its request for %d seconds", SILENCE_SECONDS)
            elif isinstance(error, OSError):
                if error.errno not in _GONE:
                    _LOG.error("a request could not be read or answered", exc_info=error)
            else:
                self._refuse(connection, error)
        except OSError:
            _LOG.debug("a client went away before it was told what was wrong")
        finally:
            self.tell(self.returned, (connection, False))

    def _refuse(self, connection: Connection, error: Exception) -> None:
        name = new_name()
        told = refusal(error, name)
        if told is None:
            _LOG.error("request %s failed", name, exc_info=error)
        connection.sendall(told or fault(name))
