"""Refusing early what cannot be served soon, so that whoever asks about a status is answered all the same.

Two things overload a server. Too much is asked: requests wait longer and longer for a thread, and by the
time they are served their clients have gone. Or something it needs stalls: each thread waits for it, and
none is left. The first shows in how long a request has waited, the second in threads that do not come back.

Answers about status and health are refused in neither case: they cost no more than a refusal, and signatures
must go on being verified while signing is overloaded.
"""

import itertools
import math
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from ca_service.authority.ports import Observer
from ca_service.authority.waiting import about_to_wait
from ca_service.errors import Overloaded
from ca_service.web.shortcuts import Pending

if TYPE_CHECKING:  # these types exist for checkers alone
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_NEVER_REFUSED = ("/ocsp", "/crl/", "/ca/", "/healthz", "/readyz")

# The start of Linux's struct tcp_info: eight octets, then counters, of which the twelfth is
# tcpi_last_data_recv: milliseconds since the newest octets came.
_TCP_INFO = struct.Struct("=8x44xI")

# Of the patience: what is enough while too much is asked, and what shows that this is over.
_SHORTER = 4
_AT_ONCE = 20


def waited_seconds(environ: "WSGIEnvironment") -> float:
    """How long ago the last octets of this request came from the network, so how long it waited; 0 unknown.

    The kernel knows, and counts the time before the connection was accepted too.
    """
    connection = environ.get("gunicorn.socket")
    if connection is None:
        return 0.0
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    except OSError:
        return 0.0  # not TCP, or gone
    if len(info) < _TCP_INFO.size:
        return 0.0
    milliseconds: int = _TCP_INFO.unpack(info)[0]
    return milliseconds / 1000


class Overload:
    """Admits requests to the application, or says 503 and when to ask again."""

    def __init__(
        self,
        *,
        places: int,
        patience: float,
        observer: Observer,
        waited: "Callable[[WSGIEnvironment], float]" = waited_seconds,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        """Let at most `places` requests of this process in at once, those about status apart.

        `patience` (seconds) is how long a request may have waited for a thread before it is refused; from
        then on a quarter of it is enough, until one comes that hardly waited. It is also how long a request
        waits for a place: when one did so in vain, those after it are refused at once, until a place is
        free. A request that waits without a thread takes no place; when the oldest of these has waited so
        long, others are refused as well. `elapsed` is a clock of seconds that never goes back.
        """
        self._places = places
        self._patience = patience
        self._observer = observer
        self._waited = waited
        self._elapsed = elapsed
        self._mutex = threading.Lock()
        self._inside = 0
        self._waiting: deque[threading.Lock] = deque()
        self._stalled = self._late = False
        # Those that hold no place while they wait, the oldest first.
        self._pending: dict[Pending, float] = {}
        # Not all at the same time, or they come back as one.
        self._retry_after = itertools.cycle((1, 2, 3))

    def around(
        self,
        application: "WSGIApplication",
        refuse: "Callable[[Overloaded, WSGIEnvironment], WSGIApplication]",
    ) -> "WSGIApplication":
        """Wrap an application; `refuse` makes the answer for a request that is not let in."""

        def admitted(environ: "WSGIEnvironment", start_response: "StartResponse") -> "Iterable[bytes]":
            if environ["PATH_INFO"].startswith(_NEVER_REFUSED):
                return application(environ, start_response)
            try:
                self._enter(environ)
            except Overloaded as error:
                return refuse(error, environ)(environ, start_response)
            try:
                body = application(environ, start_response)
            finally:
                self._leave()
            if isinstance(body, Pending):
                with self._mutex:
                    self._pending[body] = self._elapsed()
                body.over = partial(self._end, body)
            return body

        return admitted

    def _enter(self, environ: "WSGIEnvironment") -> None:
        waited = self._waited(environ)
        if waited > (self._patience / _SHORTER if self._late else self._patience):
            self._late = True
            raise self._refusal("waited", f"this request waited {waited:.1f} s for its turn")
        if waited < self._patience / _AT_ONCE:
            self._late = False
        with self._mutex:
            oldest = next(iter(self._pending.values()), math.inf)
        if self._elapsed() - oldest > self._patience:
            raise self._refusal("full", f"{len(self._pending)} requests wait and none comes to an end")
        with self._mutex:
            if self._inside < self._places:
                self._inside += 1
                return
            stalled = self._stalled
            if not stalled:
                about_to_wait()
                pause = threading.Lock()
                pause.acquire()
                self._waiting.append(pause)
        if stalled or not self._has_place(pause):
            raise self._refusal("full", f"{self._places} requests are being served and none comes to an end")

    def _has_place(self, pause: threading.Lock) -> bool:
        if pause.acquire(timeout=self._patience):
            return True
        with self._mutex:
            if pause not in self._waiting:
                return True  # it was handed over in the same moment
            self._waiting.remove(pause)
            self._stalled = True
            return False

    def _leave(self) -> None:
        with self._mutex:
            self._stalled = False
            if not self._waiting:
                self._inside -= 1
                return
            following = self._waiting.popleft()
        following.release()

    def _end(self, pending: Pending) -> None:
        with self._mutex:
            self._pending.pop(pending, None)

    def _refusal(self, reason: str, fact: str) -> Overloaded:
        self._observer.count("overloaded", reason=reason)
        return Overloaded(
            f"the service has more to do than it can: {fact}", retry_after=next(self._retry_after)
        )
