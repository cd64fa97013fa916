"""Rate limits that all processes and nodes share, in a Redis that may go away at any time."""

import logging
import threading
import time
from collections.abc import Callable

from limits.storage import RedisStorage
from redis import ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError
from redis.retry import Retry

from ca_service.authority.ports import RATE_WINDOW_SECONDS, Allowance, Observer
from ca_service.authority.waiting import about_to_wait
from ca_service.cache.allowance import allowance
from ca_service.errors import ConfigurationError

TIMEOUT_SECONDS = 0.1
PAUSE_SECONDS = 1.0
"""How long nobody asks a Redis that did not answer; then one request tries it again."""

KEY_PREFIX = "casvc:rate"
UNAVAILABLE = "rate_limit_unavailable"
ERROR = "redis_error"
"""Counted for everything that is done with Redis, by `use` (limits, wake-ups) and `reason`."""

_LOG = logging.getLogger(__name__)


def connections(url: str, timeout_seconds: float) -> ConnectionPool:
    """Connections to the Redis of a redis://, rediss:// or unix:// URL, made as they are needed.

    `timeout_seconds` bounds each wait, and nothing is tried twice: whoever asks goes on without. Raises
    ConfigurationError when the URL cannot be read.
    """
    try:
        return ConnectionPool.from_url(
            url,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError as error:
        raise ConfigurationError(
            "redis.url cannot be read; expected redis://[USER:PASSWORD@]HOST:PORT/NUMBER"
        ) from error


def drop(pool: ConnectionPool) -> None:
    """Close the connections that nobody uses now: what is left unread on one answers the next question."""
    pool.disconnect(inuse_connections=False)


class RedisRateLimiter:
    """Counts in the Redis storage of `limits`.

    While Redis is away or answers nonsense, every request goes on and is counted so.
    """

    def __init__(
        self,
        url: str,
        observer: Observer,
        *,
        window_seconds: int = RATE_WINDOW_SECONDS,
        timeout_seconds: float = TIMEOUT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take a redis://, rediss:// or unix:// URL; connects with the first request of each process.

        `timeout_seconds` bounds the wait for each answer.

        Raises ConfigurationError when the URL cannot be read.
        """
        self._pool = connections(url, timeout_seconds)
        self._storage = RedisStorage(url, connection_pool=self._pool, key_prefix=KEY_PREFIX)
        self._redis = Redis(connection_pool=self._pool)
        self._observer = observer
        self._window = window_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._away = False
        self._ask_again = 0.0

    def take(self, key: str, limit: int) -> Allowance | None:
        """Count one more request of `key`; see ports.RateLimiter."""
        if not self._away or self._clock() >= self._ask_again:
            about_to_wait()
        if self._away and not self._may_try():
            self._observer.count(UNAVAILABLE, reason="pause")
            return None
        try:
            taken = self._count(key, limit)
        except ResponseError as error:
            # It answers, and quickly: an error of this key (a value of another type), or of all (no rights).
            self._nonsense(type(error).__name__)
            return None
        except Exception as error:  # noqa: BLE001 - whatever a foreign server makes the library do, requests go on
            self._went_away(error)
            return None
        self._came_back()
        return taken

    def trouble(self) -> str | None:
        """Return why requests are not counted now, or None; counts one under a name of its own."""
        try:
            self._count("check", 1)
        except Exception as error:  # noqa: BLE001 - as in take; whoever asks reads what it was
            drop(self._pool)
            return f"{type(error).__name__}: {ascii(str(error))[1:-1]}"
        return None

    def close(self) -> None:
        """Close this process's connections."""
        self._pool.disconnect()

    def _count(self, key: str, limit: int) -> Allowance:
        # The strategies of `limits` would ask for the count again, and tell two callers the same remainder.
        count = self._storage.incr(key, self._window)
        if count < 1:
            raise ResponseError("a count below one")
        # Redis rounds to whole seconds: who waits as long as we say must not come too early.
        left = self._storage.get_expiry(key) - time.time() + 0.5
        if left <= 0.5:
            # Ends just now, or lost its end, and would then refuse for ever: it gets one unless it has one.
            self._redis.expire(self._storage.prefixed_key(key), self._window, nx=True)
        return allowance(count, limit, left, self._window)

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
        self._observer.count(ERROR, use="limits", reason="away")
        drop(self._pool)
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
        self._observer.count(ERROR, use="limits", reason="nonsense")
        drop(self._pool)
        _LOG.debug("Redis answered a rate limit with %s", what)
