"""Rate limits that all processes and nodes share, in a Redis that may go away at any time."""

import logging
import math
import threading
import time
from collections.abc import Callable

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError
from redis.retry import Retry

from ca_service.authority.ports import RATE_WINDOW_SECONDS, Allowance, Observer
from ca_service.errors import ConfigurationError

TIMEOUT_SECONDS = 0.1
PAUSE_SECONDS = 1.0
"""How long nobody asks a Redis that did not answer; then one request tries it again."""

UNAVAILABLE = "rate_limit_unavailable"

# One exchange. The time to live is set again should it be missing: a key without one would count for ever.
_TAKE = """\
local count = redis.call('INCR', KEYS[1])
local left = redis.call('PTTL', KEYS[1])
if left < 0 then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
  left = tonumber(ARGV[1])
end
return {count, left}
"""

_LOG = logging.getLogger(__name__)


class RedisRateLimiter:
    """Counts in Redis. While it is away or answers nonsense, every request goes on and is counted so."""

    def __init__(
        self,
        url: str,
        observer: Observer,
        *,
        window_seconds: float = RATE_WINDOW_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take a redis://, rediss:// or unix:// URL; connects with the first request of each process.

        Raises ConfigurationError when the URL cannot be read.
        """
        try:
            self._redis = Redis.from_url(
                url,
                socket_timeout=TIMEOUT_SECONDS,
                socket_connect_timeout=TIMEOUT_SECONDS,
                # A request must not wait for a second try: it goes on without.
                retry=Retry(NoBackoff(), 0),
            )
        except ValueError as error:
            raise ConfigurationError(
                "redis.url cannot be read; expected redis://[USER:PASSWORD@]HOST:PORT/NUMBER"
            ) from error
        self._observer = observer
        self._window_ms = int(window_seconds * 1000)
        self._clock = clock
        self._script = self._redis.register_script(_TAKE)
        self._lock = threading.Lock()
        self._away = False
        self._ask_again = 0.0

    def take(self, key: str, limit: int) -> Allowance | None:
        """Count one more request of `key`; see ports.RateLimiter."""
        if self._away and not self._may_try():
            self._observer.count(UNAVAILABLE, reason="pause")
            return None
        try:
            answer = self._script(keys=[f"casvc:rate:{key}"], args=[self._window_ms])
        except ResponseError as error:
            # It answers, and quickly: an error of this key (a value of another type), or of all (no rights).
            self._nonsense(type(error).__name__)
            return None
        except Exception as error:  # noqa: BLE001 - whatever a foreign server makes the library do, requests go on
            self._went_away(error)
            return None
        self._came_back()
        match answer:
            case [int(count), int(left)] if count > 0 and 0 <= left <= self._window_ms:
                seconds = max(math.ceil(left / 1000), 1)
                return Allowance(count <= limit, limit, max(limit - count, 0), seconds)
            case _:
                self._nonsense("another answer than two numbers")
                return None

    def close(self) -> None:
        """Close this process's connections."""
        self._redis.close()

    def _may_try(self) -> bool:
        """Whether this request is the one that asks again; the others go on without."""
        with self._lock:
            now = self._clock()
            if now < self._ask_again:
                return False
            self._ask_again = now + PAUSE_SECONDS
            return True

    def _went_away(self, error: Exception) -> None:
        self._observer.count(UNAVAILABLE, reason="away")
        with self._lock:
            first, self._away = not self._away, True
            self._ask_again = self._clock() + PAUSE_SECONDS
        if first:
            _LOG.warning(
                "Redis is away (%s): rate limits are not held until it is back", type(error).__name__
            )

    def _came_back(self) -> None:
        if self._away:
            with self._lock:
                self._away = False
            _LOG.warning("Redis is back, and with it the rate limits")

    def _nonsense(self, what: str) -> None:
        self._observer.count(UNAVAILABLE, reason="nonsense")
        _LOG.debug("Redis answered a rate limit with %s", what)
