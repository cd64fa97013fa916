"""Wake-ups within one process, and the choice between these and those of Redis."""

import hashlib
import threading

from ca_service.authority.ports import Observer, WakeUps


class MemoryWakeUps:
    """Wakes this process alone; the others find out when they look by themselves."""

    def __init__(self) -> None:
        """Begin asleep."""
        self._woken = threading.Event()

    def send(self) -> None:
        """Wake whoever waits in this process; see ports.WakeUps."""
        self._woken.set()

    def wait(self, seconds: float) -> bool:
        """Sleep until woken, or for so long; see ports.WakeUps."""
        woken = self._woken.wait(seconds)
        # Before the caller looks: what is sent from now on may be missed by that look, and wakes it again.
        self._woken.clear()
        return woken

    def close(self) -> None:
        """Wake whoever waits."""
        self._woken.set()


def wake_ups_of(redis_url: str, service: str, observer: Observer) -> WakeUps:
    """Wake-ups for the processes of the service of this name; with an empty URL for this process alone.

    Raises ConfigurationError when the URL cannot be read.
    """
    if not redis_url:
        return MemoryWakeUps()
    # Loaded only where it is used: a command that revokes is done before the library is there.
    from ca_service.cache.redis_wake_ups import RedisWakeUps

    return RedisWakeUps(redis_url, hashlib.sha256(service.encode()).hexdigest()[:32], observer)
