"""How a server stops without losing a connection: it lets nobody in, and serves everybody who is in.

Gunicorn's threaded worker stops to accept, finishes what it has, and closes its listening sockets last. Until
then the kernel goes on taking connections, for seconds, and resets them in the end. A proxy in front cannot
know whether a request that it sent on one was worked on, so it does not send it to another node. Here the
first process bars the door, the workers serve those that wait behind it, and whoever comes later is refused,
which a proxy repeats elsewhere.
"""

import contextlib
import ctypes
import os
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any

_SO_ATTACH_FILTER = 26  # Linux's asm-generic/socket.h; Python does not name it
_RETURN_NOTHING = struct.pack("HBBI", 0x06, 0, 0, 0)  # BPF_RET | BPF_K: keep no octet of any packet


def accept_the_last(listeners: Sequence[Any], serve: Callable[[socket.socket, object, object], None]) -> None:
    """Hand over each connection that waits at these sockets, with both addresses, and close the sockets.

    Where only this worker is replaced, others have the same sockets open and go on taking connections.
    """
    for listener in listeners:
        listener.setblocking(False)
        server = listener.getsockname()
        while True:
            try:
                sock, client = listener.accept()
            except ConnectionAbortedError:
                continue  # this client has gone; the next may wait
            except OSError:
                break
            serve(sock, client, server)
        listener.close()


def bar_when_closed(listener: Any) -> None:
    """Have the first process bar a listening socket for all processes when it closes its own copy.

    It does so before it tells the workers to stop; when it only replaces them, it keeps its copy open.
    """
    close = listener.close
    first = os.getpid()

    def bar_and_close() -> None:
        if os.getpid() == first:
            # Elsewhere than on Linux a connection can slip in between a worker's last accept and its close.
            with contextlib.suppress(OSError):
                _bar(listener.sock)
        close()

    listener.close = bar_and_close


def _bar(listening: socket.socket) -> None:
    """Drop each packet that would open a connection: its client asks again after a second (RFC 6298 §2.1)."""
    program = ctypes.create_string_buffer(_RETURN_NOTHING)
    listening.setsockopt(
        socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(program))
    )
