"""All connections of a worker, watched by one thread that never waits for any of them."""

import contextlib
import errno
import logging
import queue
import select
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from gunicorn.workers.base import Worker
from gunicorn.workers.gthread import STOP_KEEPALIVE_LINGER, ThreadWorker

from ca_service.cli.connections import Connection

SILENCE_SECONDS = 10
"""A client that takes nothing of its answer, or whose request a thread waits for, is let go after so long."""

READING_SECONDS = 20.0
"""How long a thread may be held by a request that cannot be gathered: in TLS, or very long."""

_OCTETS_A_SECOND = 65_536
"""Who takes a long answer slower than this is let go after SILENCE_SECONDS."""

_JUST_NOW_SECONDS = 1.0
_NO_MORE_FILES = (errno.EMFILE, errno.ENFILE)
_READ = select.EPOLLIN | select.EPOLLRDHUP

_LOG = logging.getLogger("gunicorn.error")


class ConnectionKeeper(ThreadWorker):  # type: ignore[misc]  # gunicorn ships no types
    """The part of a worker process that has connections; requests that have come are in `arrived`."""

    def init_process(self) -> None:
        """Prepare what must not be shared between processes, then run."""
        self.sockets: list[Any]
        self.epoll = select.epoll()
        self.listening = {listener.fileno(): listener for listener in self.sockets}
        self.connections: dict[int, Connection] = {}
        # Connections between two requests, or in the middle of one, the first to be let go first.
        self.keepalived_conns: dict[Connection, None] = {}
        self.arrived: deque[Connection] = deque()
        # Those that a thread reads from, since when.
        self.threaded: dict[Connection, float] = {}
        # What threads that may wait are to do.
        self.jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        Worker.init_process(self)

    def _accept(self, listener: Any) -> bool:
        """Take one connection; whether there was one."""
        if len(self.connections) >= self.worker_connections:
            self._let_go(time.monotonic(), room=True)
        try:
            server = listener.getsockname()
            sock, client = listener.accept()
        except OSError as error:
            if error.errno in _NO_MORE_FILES:
                self._let_go(time.monotonic(), room=True)
            return False  # otherwise another worker was first, or the client has gone
        self._begin(sock, client, server)
        return True

    def _begin(self, sock: socket.socket, client: object, server: object) -> None:
        connection = Connection(self.cfg, sock, client, server)
        self.connections[connection.number] = connection
        self._expect_more(connection, self._patience())

    def _came(self, connection: Connection) -> None:
        """Something happened on a connection: octets, room for octets, or its end."""
        if connection.busy:
            # It has sent more than its request, or has gone: not to be told of it again and again.
            self._watch(connection, 0)
        elif connection.unsent:
            self._send_on(connection)
        elif connection.is_complete():
            self._take(connection)
        elif connection.ended:
            self._close(connection)

    def _take(self, connection: Connection) -> None:
        connection.busy = True
        connection.since = time.monotonic()
        self.keepalived_conns.pop(connection, None)
        self.arrived.append(connection)

    def _settle(self, connection: Connection, goes_on: bool) -> None:
        """After a reply: send the rest of it, wait for the next request, or hang up."""
        self.threaded.pop(connection, None)
        if connection.unsent:
            connection.busy, connection.goes_on = False, goes_on
            connection.since, connection.taken = time.monotonic(), 0
            self._be_patient(connection, SILENCE_SECONDS)
            self._watch(connection, select.EPOLLOUT)
        elif not goes_on:
            self._hang_up(connection)
        elif connection.has_more():
            connection.whole = False  # how much of it is here was not looked at
            connection.since = time.monotonic()
            self.arrived.append(connection)
        else:
            self._expect_more(connection, self._patience())

    def _send_on(self, connection: Connection) -> None:
        try:
            connection.send_on()
        except OSError:
            self._close(connection)
            return
        if connection.unsent:
            patience = SILENCE_SECONDS + connection.taken / _OCTETS_A_SECOND
            self._be_patient(connection, connection.since + patience - time.monotonic())
        else:
            connection.busy = True
            self.keepalived_conns.pop(connection, None)
            self._settle(connection, connection.goes_on)

    def _hang_up(self, connection: Connection) -> None:
        """Say that no more comes, and close once the client has read all and closed (RFC 9112 §9.6)."""
        if self.cfg.is_ssl:
            del self.connections[connection.number]
            self._watch(connection, 0)
            self.jobs.put(lambda: connection.close(graceful=True))
            return
        connection.closing, connection.taken = True, 0
        try:
            connection.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(connection)
            return
        connection.is_complete()
        if connection.ended:
            self._close(connection)
        else:
            self._expect_more(connection, STOP_KEEPALIVE_LINGER)

    def _close(self, connection: Connection) -> None:
        if self.connections.pop(connection.number, None) is None:
            return
        self.keepalived_conns.pop(connection, None)
        self._watch(connection, 0)
        connection.close()

    def _patience(self) -> float:
        """Seconds until the next request of a connection must be there."""
        return float(self.cfg.keepalive if self.alive else STOP_KEEPALIVE_LINGER)

    def _expect_more(self, connection: Connection, seconds: float) -> None:
        self._be_patient(connection, seconds)
        connection.busy = False
        self._watch(connection, _READ)

    def _be_patient(self, connection: Connection, seconds: float) -> None:
        connection.timeout = time.monotonic() + seconds
        self.keepalived_conns.pop(connection, None)
        self.keepalived_conns[connection] = None

    def _watch(self, connection: Connection, events: int) -> None:
        if events == connection.watched:
            return
        if not events:
            self.epoll.unregister(connection.number)
        elif connection.watched:
            self.epoll.modify(connection.number, events)
        else:
            self.epoll.register(connection.number, events)
        connection.watched = events

    def _let_go(self, now: float, *, room: bool = False) -> None:
        """Close what is silent for too long; with `room` one that waits for a request, if there is one."""
        for connection, since in list(self.threaded.items()):
            if now > since + READING_SECONDS:
                # Its reads end now; what it is answered is still sent. Not the method of a TLS socket, which
                # would go on in plain text.
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(connection.sock, socket.SHUT_RD)
        over = [each for each in self.keepalived_conns if each.timeout <= now]
        if room and not over:
            over = self._idle_longest(now)
        for connection in over:
            if connection.gathered:
                _LOG.info("a client did not send the whole of its request in time")
            self._close(connection)

    def _idle_longest(self, now: float) -> list[Connection]:
        """Whom to close so that another is let in.

        A client asks again on another connection when one that was kept is closed; on a new one it has just
        begun to ask.
        """
        idle = list(self.keepalived_conns)
        ranks: tuple[Callable[[Connection], bool], ...] = (
            lambda each: each.closing,
            lambda each: each.initialized and not each.gathered and not each.unsent,
            lambda each: each.timeout < now + self.cfg.keepalive - _JUST_NOW_SECONDS,
        )
        return next(([each] for rank in ranks for each in idle if rank(each)), [])
