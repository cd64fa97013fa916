"""Connections that ask for certificates, brought together in one worker while one is enough for them.

A batch of the log costs, however many are in it, and code that has just run for one certificate runs faster
for the next. Few clients that fall on several workers make many small batches: slower, and dearer, than one
worker alone. Many, of which almost all fall on one, leave the other cores idle. Where connections fall is
chance, and clients keep them. So the worker that leads, by holding a lock, is handed connections of others,
those on which certificates were asked for in a row, with the request that has come, until it has FEW of them
or as many as they; when it has more than FEW, and more than the one with least, it hands out what is over.

Any worker may die or hang at any moment. What was handed over and not yet taken waits in sockets that all
workers have open, and that each looks into when those it was meant for seem not to, and before it ends.
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

MANY = 64
"""How many clients make full batches wherever they are: a worker that has so many hands nothing over."""

IN_A_ROW = 2
_SEEN_SECONDS = 2.5
"""A worker that has not shown itself for so long is given no more, and others look for what it was given."""
_SETTLE_SECONDS = 0.5
"""How long the one that leads waits, after it handed connections out, before it counts again."""
_LONGEST = 65_536
_SINCE = struct.Struct("d")
_SEEN, _HAS, _OTHERS = 0, 1, 2
_SLOTS = 64


class Handed(NamedTuple):
    """A connection, the request that came on it, and when, by the clock that never goes back."""

    sock: socket.socket
    request: bytes
    since: float


class Channel:
    """A way for connections from any process to whichever looks first."""

    def __init__(self) -> None:
        """Open it; nobody need ever wait for it."""
        self._gives, self._takes = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._gives.setblocking(False)
        self._takes.setblocking(False)

    def fileno(self) -> int:
        """What becomes readable when a connection is there."""
        return self._takes.fileno()

    def give(self, sock: socket.socket, request: bytes, since: float) -> bool:
        """Hand a connection over; False when too much waits there already."""
        try:
            socket.send_fds(self._gives, [_SINCE.pack(since), request], [sock.fileno()])
        except OSError:
            return False
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

    def close(self) -> None:
        """Close it in this process."""
        self._gives.close()
        self._takes.close()


class Handover:
    """What workers share for that: made in the first process, before they are forked."""

    def __init__(self) -> None:
        """Open the ways to the one that leads and from it, and a page that says how many clients each has."""
        self.to_leader, self.from_leader = Channel(), Channel()
        self._lock = os.memfd_create("ca-service-lead")
        os.ftruncate(self._lock, mmap.PAGESIZE)
        self._shared = memoryview(mmap.mmap(self._lock, mmap.PAGESIZE)).cast("d")
        self._slot = _OTHERS
        self._over = 0
        self._count_again = 0.0
        self._until_it_has = FEW
        self.leads = False

    def begin(self, number: int) -> None:
        """Be a worker: `number` tells those that run at the same time apart."""
        self._slot = _OTHERS + 2 * (number % _SLOTS)

    @property
    def listening(self) -> Channel:
        """Where this worker is handed connections."""
        return self.to_leader if self.leads else self.from_leader

    def look(self, now: float, clients: int) -> bool:
        """Lead when nobody does, and show how many clients this worker has; whether it leads from now on.

        To be called once a second at least.
        """
        shared = self._shared
        begins = not self.leads and self._is_first()
        if self.leads:
            shared[_SEEN], shared[_HAS] = now, clients
            shared[self._slot] = shared[self._slot + 1] = 0
            self._over = 0
            if FEW < clients < MANY and now >= self._count_again:
                least = min(self._others(now), default=clients)
                self._over = max(min(clients - FEW, int(clients - least) // 2), 0)
                self._count_again = now + _SETTLE_SECONDS
        else:
            shared[self._slot], shared[self._slot + 1] = clients, now
            self._until_it_has = max(FEW, int(clients + shared[_HAS]) // 2) if clients < MANY else 0
        return begins

    def _is_first(self) -> bool:
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        self.leads = True
        return True

    def _others(self, now: float) -> list[float]:
        """How many clients each of the others has that has shown itself."""
        shown = self._shared[_OTHERS : _OTHERS + 2 * _SLOTS].tolist()
        pairs = zip(shown[::2], shown[1::2], strict=True)
        return [clients for clients, at in pairs if at and now - at <= _SEEN_SECONDS]

    def is_unattended(self, now: float) -> bool:
        """Whether nobody has led lately."""
        return now - self._shared[_SEEN] > _SEEN_SECONDS

    def give(self, sock: socket.socket, request: bytes, since: float, in_a_row: int) -> bool:
        """Hand a connection over when that is of use; whether it was: then it is another worker's.

        `in_a_row` is how many requests for certificates have come on it one after the other.
        """
        if in_a_row < IN_A_ROW or len(request) > _LONGEST - _SINCE.size:
            return False
        if self.leads:
            if self._over <= 0 or not self.from_leader.give(sock, request, since):
                return False
            self._over -= 1
            return True
        if self._shared[_HAS] >= self._until_it_has or self.is_unattended(time.monotonic()):
            return False
        if not self.to_leader.give(sock, request, since):
            return False
        # Until the one that leads counts again. Of two that do this at once one may be lost: no harm.
        self._shared[_HAS] += 1
        return True

    def retire(self) -> None:
        """Be given nothing more; another worker may lead from now on."""
        self._shared[self._slot + 1] = 0
        if self.leads:
            self.leads = False
            self._shared[_SEEN] = 0
            with contextlib.suppress(OSError):
                fcntl.lockf(self._lock, fcntl.LOCK_UN)

    def close(self) -> None:
        """Retire, and close what is shared in this process."""
        self.retire()
        self.to_leader.close()
        self.from_leader.close()
        self._shared.release()
        os.close(self._lock)
