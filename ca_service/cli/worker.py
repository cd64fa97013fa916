"""Gunicorn's worker: one thread serves what can be answered at once, others what has to wait.

Python runs one thread of a process at a time. Threads that compete for that pay at every call into the
kernel, and find their caches cold. So one thread reads all connections, answers OCSP from its cache, and
prepares certificates; what it has prepared when nothing else is ready goes to the log together, and when the
log has it, the same thread signs and replies. Whatever would wait meanwhile (authority/waiting.py) is begun
anew by one of the other threads. No thread waits for a client, slow ones hold memory alone.
"""

import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from gunicorn.http.body import LengthReader
from gunicorn.workers.base import Worker
from gunicorn.workers.gthread import STOP_KEEPALIVE_LINGER

from ca_service.authority.issuance import ANSWER_SECONDS
from ca_service.authority.waiting import Elsewhere, WouldWait, at_once
from ca_service.cli.connection_sharing import ConnectionSharer
from ca_service.cli.connections import Connection
from ca_service.cli.draining import accept_the_last
from ca_service.cli.exchange import Exchange
from ca_service.cli.faults import answer_fault
from ca_service.cli.gathering import HOLD_SECONDS, TOGETHER, Gathering
from ca_service.web.shortcuts import DONE, Pending

_ALIVE_SECONDS = 1.0
_LOOK_SECONDS = 0.1
_EVENTS = 128
_FEW_WORKERS = 8

_LOG = logging.getLogger("gunicorn.error")


class LoopWorker(ConnectionSharer):
    """A worker process."""

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
        self.gathering = Gathering()
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
        self._begin_sharing()
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
        self._end_sharing()

    def _round(self) -> None:
        """Look what is there, without waiting when something is to do, and do some of it."""
        waits = 0.0
        if not (self.arrived or self.unflushed or self.stored or self.found):
            waits = _LOOK_SECONDS if self.connections else _ALIVE_SECONDS
            if self.gathering.held:
                waits = min(self.gathering.patience(underway=bool(self.underway)), waits)
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
        gathering, taken = self.gathering, min(len(self.arrived), TOGETHER)
        for _ in range(taken):
            connection = self.arrived.popleft()
            if gathering.concerns(connection) and (
                self._is_handed_over(connection)
                or gathering.hold(connection, underway=bool(self.underway or self.parked))
            ):
                continue
            self._serve(connection)
        if gathering.are_enough(underway=bool(self.underway)):
            while gathering.held:
                self._serve(gathering.held.popleft())
        if self.preparing:
            if not self.unflushed:
                self.flush_by = time.monotonic() + HOLD_SECONDS
            self._prepare()
        if self.unflushed and (
            not self.arrived or self.prepared >= TOGETHER or time.monotonic() >= self.flush_by
        ):
            flushes, self.unflushed, self.prepared = self.unflushed, {}, 0
            gathering.sent()
            for flush in flushes:
                flush()
        # Last, and one by one while little is asked, so that of the workers one with nothing to do is first;
        # as many as were served when much is, or whoever is new would wait longest.
        for listener in knocked:
            for _ in range(taken + 1):
                if not self._accept(listener):
                    break

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
                    self.gathering.learn(exchange.connection.call)
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
        together = len(finishing)
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
        self.gathering.answered(together)

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
            answer_fault(connection, error)
        finally:
            self.tell(self.returned, (connection, False))
