"""What the authority needs of the world, as narrow Protocols, and the records that pass through them.

Adapters live on floor 3. A comment under a method is its contract: every adapter keeps it, and one contract
suite in tests/contract holds all adapters of a port to it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ca_service.authority.waiting import Elsewhere
from ca_service.vocabulary import (
    TimestampMs,
)


class Clock(Protocol):
    """The time, as a parameter, so that tests can set it."""

    def __call__(self) -> TimestampMs:
        """Milliseconds since 1970 in UTC."""
        ...


RATE_WINDOW_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left of a limit: `remaining` more requests within `reset_after` seconds (at least 1)."""

    allowed: bool
    limit: int
    remaining: int
    reset_after: int


Counts = Sequence[tuple[str, int]]
"""Keys with their limits."""

Allowances = Sequence[Allowance | None]
"""What each key that was counted allows."""


class Question(Elsewhere):
    """What was asked of a limiter, and its answers once it `is_over`; until then nobody can tell."""

    __slots__ = ("answers", "counts")

    def __init__(self, counts: Counts, flush: Callable[[], None]) -> None:
        """Take what is asked, and how the asking is begun."""
        super().__init__(flush)
        self.counts = counts
        self.answers: Allowances = ()


class RateLimiter(Protocol):
    """Counts requests by key, in windows."""

    def take(self, key: str, limit: int) -> Allowance | None:
        """Count one more request of `key`; allowed while its window has seen no more than `limit`.

        A window begins with the first request of its key and lasts RATE_WINDOW_SECONDS; what is refused does
        not lengthen it. Exactly `limit` are allowed, however many ask at once. `key` is a hash: an adapter
        may show it to others. Never raises, and returns within a fraction of a second; None when nobody can
        tell now, and the request then goes on.
        """
        ...

    def take_in_turn(self, counts: Counts) -> Allowances:
        """Count one request under several keys, one after the other, up to the first that refuses it."""
        taken: list[Allowance | None] = []
        for key, limit in counts:
            allowance = self.take(key, limit)
            taken.append(allowance)
            if allowance is not None and not allowance.allowed:
                break
        return taken

    def ask(self, counts: Counts) -> Question | None:  # noqa: ARG002 - for those that override it
        """The same for a thread that may not wait; None when `take_in_turn` does not wait either."""
        return None


@dataclass(frozen=True, slots=True)
class TokenUse:
    """That a token was used: a hash that names it, and until when it could be used again (seconds)."""

    token_hash: bytes
    expires: int


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: `name` is an OIDC subject or `local:USER`; `source` an address or host; a request id."""

    name: str
    source: str
    request_id: str


class WakeUps(Protocol):
    """Hints between processes and nodes that the database is worth a look now.

    They carry nothing, and may be lost, late, repeated or forged: who is woken looks, and believes what is
    there.
    """

    def send(self) -> None:
        """Wake whoever waits in this process, and in all others of the service that the adapter reaches.

        Never raises, and returns within a fraction of a second.
        """
        ...

    def wait(self, seconds: float) -> bool:
        """Sleep until woken, or for so long, and say whether it was a wake-up; many at once are one.

        For one thread of each process; what it reaches begins with the first call after a fork. Never raises.
        """
        ...

    def close(self) -> None:
        """End what runs in this process for it, and wake whoever waits."""
        ...


class Observer(Protocol):
    """Where the authority tells what it did, for metrics; it must not fail and not block."""

    def count(self, event: str, **labels: str) -> None:
        """One more of this event."""
        ...

    def duration(self, stage: str, seconds: float) -> None:
        """How long a stage of the work took."""
        ...

    def size(self, what: str, number: float) -> None:
        """How much was done at once."""
        ...

    def level(self, what: str, value: float, **labels: str) -> None:
        """How high something stands in this process now."""
        ...
