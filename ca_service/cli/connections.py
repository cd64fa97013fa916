"""Connections of the worker that serves them all from one thread: read and written without waiting."""

import ipaddress
import re
import socket
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from gunicorn.http.errors import UnsupportedTransferCoding
from gunicorn.http.message import Request, _ip_in_allow_list
from gunicorn.http.wsgi import Response
from gunicorn.workers.gthread import TConn

_CHUNK = 65_536
_LARGEST = 131_072
"""Octets of a request that are gathered; of what is longer the beginning alone, which leads to a refusal."""
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,7})[ \t]*\r\n", re.IGNORECASE)
# These are rare, and are left to gunicorn's parser, which reads as it goes.
_UNUSUAL = re.compile(rb"\r\n(?:transfer-encoding|expect|upgrade|content-length[^:]):?", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked[ \t]*\r\n", re.IGNORECASE)
_EXPECTS = re.compile(rb"\r\nexpect:", re.IGNORECASE)


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


class _PeerKnown(Request):  # type: ignore[misc]  # gunicorn ships no types
    """A request that does not look up anew whether its peer, the same for a whole connection, is a proxy."""

    def _peer_is_trusted_proxy(self) -> bool:
        if not isinstance(self.peer_addr, tuple):
            return bool(super()._peer_is_trusted_proxy())
        return _is_listed(self.peer_addr[0], tuple(self.cfg.forwarded_allow_ips))

    def set_body_reader(self) -> None:
        """Refuse codings beside chunked: gunicorn lets some pass, undone by nobody (RFC 9112 §6.1).

        Without chunked at the end there is no telling where the body ends, which is malformed (§6.3).
        """
        super().set_body_reader()
        for name, value in self.headers:
            if name == "TRANSFER-ENCODING" and value.strip(" \t").lower() != "chunked":
                raise UnsupportedTransferCoding(value)


@lru_cache(maxsize=1024)
def _is_listed(address: str, listed: tuple[str, ...]) -> bool:
    networks = [ipaddress.ip_network(each) for each in listed if each != "*"]
    return bool(_ip_in_allow_list(address, listed, networks))


class Connection(TConn):  # type: ignore[misc]  # gunicorn ships no types
    """One connection; `busy` from when its request has come until the answer is on its way."""

    def __init__(self, cfg: Any, sock: socket.socket, client: object, server: object) -> None:
        """Take an accepted socket, which stays blocking: it is only read when something came."""
        self.cfg, self.sock, self.client, self.server = cfg, sock, client, server
        self.number = sock.fileno()
        self.parser: Any = None
        self.timeout = 0.0
        self.initialized = self.is_http2 = False
        self.data_ready = True
        self.busy = self.closing = self.ended = self.whole = self.goes_on = False
        self.watched = 0
        self.since = 0.0
        self.gathered = b""
        self.unsent = b""
        self.taken = 0
        self.call = b""
        self.signings = 0

    def is_complete(self) -> bool:
        """Read what came, without waiting, and say whether there is a request to serve; or set `ended`.

        `whole` says whether all of it is here: then nothing that parses it will wait for the client.
        """
        if self.cfg.is_ssl:
            return True
        try:
            octets = self.sock.recv(_CHUNK, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            octets = b""
        if self.closing:
            self.taken += len(octets)
            self.ended = not octets or self.taken > _CHUNK
            return False
        if not octets:
            self.ended = not lacks_chunks(self.gathered)
            return not self.ended  # the parser says what is wrong with them
        gathered = self.gathered = self.gathered + octets
        end = gathered.find(b"\r\n\r\n")
        self.whole = False
        if len(gathered) > _LARGEST:
            return True
        if end < 0:
            return False
        head = gathered[: end + 2]
        if _UNUSUAL.search(head):
            return not lacks_chunks(gathered)
        length = _LENGTH.search(head)
        if length is not None:
            octets_of_body = int(length[1])
            if octets_of_body > _LARGEST:
                return True
            if len(gathered) - end - 4 < octets_of_body:
                return False
        self.whole = True
        return True

    def hand_over(self) -> None:
        """Give the parser what was gathered."""
        self.init()
        if self.parser.mesg_class is Request:
            self.parser.mesg_class = _PeerKnown
        if self.gathered:
            self.parser.unreader.unread(self.gathered)
            self.gathered = b""

    def has_more(self) -> bool:
        """Whether the client sent its next request with this one."""
        return bool(self.parser.unreader.buf.getvalue())

    # -- what a response writes to -----------------------------------------------------------------

    def sendall(self, octets: bytes) -> None:
        """Send without waiting; what the client does not take now is `unsent`. Raises OSError."""
        if self.cfg.is_ssl:
            self.sock.sendall(octets)
        elif self.unsent:
            self.unsent += octets
        else:
            self.unsent = octets
            self.send_on()

    def send(self, octets: bytes) -> int:
        """As `sendall`, by the name that gunicorn calls to ask for the body (100 Continue)."""
        self.sendall(octets)
        return len(octets)

    def send_on(self) -> None:
        """Send more of what is unsent, without waiting; raises OSError when the client has gone."""
        try:
            sent = self.sock.send(self.unsent, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        self.unsent = self.unsent[sent:]
        self.taken += sent


# Headers of replies whose values are few; the others differ from reply to reply.
_OF_FEW_VALUES = frozenset(
    {
        "Access-Control-Allow-Origin",
        "Cache-Control",
        "Content-Security-Policy",
        "Content-Type",
        "Referrer-Policy",
        "X-Content-Type-Options",
    }
)
_MOST_CHECKED = 256
_checked: set[tuple[str, str]] = set()


class OneWrite(Response):  # type: ignore[misc]  # gunicorn ships no types
    """A response whose head goes out with the first octets of its body: one call, one packet."""

    head = b""
    headers_sent: bool

    def process_headers(self, headers: Iterable[tuple[str, str]]) -> None:
        """Check headers as gunicorn does, which is a tenth of an answer, but those that recur only once."""
        for header in headers:
            if header in _checked:
                self.headers.append(header)
                continue
            super().process_headers((header,))
            if (
                header[0] in _OF_FEW_VALUES
                and self.headers[-1:] == [header]
                and len(_checked) < _MOST_CHECKED
            ):
                _checked.add(header)

    def send_headers(self) -> None:
        """Keep the head for what follows."""
        if not self.headers_sent:
            lines = [f"{name}: {value}\r\n" for name, value in self.headers]
            self.head = "".join([*self.default_headers(), *lines, "\r\n"]).encode("latin-1")
            self.headers_sent = True

    @property
    def is_begun(self) -> bool:
        """Whether something was sent, so that no other answer can be."""
        return self.headers_sent and not self.head

    def _emit_body(self, data: bytes) -> None:
        head, self.head = self.head, b""
        self.sock.sendall(head + (b"%X\r\n%b\r\n" % (len(data), data) if self.chunked else data))

    def close(self) -> None:
        """Send what is left: the head of an empty body, the end of one in chunks."""
        self.send_headers()
        end = self.head + (b"0\r\n\r\n" if self.chunked else b"")
        self.head = b""
        if end:
            self.sock.sendall(end)
