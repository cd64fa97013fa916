"""Taking turns between processes of one machine, by a lock file that stays where it is."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ca_service.files.owners import opened_lock


@contextmanager
def turn(lock: Path, *, seconds: float = 0.0) -> Iterator[bool]:
    """True inside when the lock was had within so many seconds, which then holds to the end of the block.

    The end of the process frees it too, however it comes. Raises OSError when the file cannot be opened.
    """
    descriptor = opened_lock(lock)
    try:
        # A blocking flock has no time limit, and a stopped holder must not stop everybody.
        deadline, had = time.monotonic() + seconds, _try(descriptor)
        while not had and time.monotonic() < deadline:
            time.sleep(0.005)
            had = _try(descriptor)
        yield had
    finally:
        os.close(descriptor)


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
