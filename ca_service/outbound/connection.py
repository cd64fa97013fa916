"""Connections that check the address they are made to, at the moment they are made.

A name is resolved once and the checked address is the one connected to, so that a name which changes its
address in between (DNS rebinding) gains nothing. A deadline ends everything, however slowly a server drips.
"""

import socket
import ssl
import threading
import time
from collections.abc import Sequence
from functools import partial
from types import TracebackType
from typing import Self

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.poolmanager import PoolManager

from ca_service.outbound.addresses import AddressRules

_MAX_ADDRESSES = 16

_Target = tuple[
    socket.AddressFamily,
    socket.SocketKind,
    int,
    str,
    tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes],
]
"""One answer of getaddrinfo: family, kind, protocol, canonical name, address."""


class FetchFailed(OSError):
    """Why a document could not be had: `cause` is a slug for programs, `why` the end of a sentence."""

    def __init__(self, cause: str, why: str) -> None:
        """Take both; neither holds an address, for strangers may see them."""
        super().__init__(why)
        self.cause = cause
        self.why = why


class Deadline:
    """A moment after which the connections made under it are cut; a context manager: it holds a timer."""

    def __init__(self, seconds: float) -> None:
        """Take the seconds from now."""
        self._ends = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self.passed = False
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        with self._lock:
            for connected in self._sockets:
                connected.close()
            self._sockets.clear()

    def left(self) -> float:
        """Seconds that are left; raises TimeoutError when none are."""
        left = self._ends - time.monotonic()
        if left <= 0:
            self.passed = True
            raise TimeoutError("the deadline has passed")
        return left

    def watch(self, connected: socket.socket) -> None:
        """Cut this connection when the time is over; the socket itself stays the caller's."""
        # TLS takes the descriptor away from the socket it wraps, so the watch has one of its own.
        with self._lock:
            self._sockets.append(connected.dup())

    def _cut(self) -> None:
        self.passed = True
        with self._lock:
            for connected in self._sockets:
                try:
                    connected.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # the other side was faster


class Gate:
    """Resolves names, checks addresses and connects, instead of urllib3's own way to do it."""

    def __init__(self, rules: AddressRules, deadline: Deadline) -> None:
        """Take which addresses are allowed, and until when."""
        self._rules = rules
        self._deadline = deadline
        self.failed: FetchFailed | None = None

    def connect(self, host: str, port: int, *, tls: bool) -> socket.socket:
        """Connect to the first allowed address of a host; without TLS only listed private ones are allowed.

        Raises FetchFailed, and keeps it in `failed`, since urllib3 wraps what is raised here.
        """
        try:
            return self._connect(host, port, tls=tls)
        except FetchFailed as failed:
            self.failed = failed
        except TimeoutError:
            self.failed = FetchFailed("timeout", "it did not answer in time")
        except OSError:
            self.failed = FetchFailed("unreachable", "the connection failed")
        raise self.failed

    def _connect(self, host: str, port: int, *, tls: bool) -> socket.socket:
        allowed = self._rules.is_allowed if tls else self._rules.is_listed
        targets = [target for target in self._resolve(host.strip("[]"), port) if allowed(str(target[4][0]))]
        if not targets:
            raise FetchFailed(
                "address-refused",
                "its host has no public address, and none in [oidc] private_networks"
                if tls
                else "http is only for hosts in [oidc] private_networks; others need https",
            )
        problem: OSError = OSError("no address")
        for family, kind, protocol, _name, address in targets[:_MAX_ADDRESSES]:
            connected = socket.socket(family, kind, protocol)
            try:
                connected.settimeout(self._deadline.left())
                connected.connect(address)
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                # The connection actually made has the last word.
                if not allowed(str(connected.getpeername()[0])):
                    raise FetchFailed("address-refused", "the connection led to a forbidden address")
            except OSError as failed:
                connected.close()
                problem = failed
                continue
            self._deadline.watch(connected)
            return connected
        raise problem

    def _resolve(self, host: str, port: int) -> Sequence[_Target]:
        """Resolve a name within the deadline; the system's resolver knows none, so it runs beside us."""
        found: list[Sequence[_Target] | Exception] = []

        def look_up() -> None:
            try:
                found.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
            except (OSError, UnicodeError) as problem:
                found.append(problem)

        looking = threading.Thread(target=look_up, name="resolve", daemon=True)
        looking.start()
        looking.join(self._deadline.left())
        if not found:
            raise FetchFailed("timeout", "its name was not resolved in time")
        answer = found[0]
        if isinstance(answer, Exception):
            raise FetchFailed("name", "its name does not resolve")
        return answer


class _PlainConnection(HTTPConnection):
    def __init__(self, *arguments: object, gate: Gate, **options: object) -> None:
        super().__init__(*arguments, **options)  # type: ignore[arg-type] # passed through as they are
        self._gate = gate

    def _new_conn(self) -> socket.socket:
        return self._gate.connect(self.host, self.port or self.default_port, tls=False)


class _TlsConnection(HTTPSConnection):
    def __init__(self, *arguments: object, gate: Gate, **options: object) -> None:
        super().__init__(*arguments, **options)  # type: ignore[arg-type] # passed through as they are
        self._gate = gate

    def _new_conn(self) -> socket.socket:
        return self._gate.connect(self.host, self.port or self.default_port, tls=True)


class GatedAdapter(HTTPAdapter):
    """A transport for `requests` whose connections all go through a gate, with one TLS context."""

    def __init__(self, gate: Gate, context: ssl.SSLContext) -> None:
        """Take the gate, and the context that says which certificates are trusted."""
        self._gate = gate
        self._context = context
        super().__init__(max_retries=0)

    def init_poolmanager(
        self, connections: int, maxsize: int, block: bool = False, **_options: object
    ) -> None:
        """Make pools of gated connections instead of urllib3's own."""

        def plain(host: str, port: int | None = None, **options: object) -> HTTPConnectionPool:
            pool = HTTPConnectionPool(host, port, **options)  # type: ignore[arg-type] # urllib3's own options
            pool.ConnectionCls = partial(_PlainConnection, gate=self._gate)  # type: ignore[assignment] # called only
            return pool

        def tls(host: str, port: int | None = None, **options: object) -> HTTPSConnectionPool:
            pool = HTTPSConnectionPool(host, port, **options)  # type: ignore[arg-type] # urllib3's own options
            pool.ConnectionCls = partial(_TlsConnection, gate=self._gate)  # type: ignore[assignment] # called only
            return pool

        self.poolmanager = PoolManager(
            num_pools=connections, maxsize=maxsize, block=block, ssl_context=self._context
        )
        self.poolmanager.pool_classes_by_scheme = {"http": plain, "https": tls}

    def cert_verify(self, conn: object, url: str, verify: object, cert: object) -> None:
        """Leave the trusted certificates to the context: requests would add its own file."""
