"""Rate limits that all processes and nodes share, in a Redis that may go away at any time."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from redis import ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError
from redis.retry import Retry

from ca_service.authority.ports import (
    RATE_WINDOW_SECONDS,
    Allowance,
    Allowances,
    Counts,
    Observer,
    Question,
)
from ca_service.authority.waiting import Background, about_to_wait
from ca_service.cache.allowance import allowance
from ca_service.errors import ConfigurationError

TIMEOUT_SECONDS = 0.1
PAUSE_SECONDS = 1.0
"""How long nobody asks a Redis that did not answer; then one request tries it again."""

KEY_PREFIX = "casvc:rate"
_COUNT = """
-- For each request its keys, counted in turn until one refuses: what each holds then, for how many seconds.
-- A key that holds something else, 0 and 0; one that was not counted, 0 and -1.
local told, key, place = {}, 0, 2
while place < #ARGV do
  local keys, going = tonumber(ARGV[place]), true
  for taken = 1, keys do
    key = key + 1
    local count, left = 0, -1
    if going then
      count = redis.pcall('INCRBY', KEYS[key], 1)
      if type(count) ~= 'table' then
        left = count > 1 and redis.call('TTL', KEYS[key]) or -1
        if left < 0 then
          redis.call('EXPIRE', KEYS[key], ARGV[1])
          left = tonumber(ARGV[1])
        end
        going = count <= tonumber(ARGV[place + taken])
      elseif count.err:find('WRONGTYPE') or count.err:find('integer') or count.err:find('overflow') then
        count, left = 0, 0
      else
        return count
      end
    end
    told[#told + 1] = count
    told[#told + 1] = left
  end
  place = place + keys + 1
end
return told
"""
_TOGETHER = 128
"""How many requests one question is about at most: Redis does nothing else meanwhile."""

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
    """Counts in Redis, in one question for all that ask at once.

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
        self._count = Redis(connection_pool=self._pool).register_script(_COUNT)
        self._observer = observer
        self._window = window_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._away = False
        self._ask_again = 0.0
        self._asked: deque[Question] = deque()
        self._asking = Background("rate-limits", self._answer)

    def take(self, key: str, limit: int) -> Allowance | None:
        """Count one more request of `key`; see ports.RateLimiter."""
        return self.take_in_turn([(key, limit)])[0]

    def take_in_turn(self, counts: Counts) -> Allowances:
        """Count one request under several keys; see ports.RateLimiter."""
        if not self._is_in_pause():
            about_to_wait()
        return self._take_each([counts])[0]

    def ask(self, counts: Counts) -> Question | None:
        """The same for a thread that may not wait; see ports.RateLimiter."""
        if self._is_in_pause():
            return None
        question = Question(counts, self._asking.want)
        self._asked.append(question)
        return question

    def _answer(self) -> None:
        """Answer what is asked, all of it together."""
        asked: list[Question] = []
        while self._asked and len(asked) < _TOGETHER:
            asked.append(self._asked.popleft())
        try:
            answers = self._take_each([question.counts for question in asked])
            for question, answer in zip(asked, answers, strict=True):
                question.answers = answer
        finally:
            for question in asked:
                question.end()
        if self._asked:
            self._asking.want()

    def _is_in_pause(self) -> bool:
        return self._away and self._clock() < self._ask_again

    def _take_each(self, asked: Sequence[Counts]) -> list[Allowances]:
        """Ask Redis about several requests at once."""
        unknown: list[Allowances] = [[None] * len(counts) for counts in asked]
        if self._away and not self._may_try():
            for _ in asked:
                self._observer.count(UNAVAILABLE, reason="pause")
            return unknown
        try:
            taken = self._told(asked)
        except ResponseError as error:
            # It answers, and quickly, but lacks something: the right to run scripts, memory, a master.
            self._nonsense(type(error).__name__, len(asked))
            drop(self._pool)
            return unknown
        except Exception as error:  # noqa: BLE001 - whatever a foreign server makes the library do, requests go on
            self._went_away(error, len(asked))
            return unknown
        self._came_back()
        return taken

    def trouble(self) -> str | None:
        """Return why requests are not counted now, or None; counts one under a name of its own."""
        try:
            self._told([[("check", 1)]])
        except Exception as error:  # noqa: BLE001 - as in take; whoever asks reads what it was
            drop(self._pool)
            return f"{type(error).__name__}: {ascii(str(error))[1:-1]}"
        return None

    def close(self) -> None:
        """Close this process's connections."""
        self._pool.disconnect()

    def _told(self, asked: Sequence[Counts]) -> list[Allowances]:
        """Count, and read what Redis says to it; raises whatever the library does, and ResponseError."""
        keys = [f"{KEY_PREFIX}:{key}" for counts in asked for key, _ in counts]
        arguments: list[int] = [self._window]
        for counts in asked:
            arguments += (len(counts), *(limit for _, limit in counts))
        told = self._count(keys, arguments)
        if not isinstance(told, list) or len(told) != 2 * len(keys) or not all(type(n) is int for n in told):
            raise ResponseError("no counts")
        pairs = zip(told[::2], told[1::2], strict=True)
        return [
            [
                self._allowance(count, left, limit)
                for (_, limit), (count, left) in zip(counts, pairs, strict=False)
            ]
            for counts in asked
        ]

    def _allowance(self, count: int, left: int, limit: int) -> Allowance | None:
        if left < 0:
            return None  # it was refused before
        if count < 1:
            self._nonsense("a count that is none")
            return None
        # Redis rounds to whole seconds: who waits as long as we say must not come too early.
        return allowance(count, limit, left + 0.5, self._window)

    def _may_try(self) -> bool:
        """Whether this request is the one that asks again; the others go on without."""
        with self._lock:
            now = self._clock()
            if now < self._ask_again:
                return False
            self._ask_again = now + PAUSE_SECONDS
            return True

    def _went_away(self, error: Exception, requests: int) -> None:
        for _ in range(requests):
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

    def _nonsense(self, what: str, requests: int = 1) -> None:
        for _ in range(requests):
            self._observer.count(UNAVAILABLE, reason="nonsense")
        self._observer.count(ERROR, use="limits", reason="nonsense")
        _LOG.debug("Redis answered a rate limit with %s", what)
