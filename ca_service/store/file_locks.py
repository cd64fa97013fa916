"""Locks between the threads and processes of one machine: files beside the database, each with a name."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ca_service.errors import StoreUnavailable

_SHORT_SECONDS, _SHORT_PAUSE = 0.003, 0.0001
"""A batch takes a millisecond, and nobody writes while the next one sleeps: so long it looks so often."""
_LONGEST_PAUSE = 0.002


class FileLocks:
    """The locks whose files' names begin with a path; the end of a holder frees its lock, however it ends."""

    def __init__(self, path: str, patience: float) -> None:
        """Take the path, and the longest wait (seconds)."""
        self._path = path
        self._patience = patience

    @contextmanager
    def held(self, suffix: str, within: float | None = None) -> Iterator[None]:
        """Hold a lock, waiting at most `within` (seconds) where that is less than the longest wait.

        Raises StoreUnavailable. Who has just released it could take it again before anybody who sleeps
        between two tries wakes up. The turnstile prevents that: one waiter stands in it until the lock is
        its own, so that processes which all have entries write in turn, each while others' gather.
        """
        patience = self._patience if within is None else min(within, self._patience)
        deadline = time.monotonic() + patience
        turnstile = self._waited_for(f"{suffix}.turnstile", deadline, patience)
        try:
            lock = self._waited_for(suffix, deadline, patience)
        finally:
            os.close(turnstile)
        try:
            yield
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)  # a child that was forked meanwhile has the descriptor too
            os.close(lock)

    def tried(self, suffix: str) -> int | None:
        """A descriptor that holds the lock, None when somebody else does; StoreUnavailable."""
        lock = self._open(suffix)
        if _taken(lock):
            return lock
        os.close(lock)
        return None

    def _waited_for(self, suffix: str, deadline: float, patience: float) -> int:
        """A descriptor that holds the lock: a new one each time, which keeps threads apart too."""
        lock = self._open(suffix)
        try:
            _wait(lock, deadline, patience)
        except BaseException:
            os.close(lock)
            raise
        return lock

    def _open(self, suffix: str) -> int:
        try:
            return _opened(f"{self._path}{suffix}")
        except OSError as error:
            raise StoreUnavailable(
                f"the lock file beside the database cannot be opened: {error.strerror}; "
                "the service must be able to write to the database's folder"
            ) from error


def _opened(name: str) -> int:
    """What root makes belongs to the owner of the folder, whose service must open it too.

    Only a file that was made here changes its owner: a name that leads elsewhere must give nothing away.
    """
    try:
        return os.open(name, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        pass
    try:
        lock = os.open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except FileExistsError:  # another process made it in the meantime
        return os.open(name, os.O_RDWR | os.O_CLOEXEC)
    try:
        if os.geteuid() == 0:
            owner = Path(name).parent.stat()
            os.fchown(lock, owner.st_uid, owner.st_gid)
    except BaseException:
        os.close(lock)
        raise
    return lock


def _wait(lock: int, deadline: float, patience: float) -> None:
    """A blocking flock has no time limit, and a stopped holder must not stop everybody."""
    pause, short = _SHORT_PAUSE, time.monotonic() + _SHORT_SECONDS
    while not _taken(lock):
        if (now := time.monotonic()) > deadline:
            raise StoreUnavailable(
                f"another process has held the database's lock for {patience:.3g} s; "
                "look for one that is stopped or stuck",
                retry_after=2,
            )
        time.sleep(pause)
        if now > short:
            pause = min(pause * 1.3, _LONGEST_PAUSE)


def _taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
