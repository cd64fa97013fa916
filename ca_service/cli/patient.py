"""Gunicorn's threaded worker, that gives a connection a thread when its request is there, and not before.

Gunicorn's own gives each new connection a thread, which waits five seconds for its first octet, and then for
as long as octets drip in: sixteen silent clients hold a worker. Here the thread that watches all connections
gathers what comes, and clients that are slow, silent or half gone cost memory alone.
"""

import contextlib
import errno
import math
import selectors
import socket
import time
from concurrent.futures import Future
from functools import partial
from typing import Any

from gunicorn.workers.gthread import STOP_KEEPALIVE_LINGER, TConn

from ca_service.cli.connections import Connection
from ca_service.cli.draining import DrainingWorker

READING_SECONDS = 20.0
"""How long a thread may be held by a request that cannot be gathered: in TLS, or very long."""

_LOOK_SECONDS = 1.0
_COURTESY_SECONDS = 0.0005
_CHUNK = 65_536
_NO_MORE_FILES = (errno.EMFILE, errno.ENFILE)
_NOBODY_THERE = (errno.EAGAIN, errno.ECONNABORTED, errno.EWOULDBLOCK)


class PatientWorker(DrainingWorker):
    """A worker process."""

    def init_process(self) -> None:
        """Prepare what must not be shared between processes, then run."""
        self._served: dict[TConn, float] = {}
        # Each with the octets that came after its last answer.
        self._closing: dict[TConn, int] = {}
        self._looked = 0.0
        super().init_process()

    # -- the thread that watches all connections ----------------------------------------------------

    def accept(self, listener: Any) -> None:
        """Take a connection, and wait for its request without a thread."""
        if self.nr_conns >= self.worker_connections - 1:
            self._make_room()
        if self._served or self.pending_conns:
            # A worker with nothing to do comes first: else one takes all that come at the same time.
            time.sleep(_COURTESY_SECONDS)
        try:
            sock, client = listener.accept()
        except OSError as error:
            if error.errno in _NO_MORE_FILES:
                self._make_room()
            elif error.errno not in _NOBODY_THERE:
                raise
            return
        connection = Connection(self.cfg, sock, client, listener.getsockname())
        self.nr_conns += 1
        connection.timeout = time.monotonic() + self.cfg.keepalive
        self.pending_conns.append(connection)
        self.poller.register(sock, selectors.EVENT_READ, partial(self.on_pending_socket_readable, connection))

    def on_pending_socket_readable(self, conn: Any, client: socket.socket) -> None:
        """Gather what came on a new connection; all of its first request must be there before its time."""
        if self._is_complete(conn, self.pending_conns):
            super().on_pending_socket_readable(conn, client)

    def on_client_socket_readable(self, conn: Any, client: socket.socket) -> None:
        """Gather what came on a connection that was kept; the same holds for the next request."""
        if self._is_complete(conn, self.keepalived_conns):
            super().on_client_socket_readable(conn, client)

    def murder_pending(self) -> None:
        """Close connections that have been silent too long, and have threads wait no longer for others."""
        super().murder_pending()
        now = time.monotonic()
        while self._closing and (first := next(iter(self._closing))).timeout <= now:
            self._close(first)
        if now < self._looked + _LOOK_SECONDS:
            return
        self._looked = now
        for conn, began in list(self._served.items()):
            if now > began + READING_SECONDS:
                # Its reads end now; what it is answered is still sent. Not the method of a TLS socket, which
                # would go on in plain text.
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(conn.sock, socket.SHUT_RD)

    def finish_request(self, conn: Any, fs: "Future[object]") -> None:
        """Wait for the next request on a connection, or for its client to close it."""
        if fs.cancelled() or fs.exception() is not None or fs.result():
            super().finish_request(conn, fs)
            return
        # Gunicorn's own would wait here for the client, up to two seconds, and everybody with it. That the
        # client has read all is known when it closes (RFC 9112 §9.6).
        try:
            socket.socket.shutdown(conn.sock, socket.SHUT_WR)
            conn.sock.setblocking(False)
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._drain, conn))
        except (OSError, ValueError):
            self.nr_conns -= 1
            conn.close()
            return
        conn.timeout = time.monotonic() + STOP_KEEPALIVE_LINGER
        self._closing[conn] = 0

    def _drain(self, conn: TConn, _client: socket.socket) -> None:
        if conn not in self._closing:
            return  # closed to make room, in the same round
        try:
            octets = socket.socket.recv(conn.sock, _CHUNK, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            octets = b""
        self._closing[conn] += len(octets)
        if not octets or self._closing[conn] > _CHUNK:
            self._close(conn)

    def _cap_keepalive(self, deadline: float) -> None:
        super()._cap_keepalive(deadline)
        for conn in self.pending_conns:
            conn.timeout = min(conn.timeout, deadline)

    def _is_complete(self, conn: Any, among: Any) -> bool:
        if not isinstance(conn, Connection):
            return True
        if conn.ended:
            return False  # closed to make room, in the same round
        if self.cfg.is_ssl:
            return True
        complete = conn.is_complete()
        if bool(conn.ended):
            self._drop(conn, among)
        return complete

    def _make_room(self) -> None:
        """Close a connection that has been idle for long, if there is one: others must be let in."""
        for conn in self._closing:
            self._close(conn)
            return
        # A client asks again on another connection when one that was kept is closed; on a new one it has just
        # begun to ask.
        long_silent = time.monotonic() + self.cfg.keepalive - _LOOK_SECONDS
        for idle, until in ((self.keepalived_conns, math.inf), (self.pending_conns, long_silent)):
            if idle and idle[0].timeout < until:
                conn = idle[0]
                conn.ended = True
                self._drop(conn, idle)
                return

    def _drop(self, conn: Any, among: Any) -> None:
        among.remove(conn)
        self._let_go(conn)

    def _close(self, conn: TConn) -> None:
        del self._closing[conn]
        self._let_go(conn)

    def _let_go(self, conn: Any) -> None:
        self.poller.unregister(conn.sock)
        self.nr_conns -= 1
        conn.close()

    # -- the threads that serve --------------------------------------------------------------------

    def handle(self, conn: Any) -> Any:
        """Serve the request of a connection."""
        self._served[conn] = time.monotonic()
        try:
            if isinstance(conn, Connection) and conn.gathered:
                conn.hand_over()
            return super().handle(conn)
        finally:
            del self._served[conn]
