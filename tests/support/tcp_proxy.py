"""A TCP proxy between a node and a server, which can go dead, hang, and come back."""

import contextlib
import selectors
import socket
import threading
from types import TracebackType
from typing import Self

from tests.support import true_sockets


class TcpProxy:
    """Started by `with`; forwards from a port of its own to 127.0.0.1:`port`."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._passing = threading.Event()
        self._passing.set()
        self._dead = False
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._ended = False

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, name="tcp-proxy", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = True
        self._passing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._cut()

    def die(self) -> None:
        """Cut every connection, and hang up on new ones."""
        self._dead = True
        self._cut()

    def hang(self) -> None:
        """Keep every connection, take new ones, and pass nothing on."""
        self._passing.clear()

    def recover(self) -> None:
        """Pass everything on again; what came while it hung is passed on late."""
        self._dead = False
        self._passing.set()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = true_sockets.accept(self._listener)
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), name="tcp-proxy", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            self._passing.wait()
            if self._dead or self._ended:
                return
            with contextlib.suppress(OSError), true_sockets.connect(self._to) as server:
                pair = (client, server)
                self._pairs.add(pair)
                try:
                    if not self._dead:  # or it died since, and has not seen this pair
                        self._forward(pair)
                finally:
                    self._pairs.discard(pair)

    def _forward(self, pair: tuple[socket.socket, socket.socket]) -> None:
        with selectors.DefaultSelector() as ready:
            for here, there in (pair, pair[::-1]):
                ready.register(here, selectors.EVENT_READ, there)
            while True:
                for key, _ in ready.select():
                    octets = key.fileobj.recv(65_536)  # type: ignore[union-attr]  # a socket, as registered
                    self._passing.wait()
                    if not octets:
                        return
                    key.data.sendall(octets)

    def _cut(self) -> None:
        for pair in list(self._pairs):
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
