"""Gunicorn's threaded worker, that gives a connection a thread when its request is there, and not before.

Gunicorn's own gives each new connection a thread, which waits five seconds for its first octet, and then for
as long as octets drip in: sixteen silent clients hold a worker. Here the thread that watches all connections
gathers what comes, and clients that are slow, silent or half gone cost memory alone.
"""

import contextlib
import errno
import re
import selectors
import socket
import time
from functools import partial
from typing import Any

from gunicorn.workers.gthread import TConn

from ca_service.cli.draining import DrainingWorker
from ca_service.cli.worker import Connection

READING_SECONDS = 20.0
"""How long a thread may be held by a request that cannot be gathered: in TLS, or very long."""

_LOOK_SECONDS = 1.0
_LARGEST = 131_072
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked[ \t]*\r\n", re.IGNORECASE)
_EXPECTS = re.compile(rb"\r\nexpect:", re.IGNORECASE)
_NOBODY_THERE = (errno.EAGAIN, errno.ECONNABORTED, errno.EWOULDBLOCK)


class PatientWorker(DrainingWorker):
    """A worker process."""

    def init_process(self) -> None:
        """Prepare what must not be shared between processes, then run."""
        self._served: dict[TConn, float] = {}
        self._looked = 0.0
        super().init_process()

    # -- the thread that watches all connections ----------------------------------------------------

    def accept(self, listener: Any) -> None:
        """Take a connection, and wait for its request without a thread."""
        if self.nr_conns >= self.worker_connections - 1:
            self._make_room()
        try:
            sock, client = listener.accept()
        except OSError as error:
            if error.errno not in _NOBODY_THERE:
                raise
            return
        connection = Connection(self.cfg, sock, client, listener.getsockname())
        self.nr_conns += 1
        connection.timeout = time.monotonic() + self.cfg.keepalive
        self.pending_conns.append(connection)
        self.poller.register(sock, selectors.EVENT_READ, partial(self.on_pending_socket_readable, connection))

    def on_pending_socket_readable(self, conn: Any, client: socket.socket) -> None:
        """Gather what came on a new connection; all of its first request must be there before its time."""
        if self._is_complete(conn, client, self.pending_conns):
            super().on_pending_socket_readable(conn, client)

    def on_client_socket_readable(self, conn: Any, client: socket.socket) -> None:
        """Gather what came on a connection that was kept; the same holds for the next request."""
        if self._is_complete(conn, client, self.keepalived_conns):
            super().on_client_socket_readable(conn, client)

    def murder_pending(self) -> None:
        """Close connections that have been silent too long, and have threads wait no longer for others."""
        super().murder_pending()
        now = time.monotonic()
        if now < self._looked + _LOOK_SECONDS:
            return
        self._looked = now
        for conn, began in list(self._served.items()):
            if now > began + READING_SECONDS:
                # Its reads end now; what it is answered is still sent. Not the method of a TLS socket, which
                # would go on in plain text.
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(conn.sock, socket.SHUT_RD)

    def _cap_keepalive(self, deadline: float) -> None:
        super()._cap_keepalive(deadline)
        for conn in self.pending_conns:
            conn.timeout = min(conn.timeout, deadline)

    def _is_complete(self, conn: Any, client: socket.socket, among: Any) -> bool:
        gathers = isinstance(conn, Connection) and not self.cfg.is_ssl
        if not gathers:
            return True
        if conn.ended:
            return False  # closed to make room, in the same round
        complete = conn.is_complete() and not _lacks_chunks(conn.gathered)
        if conn.ended and _lacks_chunks(conn.gathered):
            return True  # the parser says what is wrong with them
        if conn.ended:
            self._drop(conn, client, among)
        return bool(complete)

    def _make_room(self) -> None:
        """Close the connection that has been idle longest, if one is: others must be let in."""
        for idle in (self.pending_conns, self.keepalived_conns):
            if idle:
                conn = idle[0]
                conn.ended = True
                self._drop(conn, conn.sock, idle)
                return

    def _drop(self, conn: Any, client: socket.socket, among: Any) -> None:
        self.poller.unregister(client)
        among.remove(conn)
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


def _lacks_chunks(gathered: bytes) -> bool:
    """Whether more of a body in chunks is to come; sometimes False too soon, then a thread waits for it."""
    head, _, body = gathered.partition(b"\r\n\r\n")
    head += b"\r\n"
    return (
        len(gathered) <= _LARGEST
        and _CHUNKED.search(head) is not None
        and _EXPECTS.search(head) is None
        and not body.endswith(b"\r\n\r\n")
    )
