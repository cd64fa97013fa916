"""Rate limits of this process alone: each worker counts for itself."""

import threading
import time
from functools import cached_property

from limits.storage import MemoryStorage

from ca_service.authority.ports import RATE_WINDOW_SECONDS, Allowance, RateLimiter
from ca_service.cache.allowance import allowance


class MemoryRateLimiter(RateLimiter):
    """Counts in the storage of `limits`; what has ended is dropped once a window."""

    def __init__(self, *, window_seconds: int = RATE_WINDOW_SECONDS) -> None:
        """Take the length of a window in seconds."""
        self._window = window_seconds
        self._lock = threading.Lock()
        self._next_sweep = time.monotonic() + window_seconds

    def take(self, key: str, limit: int) -> Allowance | None:
        """Count one more request of `key`; see ports.RateLimiter."""
        # The storage's own locks are not enough: of two threads that begin a window, one count is lost.
        with self._lock:
            self._sweep()
            count = self._storage.incr(key, self._window)
            left = self._storage.get_expiry(key) - time.time()
        return allowance(count, limit, left, self._window)

    @cached_property
    def _storage(self) -> MemoryStorage:
        """Made with the first request, so in the worker and not in the process that it was forked from."""
        storage = MemoryStorage()
        storage.timer.cancel()
        storage.timer.join()
        storage.timer = _NoTimer(0, _nothing)
        return storage

    def _sweep(self) -> None:
        now = time.monotonic()
        if now >= self._next_sweep:
            self._next_sweep = now + self._window
            for key in list(self._storage.expirations):
                self._storage.get(key)  # drops it when it has ended


class _NoTimer(threading.Timer):
    """Passes for a timer at work, so that the storage starts none.

    Its own start a thread up to a hundred times a second, which looks at every key (a fifth of a core for
    10,000 keys) and may drop a count that has just begun, since it knows no lock of ours.
    """

    def is_alive(self) -> bool:
        """Say so always."""
        return True


def _nothing() -> None:
    """Be what a timer that never runs would call."""
