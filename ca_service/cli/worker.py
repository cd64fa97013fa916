"""Gunicorn's worker: threads that take turns (authority/turns.py) and find their next request themselves.

Gunicorn's own threaded worker has one thread that waits for requests, hands them to the others and takes the
connections back, which took more than a Flask view does. Here whoever has the turn asks the kernel which
connections are ready, and serves them one after the other; when a request has to wait, another goes on. A
request is read, without waiting, until it is complete, so that slow clients hold no thread.
"""

import logging
import re
import select
import socket
import threading
import time
from collections import deque
from typing import Any

from gunicorn.http.body import LengthReader
from gunicorn.http.wsgi import Response, create
from gunicorn.workers.base import Worker
from gunicorn.workers.gthread import STOP_KEEPALIVE_LINGER, TConn, ThreadWorker

from ca_service.authority.turns import Turns
from ca_service.cli.draining import accept_the_last

SILENCE_SECONDS = 10
"""A client that stops in the middle of a request is let go after so long."""

_WATCH_SECONDS = 0.02
_ALIVE_SECONDS = 1.0
_EVENTS = 64
_CHUNK = 65_536
_LARGEST = 131_072
"""Octets of a request that are gathered; of what is longer the beginning alone, which leads to a refusal."""
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,7})[ \t]*\r\n", re.IGNORECASE)
# These are rare, and are left to gunicorn's parser, which reads as it goes.
_UNUSUAL = re.compile(rb"\r\n(?:transfer-encoding|expect|upgrade|content-length[^:]):?", re.IGNORECASE)

_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked[ \t]*\r\n", re.IGNORECASE)
_EXPECTS = re.compile(rb"\r\nexpect:", re.IGNORECASE)

_LOG = logging.getLogger("gunicorn.error")


def lacks_chunks(gathered: bytes) -> bool:
    """Whether more of a body in chunks is to come; sometimes False too soon, then a thread waits for it."""
    head, found, body = gathered.partition(b"\r\n\r\n")
    head += b"\r\n"
    return (
        bool(found)
        and _CHUNKED.search(head) is not None
        and _EXPECTS.search(head) is None
        and not body.endswith(b"\r\n\r\n")
    )


class Connection(TConn):  # type: ignore[misc]  # gunicorn ships no types
    """One connection; `busy` from when it is seen to be ready until its answer is sent."""

    def __init__(self, cfg: Any, sock: socket.socket, client: object, server: object) -> None:
        """Take an accepted socket, which stays blocking: it is only read when something came."""
        self.cfg, self.sock, self.client, self.server = cfg, sock, client, server
        self.number = sock.fileno()
        self.parser: Any = None
        self.timeout = 0.0
        self.initialized = self.is_http2 = self.busy = self.parked = self.ended = False
        self.data_ready = True
        self.closing = False
        self.gathered = b""

    def is_complete(self) -> bool:
        """Read what came, without waiting, and say whether it is for the parser now; or set `ended`."""
        try:
            octets = self.sock.recv(_CHUNK, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            octets = b""
        if not octets and lacks_chunks(self.gathered) and not self.closing:
            return True  # the parser says what is wrong with them
        if not octets or self.closing:
            self.ended = not octets
            return False
        gathered = self.gathered = self.gathered + octets
        end = gathered.find(b"\r\n\r\n")
        if len(gathered) > _LARGEST:
            return True
        if end < 0:
            return False
        head = gathered[: end + 2]
        if _UNUSUAL.search(head):
            return not lacks_chunks(gathered)
        length = _LENGTH.search(head)
        return length is None or int(length[1]) > _LARGEST or len(gathered) - end - 4 >= int(length[1])

    def hand_over(self) -> None:
        """Give the parser what was gathered."""
        self.init()
        if self.gathered:
            self.parser.unreader.unread(self.gathered)
            self.gathered = b""


class OneWrite(Response):  # type: ignore[misc]  # gunicorn ships no types
    """A response whose head goes out with the first octets of its body: one call, one packet."""

    head = b""
    headers_sent: bool

    def send_headers(self) -> None:
        """Keep the head for what follows."""
        if not self.headers_sent:
            lines = [f"{name}: {value}\r\n" for name, value in self.headers]
            self.head = "".join([*self.default_headers(), *lines, "\r\n"]).encode("latin-1")
            self.headers_sent = True

    def _emit_body(self, data: bytes) -> None:
        head, self.head = self.head, b""
        self.sock.sendall(head + (b"%X\r\n%b\r\n" % (len(data), data) if self.chunked else data))

    def close(self) -> None:
        """Send what is left: the head of an empty body, the end of one in chunks."""
        self.send_headers()
        end = self.head + (b"0\r\n\r\n" if self.chunked else b"")
        if end:
            self.sock.sendall(end)


class TurnsWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn ships no types
    """A worker process; what it does with a request is gunicorn's threaded worker's."""

    def init_process(self) -> None:
        """Prepare what must not be shared between processes, then run."""
        # Each setting is otherwise looked up through two Python functions, some thirty for each request.
        self.cfg.__dict__.update({name: setting.get() for name, setting in self.cfg.settings.items()})
        self.turns: Turns = self.app.turns
        self.turns.awaited = False
        self.turns.serve(self._look)
        self.epoll = select.epoll()
        self.listening = {listener.fileno(): listener for listener in self.sockets}
        self.connections: dict[int, Connection] = {}
        # Connections between two requests, or in the middle of one, the first to be let go first.
        self.keepalived_conns: dict[Connection, None] = {}
        self.ready: deque[Connection] = deque()
        self.table = threading.Lock()
        Worker.init_process(self)

    def handle_exit(self, _signal: int, _frame: object) -> None:
        """Begin to stop."""
        self.alive = False

    handle_quit = Worker.handle_quit

    # -- the main thread ---------------------------------------------------------------------------

    def run(self) -> None:
        """Start the threads, and watch over them until told to stop; then let them finish."""
        for number, listener in self.listening.items():
            listener.setblocking(False)
            self.epoll.register(number, select.EPOLLIN | select.EPOLLEXCLUSIVE)
        for number in range(self.cfg.threads):
            threading.Thread(target=self._serve, name=f"server-{number}", daemon=True).start()
        next_sign = 0.0
        while self.alive:
            now = time.monotonic()
            if now >= next_sign:
                next_sign = now + _ALIVE_SECONDS
                self.notify()
                if not self.is_parent_alive():
                    self.alive = False
            self._watch()
        for number in self.listening:
            self.epoll.unregister(number)
        accept_the_last(self.sockets, self._begin)
        stopped = time.monotonic()
        with self.table:
            for connection in self.keepalived_conns:
                connection.timeout = min(connection.timeout, stopped + STOP_KEEPALIVE_LINGER)
        while self.connections and time.monotonic() < stopped + self.cfg.graceful_timeout:
            self.notify()
            self._watch()
            self._let_go()

    def _watch(self) -> None:
        # A signal ends the sleep; its handler runs in this thread.
        time.sleep(_WATCH_SECONDS)
        self.turns.watch()

    # -- the threads that serve --------------------------------------------------------------------

    def _serve(self) -> None:
        turns = self.turns
        turns.rest()
        while True:
            if turns.give_way():
                turns.rest()
            elif self.ready or self._look():
                try:
                    connection = self.ready.popleft()
                except IndexError:
                    continue
                turns.served += 1
                self._answer(connection)
            elif turns.awaited:
                turns.finish_deferred()
                turns.leave()
                turns.rest()
            else:
                turns.finish_deferred()
                turns.awaited = True
                turns.leave()
                # An epoll object can itself be waited for, without taking its events.
                waiting = select.poll()
                waiting.register(self.epoll.fileno(), select.POLLIN)
                waiting.poll(_ALIVE_SECONDS * 1000)
                turns.take()
                turns.awaited = False
                self._let_go()

    def _look(self) -> bool:
        """Collect what is ready now, and say whether something is."""
        for number, _ in self.epoll.poll(0, _EVENTS):
            listener = self.listening.get(number)
            if listener is not None:
                self._accept(listener)
                continue
            with self.table:
                connection = self.connections.get(number)
                if connection is None:
                    continue
                if connection.busy:
                    # It has sent more than its request, or has gone: not to be told of it again and again.
                    self.epoll.unregister(number)
                    connection.parked = True
                    continue
                connection.busy = True
            if self.cfg.is_ssl or connection.is_complete():
                self.keepalived_conns.pop(connection, None)
                self.ready.append(connection)
            elif connection.ended:
                self._close(connection)
            elif not connection.closing:
                self._expect_more(connection, SILENCE_SECONDS)
        return bool(self.ready)

    def _accept(self, listener: Any) -> None:
        if len(self.connections) >= self.worker_connections:
            self._let_go(room=True)
        try:
            server = listener.getsockname()
            sock, client = listener.accept()
        except OSError:
            return  # another worker was first, or the client has gone
        self._begin(sock, client, server)

    def _begin(self, sock: socket.socket, client: object, server: object) -> None:
        connection = Connection(self.cfg, sock, client, server)
        with self.table:
            self.connections[connection.number] = connection
        self._expect_more(connection, self.cfg.keepalive)
        self.epoll.register(connection.number, select.EPOLLIN | select.EPOLLRDHUP)

    def _answer(self, connection: Connection) -> None:
        if connection.gathered or not connection.initialized:
            try:
                connection.hand_over()
            except OSError:  # of TLS: the client speaks something else, or has gone
                _LOG.debug("a connection could not be begun", exc_info=True)
                self._close(connection)
                return
        goes_on = self.handle(connection)
        if goes_on and connection.parser.unreader.buf.getvalue():
            self.ready.append(connection)  # it sent the next request with this one
        elif goes_on:
            patience = self.cfg.keepalive if self.alive else STOP_KEEPALIVE_LINGER
            self._expect_more(connection, patience)
            if connection.parked:
                connection.parked = False
                self.epoll.register(connection.number, select.EPOLLIN | select.EPOLLRDHUP)
        else:
            self._hang_up(connection)

    def handle_request(self, request: Any, connection: Connection) -> bool:
        """Call the application and send what it answers; False when the connection is to be closed."""
        response, environ = create(
            request, connection.sock, connection.client, connection.server, self.cfg, response_class=OneWrite
        )
        environ["wsgi.multithread"] = True
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("this worker has answered %d requests and is replaced", self.nr)
            self.alive = False
        if not self.alive or len(self.keepalived_conns) >= self.max_keepalived:
            response.force_close()
        try:
            body = self.wsgi(environ, response.start_response)
            try:
                for octets in body:
                    response.write(octets)
                response.close()
            finally:
                if hasattr(body, "close"):
                    body.close()
        except Exception:
            if response.headers_sent and not response.head:
                # A second answer on the same connection would be taken for the rest of the first.
                self.log.exception("a reply was cut off")
                return False
            raise
        return not response.should_close()

    def _keepalive_after(self, connection: Connection, keepalive: bool) -> bool:
        if not keepalive:
            return False
        reader = connection.parser.mesg.body.reader
        if type(reader) is LengthReader and reader.length == 0:
            return True  # the body was read, so nothing has to be drained
        return bool(super()._keepalive_after(connection, keepalive))

    def _expect_more(self, connection: Connection, seconds: float) -> None:
        connection.timeout = time.monotonic() + seconds
        with self.table:
            self.keepalived_conns.pop(connection, None)
            self.keepalived_conns[connection] = None
            connection.busy = False

    def _let_go(self, *, room: bool = False) -> None:
        """Close connections on which nothing came for too long; with `room` the one that waits longest."""
        now = time.monotonic()
        with self.table:
            over = [each for each in self.keepalived_conns if each.timeout <= now]
            if room and not over:
                over = list(self.keepalived_conns)[:1]
            for connection in over:
                del self.keepalived_conns[connection]
                connection.busy = True
        for connection in over:
            if connection.gathered:
                _LOG.info("a client stopped in the middle of its request for %d seconds", SILENCE_SECONDS)
            self._close(connection)

    def _hang_up(self, connection: Connection) -> None:
        """Say that no more comes, and close once the client has read all and closed (RFC 9112 §9.6)."""
        if self.cfg.is_ssl:
            self.turns.leave()  # this one waits
            connection.close(graceful=True)
            self._close(connection)
            return
        connection.closing = True
        try:
            connection.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(connection)
            return
        connection.is_complete()
        if connection.ended or connection.parked:
            self._close(connection)
        else:
            self._expect_more(connection, STOP_KEEPALIVE_LINGER)

    def _close(self, connection: Connection) -> None:
        with self.table:
            self.connections.pop(connection.number, None)
            self.keepalived_conns.pop(connection, None)
        connection.close()
