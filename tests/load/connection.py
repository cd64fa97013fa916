"""One keep-alive connection for prepared requests: little work, so that the service is what is measured."""

import re
import socket
import time
from dataclasses import dataclass

_PATIENCE = 30.0
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
_RETRY_AFTER = re.compile(rb"\r\nretry-after: *\d", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: status, whether it says when to ask again, octets, and seconds until all was there."""

    status: int
    retry_after: bool
    octets: int
    seconds: float


class Connection:
    """Connects when it has to; after a connection that was kept too long it asks once more on a new one."""

    def __init__(self, host: str, port: int) -> None:
        """Remember whom to ask."""
        self._address = (host, port)
        self._socket: socket.socket | None = None

    def ask(self, request: bytes) -> Reply:
        """Send a request and read its answer; OSError when there is none."""
        began = time.perf_counter()
        kept = self._socket is not None
        try:
            status, retry_after, octets = self._exchange(request)
        except (ConnectionError, EOFError):
            self.close()
            if not kept:
                raise ConnectionResetError("closed without an answer") from None
            try:
                status, retry_after, octets = self._exchange(request)
            except (ConnectionError, EOFError):
                self.close()
                raise ConnectionResetError("closed without an answer, twice") from None
        except OSError:
            self.close()
            raise
        return Reply(status, retry_after, octets, time.perf_counter() - began)

    def close(self) -> None:
        """Close it."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _exchange(self, request: bytes) -> tuple[int, bool, int]:
        if self._socket is None:
            self._socket = socket.create_connection(self._address, _PATIENCE)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(request)
        received = b""
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += self._more()
        head, octets = received[:end], len(received) - end - 4
        length = _LENGTH.search(head)
        if length is not None:
            while octets < int(length[1]):
                octets += len(self._more())
        elif _CHUNKED.search(head):
            while not received.endswith(b"0\r\n\r\n"):
                received += self._more()
            octets = len(received) - end - 4
        if _CLOSE.search(head):
            self.close()
        return int(head[9:12]), _RETRY_AFTER.search(head) is not None, octets

    def _more(self) -> bytes:
        assert self._socket is not None
        octets = self._socket.recv(65536)
        if not octets:
            raise EOFError
        return octets
