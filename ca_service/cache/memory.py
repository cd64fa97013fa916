"""Rate limits of this process alone: each worker counts for itself."""

import math
import threading
import time
from collections.abc import Callable

from ca_service.authority.ports import RATE_WINDOW_SECONDS, Allowance


class MemoryRateLimiter:
    """Counts in a dictionary; what has ended is dropped once a window."""

    def __init__(
        self, *, window_seconds: float = RATE_WINDOW_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Take the length of a window and a clock that never goes back, both in seconds."""
        self._window = window_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._windows: dict[str, tuple[int, float]] = {}  # how many, and when it ends
        self._next_sweep = clock() + window_seconds

    def take(self, key: str, limit: int) -> Allowance | None:
        """Count one more request of `key`; see ports.RateLimiter."""
        with self._lock:
            now = self._clock()
            if now >= self._next_sweep:
                self._sweep(now)
            count, ends = self._windows.get(key, (0, 0.0))
            if now >= ends:
                count, ends = 0, now + self._window
            count += 1
            self._windows[key] = (count, ends)
        # Rounded first: the sum and difference of two floats may come out a hair over the window.
        seconds = max(math.ceil(round(ends - now, 3)), 1)
        return Allowance(count <= limit, limit, max(limit - count, 0), seconds)

    def __len__(self) -> int:
        """How many keys are kept."""
        return len(self._windows)

    def _sweep(self, now: float) -> None:
        self._windows = {key: window for key, window in self._windows.items() if now < window[1]}
        self._next_sweep = now + self._window
