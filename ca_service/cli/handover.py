"""Connections that ask for certificates, brought together in one worker while one is enough for them.

A batch of the log costs, however many are in it, and code that has just run for one certificate runs faster
for the next. Few clients that fall on several workers make many small batches: slower, and dearer, than one
worker alone. So the worker that leads, by holding a lock, is handed the connections of the others on which
certificates were asked for in a row, with the request that has come, until it has FEW of them.

Whoever leads may die or hang at any moment. What was handed over and not yet taken waits in a socket that all
workers have open, and that each looks into when nobody else seems to, and before it ends.
"""

import contextlib
import fcntl
import mmap
import os
import socket
import struct
import time
from collections.abc import Iterator
from typing import NamedTuple

FEW = 16
"""How many clients one worker serves as well as several: a batch of so many has its costs spread."""

IN_A_ROW = 2
_SEEN_SECONDS = 2.5
"""A leader that has not shown itself for so long is given no more, and others look for what it was given."""
_LONGEST = 65_536
_SINCE = struct.Struct("d")
_SEEN, _HAS = range(2)


class Handed(NamedTuple):
    """A connection, the request that came on it, and when, by the clock that never goes back."""

    sock: socket.socket
    request: bytes
    since: float


class Handover:
    """What workers share for that: made in the first process, before they are forked."""

    def __init__(self) -> None:
        """Make the socket that connections go through, and the page that says who leads and how it is."""
        self._gives, self._takes = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._gives.setblocking(False)
        self._takes.setblocking(False)
        self._lock = os.memfd_create("ca-service-lead")
        os.ftruncate(self._lock, mmap.PAGESIZE)
        self._shared = memoryview(mmap.mmap(self._lock, mmap.PAGESIZE)).cast("d")
        self.leads = False

    def fileno(self) -> int:
        """What becomes readable when a connection was handed over."""
        return self._takes.fileno()

    def look(self, now: float) -> bool:
        """Lead when nobody does, and show that this worker still does; whether it has begun to lead just now.

        To be called once a second at least.
        """
        if self.leads:
            self._shared[_SEEN] = now
            return False
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        self.leads = True
        self._shared[_HAS] = 0
        self._shared[_SEEN] = now
        return True

    def note(self, clients: int) -> None:
        """Say how many clients the one that leads has."""
        if self.leads:
            self._shared[_HAS] = clients

    def is_unattended(self, now: float) -> bool:
        """Whether nobody has led lately."""
        return now - self._shared[_SEEN] > _SEEN_SECONDS

    def give(self, sock: socket.socket, request: bytes, since: float, in_a_row: int) -> bool:
        """Hand a connection over when that is of use; whether it was: then it is another worker's.

        `in_a_row` is how many requests for certificates have come on it one after the other.
        """
        shared = self._shared
        if self.leads or in_a_row < IN_A_ROW or shared[_HAS] >= FEW or len(request) > _LONGEST - _SINCE.size:
            return False
        if self.is_unattended(time.monotonic()):
            return False
        try:
            socket.send_fds(self._gives, [_SINCE.pack(since), request], [sock.fileno()])
        except OSError:
            return False  # too much waits there
        # Until the one that leads counts again. Of two that do this at once one may be lost: no harm.
        shared[_HAS] += 1
        return True

    def taken(self) -> Iterator[Handed]:
        """What was handed over and nobody has taken."""
        while True:
            try:
                octets, numbers, _, _ = socket.recv_fds(self._takes, _LONGEST, 1, socket.MSG_CMSG_CLOEXEC)
            except OSError:
                return
            if not octets:
                return  # the other end was closed
            if numbers:  # else this process may open no more files, and the client asks anew
                (since,) = _SINCE.unpack_from(octets)
                yield Handed(socket.socket(fileno=numbers[0]), octets[_SINCE.size :], since)

    def retire(self) -> None:
        """Lead no more: another worker may from now on."""
        if self.leads:
            self.leads = False
            self._shared[_SEEN] = 0
            with contextlib.suppress(OSError):
                fcntl.lockf(self._lock, fcntl.LOCK_UN)

    def close(self) -> None:
        """Lead no more, and close what is shared in this process."""
        self.retire()
        self._gives.close()
        self._takes.close()
        self._shared.release()
        os.close(self._lock)
