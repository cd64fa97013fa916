"""Sending long replies in pieces, and giving up on clients that take them too slowly: each holds a thread."""

import errno
import time
from collections.abc import Callable, Iterable, Iterator

PACES = "ca_service.paces"
"""In the environment: the server sends without holding a thread, and notices slow readers itself."""

LONG = 262_144
"""Octets of a body from which on it is paced; the kernel takes shorter ones at once, or nearly."""

_PIECE = 65_536
_GRACE_SECONDS = 10.0
_OCTETS_A_SECOND = 65_536


def paced(body: Iterable[bytes], elapsed: Callable[[], float] = time.monotonic) -> Iterator[bytes]:
    """Yield a body in pieces; BlockingIOError once its reader is slower than 64 KiB a second for too long.

    A reader has ten seconds beyond what the rate allows. `elapsed` is a clock of seconds that never goes
    back. A reader that takes nothing at all is the server's to notice: the sending itself ends.
    """
    began, sent = elapsed(), 0
    try:
        for octets in body:
            for start in range(0, len(octets), _PIECE):
                piece = octets[start : start + _PIECE]
                yield piece
                sent += len(piece)
                if elapsed() - began > _GRACE_SECONDS + sent / _OCTETS_A_SECOND:
                    raise BlockingIOError(errno.EAGAIN, "the client takes its answer too slowly")
    finally:
        close = getattr(body, "close", None)
        if close is not None:
            close()
