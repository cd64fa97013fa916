"""What was redeemed, known to every worker process: one memory shared over fork."""

import mmap
import multiprocessing
import struct

from ca_service.errors import Unavailable

_SLOT = struct.Struct(">16sQ")  # the identifier, and the second from which it no longer matters
_LOCK_SECONDS = 5


class SingleUseRegister:
    """Identifiers that count once, whichever worker process is asked; made before the workers are forked.

    Anonymous shared memory and a lock, no file: nothing outlives the processes.
    """

    def __init__(self, slots: int = 4096) -> None:
        """Reserve room for `slots` identifiers alive at the same time."""
        self._slots = slots
        self._memory = mmap.mmap(-1, slots * _SLOT.size)
        self._lock = multiprocessing.get_context("fork").Lock()

    def redeem(self, identifier: bytes, *, now: int, expires: int) -> bool:
        """Remember a 16-byte identifier until `expires` (seconds since 1970); False when it was known.

        Raises Unavailable when every slot holds a living identifier, or when another process died while it
        held the lock: never is an identifier taken for fresh because it could not be remembered.
        """
        if not self._lock.acquire(timeout=_LOCK_SECONDS):
            raise Unavailable(
                "the register of redeemed codes stayed locked, as after a worker that was killed;"
                " restart `ca-service dev`"
            )
        try:
            free: int | None = None
            for slot in range(self._slots):
                stored, until = _SLOT.unpack_from(self._memory, slot * _SLOT.size)
                if until <= now:
                    free = slot if free is None else free
                elif stored == identifier:
                    return False
            if free is None:
                raise Unavailable(
                    f"{self._slots} codes were redeemed within their lifetime, more than the register holds;"
                    " try again in a minute",
                    retry_after=60,
                )
            _SLOT.pack_into(self._memory, free * _SLOT.size, identifier, expires)
            return True
        finally:
            self._lock.release()
