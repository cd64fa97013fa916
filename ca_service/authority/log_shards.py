"""The log in shards: logs with keys of their own, one after another by the notAfter of what they take.

A shard is prepared and published before its period, takes the certificates that expire in it, and is frozen
after it. Here are the rules; the store keeps them under each log's lock.
"""

import enum
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ca_service.authority.log import LogIdentity, SignTreeHead
from ca_service.authority.log_ports import PendingCertificate, Sequenced, Ticket, TreeHead
from ca_service.authority.ports import Actor, Observer
from ca_service.authority.waiting import Lately
from ca_service.errors import LogClosed, LogUnavailable, StoreUnavailable

LEAD_SECONDS = 7 * 86_400
"""How long before its period a shard is published, so that clients fetch trust material that names it."""

FREEZE_AFTER_SECONDS = 60
"""How long after its period a shard is frozen by itself: nodes' clocks differ a little."""

_LONGEST_LIFETIME_SECONDS = 86_400
_FRESH_SECONDS = 1.0
_USABLE_SECONDS = 3.0
_MAX_NAMES = 10_000


@dataclass(frozen=True, slots=True)
class Period:
    """Which certificates a shard takes: those with notAfter in [starts, ends), seconds since 1970."""

    starts: int = 0
    ends: int | None = None

    def covers(self, not_after: int) -> bool:
        """Whether a certificate that expires then belongs here."""
        return self.starts <= not_after and (self.ends is None or not_after < self.ends)

    def require(self, shard: str, not_after: int) -> None:
        """Raise LogClosed when a certificate that expires then belongs into another shard."""
        if not self.covers(not_after):
            raise LogClosed(
                f"the log shard {shard} takes no certificate that expires at {not_after}: its period is "
                f"[{self.starts}, {'open' if self.ends is None else self.ends})",
                retry_after=1,
            )


class ShardState(enum.StrEnum):
    """Where a shard is in its life."""

    PREPARED = "prepared"
    ACTIVE = "active"
    ENDED = "ended"
    FROZEN = "frozen"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class LogShard:
    """A shard: who it is, what it takes, whether its last head is signed.

    `retired_for` is why it was closed out of turn: it then has no final head of its own, but the newest that
    was signed before.
    """

    identity: LogIdentity
    period: Period = Period()
    frozen: bool = False
    retired_for: str = ""

    @property
    def name(self) -> str:
        """Its name, as in its URL."""
        return self.identity.shard

    def state(self, not_after: int) -> ShardState:
        """Its state for a certificate that would expire then, as one issued now would."""
        if self.frozen:
            return ShardState.RETIRED if self.retired_for else ShardState.FROZEN
        if self.period.starts > not_after:
            return ShardState.PREPARED
        return ShardState.ACTIVE if self.period.covers(not_after) else ShardState.ENDED

    @property
    def trusted_from(self) -> int:
        """The earliest moment (seconds) at which an SCT of it may have been made."""
        return max(0, self.period.starts - _LONGEST_LIFETIME_SECONDS)


@dataclass(frozen=True, slots=True)
class Placement:
    """What opening a shard does to the periods: its own, and that of the shard it takes over from."""

    period: Period
    shortened: LogShard | None


class LogShards(Protocol):
    """Where shards are kept; each method is one durable transaction with its audit record."""

    def all(self) -> Sequence[LogShard]:
        """Every shard, the earliest period first; raises StoreUnavailable."""
        ...

    def open(self, log: LogIdentity, head: TreeHead, starts: int, actor: Actor) -> LogShard:
        """Store a new shard with the head of its empty tree, and end the period of the one before it.

        Its period starts at `starts`, or later if the one before it already took certificates that expire
        later. Raises AlreadyExists for a name, key or start that is taken; StoreUnavailable.
        """
        ...

    def move(self, shard: str, starts: int, actor: Actor) -> LogShard:
        """Give an empty shard whose period has not begun another start, as `open` would.

        Raises NotFound, InvalidRequest, AlreadyExists, StoreUnavailable.
        """
        ...

    def freeze(self, shard: str, sign: SignTreeHead, actor: Actor) -> TreeHead:
        """Sign the final head of a shard whose period is over; from then on nothing gets into it.

        The same again returns that head. Raises NotFound, InvalidRequest (its period goes on), ClockBehind,
        StoreUnavailable.
        """
        ...

    def retire(self, shard: str, reason: str, actor: Actor) -> LogShard:
        """Close a shard at once and sign nothing: it was lost, rolled back, or its key is not ours alone.

        Raises NotFound, InvalidRequest (no reason given), StoreUnavailable.
        """
        ...


def place(shards: Sequence[LogShard], starts: int, newest_not_after: Callable[[LogShard], int]) -> Placement:
    """Find room for a new shard: its period, and the shard that ends where it starts.

    `newest_not_after` says when the last certificate of a shard expires (seconds; 0 when it has none): the
    new period starts after it, so that every entry stays inside its shard's period. Raises ValueError when
    another shard starts at the same moment.
    """
    open_ = [shard for shard in shards if not shard.frozen]
    while shortened := next((shard for shard in open_ if shard.period.covers(starts)), None):
        if shortened.period.starts == starts:
            raise ValueError("another shard starts at this moment")
        earliest = newest_not_after(shortened) + 1
        if earliest <= starts:
            break
        starts = earliest
    later = [shard.period.starts for shard in open_ if shard.period.starts > starts]
    return Placement(Period(starts, min(later, default=None)), shortened)


def next_name(year: int, taken: Callable[[str], bool]) -> str:
    """Name a shard after the year its period starts in: 2027, then 2027-2, 2027-3."""
    names = (f"{year}", *(f"{year}-{number}" for number in range(2, _MAX_NAMES)))
    return next(name for name in names if not taken(name))


class ShardDirectory:
    """The shards as a process knows them: read again when what it knows is a second old.

    Nobody has to tell it of a new shard. When the database does not answer, the last known are kept.
    """

    def __init__(
        self, read: Callable[[], Sequence[LogShard]], elapsed: Callable[[], float], observer: Observer
    ) -> None:
        """Take LogShards.all and a clock of seconds that never goes back; nothing is read yet."""
        self._read = read
        self._lately = Lately(_FRESH_SECONDS, _USABLE_SECONDS, elapsed)
        self._observer = observer
        self._known: tuple[LogShard, ...] = ()
        self._reading = threading.Lock()

    def all(self) -> Sequence[LogShard]:
        """Every shard, the earliest period first; StoreUnavailable only when none was ever read."""
        if not self._known:
            return self.refreshed()
        if self._lately.is_due() and self._reading.acquire(blocking=False):
            # One thread asks; the others go on with what is known.
            try:
                self._take()
            except StoreUnavailable:
                self._lately.went_well()  # not to be asked by every request
                self._observer.count("log_shards_not_read")
            finally:
                self._reading.release()
        return self._known

    def refreshed(self) -> Sequence[LogShard]:
        """The same, read now; raises StoreUnavailable."""
        with self._reading:
            self._take()
        return self._known

    def taking(self, not_after: int) -> LogShard:
        """The shard that takes a certificate that expires then; LogUnavailable when there is none."""
        for shard in self.all():
            if not shard.frozen and shard.period.covers(not_after):
                return shard
        raise LogUnavailable(
            "no shard of the log takes certificates now: the last one was closed and no other is open",
            retry_after=30,
        )

    def get(self, name: str) -> LogShard | None:
        """The shard of this name, or None."""
        return next((shard for shard in self.all() if shard.name == name), None)

    def _take(self) -> None:
        self._known = tuple(self._read())
        self._lately.went_well()


class ShardSequencer(Protocol):
    """The sequencer of one shard: store.sequencer.BatchingSequencer."""

    def append(self, entry: PendingCertificate, within: float | None = None) -> Sequenced:
        """As log_ports.Sequencer; raises LogClosed too, for an entry that belongs into another shard."""
        ...

    def submit(self, entry: PendingCertificate, done: Callable[[], None]) -> Ticket:
        """As log_ports.Sequencer; the ticket's result raises LogClosed too."""
        ...

    def begin(self) -> None:
        """Let everything that was submitted be stored now."""
        ...

    def republish(self) -> TreeHead | None:
        """Sign the newest head anew when it is old; None when it is not."""
        ...

    def close(self) -> None:
        """Write what waits and end the thread."""
        ...


class ShardedSequencer:
    """Puts each certificate into the shard that its notAfter names: an adapter of log_ports.Sequencer."""

    def __init__(self, directory: ShardDirectory, open_shard: Callable[[LogShard], ShardSequencer]) -> None:
        """Take the shards, and what makes the sequencer of one (LogUnavailable when it has no key)."""
        self._directory = directory
        self._open_shard = open_shard
        self._opening = threading.Lock()
        self._opened: dict[str, ShardSequencer] = {}

    def append(self, entry: PendingCertificate, within: float | None = None) -> Sequenced:
        """As log_ports.Sequencer says."""
        try:
            return self._of(self._directory.taking(entry.not_after)).append(entry, within)
        except LogClosed:
            # The periods were changed within the last second. An SCT is not made before the entry is stored,
            # and the precertificate names no log: the entry can go into the shard that is right now.
            self._directory.refreshed()
            return self._of(self._directory.taking(entry.not_after)).append(entry, within)

    def submit(self, entry: PendingCertificate, done: Callable[[], None]) -> Ticket:
        """As log_ports.Sequencer says, but that the ticket's result may raise LogClosed: append it then."""
        return self._of(self._directory.taking(entry.not_after)).submit(entry, done)

    def begin(self) -> None:
        """As log_ports.Sequencer says."""
        for sequencer in list(self._opened.values()):
            sequencer.begin()

    def republish(self, shard: LogShard) -> None:
        """Sign the newest head of a shard anew when it is old; raises as append does."""
        self._of(shard).republish()

    def close(self) -> None:
        """Write what waits and end this process's threads."""
        with self._opening:
            opened, self._opened = self._opened, {}
        for sequencer in opened.values():
            sequencer.close()

    def _of(self, shard: LogShard) -> ShardSequencer:
        opened = self._opened.get(shard.name)
        if opened is None:
            with self._opening:
                opened = self._opened.get(shard.name)
                if opened is None:
                    opened = self._opened[shard.name] = self._open_shard(shard)
        return opened
