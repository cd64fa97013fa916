"""The one transaction that puts a batch of entries into a log: durable as a whole, or not at all."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, NamedTuple, TypeVar

from ca_service.authority.log import (
    LogHead,
    LogIdentity,
    NextHead,
    SignTreeHead,
    next_timestamp,
    sequence,
    sign_head,
)
from ca_service.authority.log_ports import Sequenced, TreeHead
from ca_service.authority.log_shards import Period
from ca_service.authority.mark import LogMark
from ca_service.authority.ports import Clock
from ca_service.authority.rollback import RollbackGuard
from ca_service.errors import (
    CAError,
    ConfigurationError,
    InvalidRequest,
    LogClosed,
    LogUnavailable,
    StoreUnavailable,
)
from ca_service.store.database import Database
from ca_service.store.entry_kinds import BesideLeaf, EntryKind
from ca_service.store.faults import CommitUnknown, DiskUntrusted, RowRefused
from ca_service.store.log_rows import LOCKED_HEAD, read_head, store_full_tiles, store_head, store_leaves
from ca_service.store.logs import find_log, index_of_leaf
from ca_service.store.quick import Transaction

Outcome = Sequenced | CAError


class Stored(NamedTuple):
    """What became of each entry of a batch, and the head that it led to: None when nothing was stored."""

    outcomes: list[Outcome]
    head: LogMark | None


_Entry = TypeVar("_Entry")


class Prepared(NamedTuple, Generic[_Entry]):
    """An entry, and what its row keeps beside the leaf: made before the lock, for which everybody waits."""

    entry: _Entry
    beside: BesideLeaf


def _nobody() -> tuple[()]:
    return ()


class LogAppender(Generic[_Entry]):
    """Appends to one log; used by one thread at a time."""

    def __init__(
        self,
        database: Database,
        log: LogIdentity,
        sign_tree_head: SignTreeHead,
        clock: Clock,
        entries: EntryKind[_Entry],
        guard: RollbackGuard | None = None,
    ) -> None:
        """Join the collaborators; nothing is read yet."""
        self._database = database
        self._log = log
        self._sign_tree_head = sign_tree_head
        self._clock = clock
        self._entries = entries
        self._guard = guard
        self._number: int | None = None
        self._known_certificates: set[bytes] = set()

    def append(self, entries: Sequence[_Entry]) -> list[Outcome]:
        """Store entries and return, in their order, where each went or why it did not.

        A refused row fails its own entry only. Raises ClockBehind, ConfigurationError, StoreUnavailable
        (DiskUntrusted) when none was stored or it cannot be known, and RolledBack or MarkUnavailable.
        """
        stored = self.store([self.prepared(entry) for entry in entries])
        self.record(stored.head)
        return stored.outcomes

    def prepared(self, entry: _Entry) -> Prepared[_Entry]:
        """An entry as `store` takes it."""
        return Prepared(entry, self._entries.beside_leaf(entry))

    def store(
        self,
        entries: Sequence[Prepared[_Entry]],
        join: Callable[[], Sequence[Prepared[_Entry]]] = _nobody,
    ) -> Stored:
        """As `append`, but that nothing of it may be released before `record` has taken its head.

        `join` is asked, at most once and when the log's lock is held, for what has come meanwhile: the time
        in which others write makes batches fuller. Outcomes are of `entries`, then of what joined.
        """
        together = list(entries)

        def joined() -> list[Prepared[_Entry]]:
            together.extend(join())
            return together

        try:
            return self._append_together(joined)
        except RowRefused:
            alone = [self._append_alone(entry) for entry in together]
            heads = [each.head for each in alone if each.head is not None]
            return Stored([each.outcomes[0] for each in alone], heads[-1] if heads else None)

    def record(self, head: LogMark | None) -> None:
        """Let the mark rise to a head that was stored: what is released must never be forgotten everywhere.

        Raises RolledBack, MarkUnavailable.
        """
        if self._guard is not None and head is not None:
            self._guard.record_head(self._log.log_id, head)

    def _append_alone(self, one: Prepared[_Entry]) -> Stored:
        try:
            return self._append_together(lambda: [one])
        except RowRefused as error:
            refusal = LogUnavailable(
                f"the log could not store {self._entries.name_of(one.entry)}: {error.message}",
                retry_after=error.retry_after,
            )
            refusal.__cause__ = error
            return Stored([refusal], None)
        except DiskUntrusted:
            raise
        except StoreUnavailable as error:
            told = LogUnavailable(f"the log stored nothing: {error.message}", retry_after=error.retry_after)
            return Stored([told], None)
        except CAError as error:
            return Stored([error], None)

    def republish(self, older_than_ms: int) -> TreeHead | None:
        """Sign the same tree anew with the present time when its head is older; None when it was not.

        Raises as `append` does.
        """
        number = self._log_number()
        with self._database.quick_writing() as transaction:
            head, _ = self._locked_head(transaction, number)
            self._admit(head)
            timestamp = next_timestamp(head, self._clock())
            if timestamp - head.timestamp <= older_than_ms:
                return None
            same = NextHead((), LogHead(head.frontier, timestamp), head.frontier.root())
            signed = sign_head(self._log, same, self._sign_tree_head)
            store_head(transaction, number, head, same, signed)
        return signed

    def _append_together(self, together: Callable[[], Sequence[Prepared[_Entry]]]) -> Stored:
        entries: Sequence[Prepared[_Entry]] = ()
        outcomes: dict[int, Outcome] = {}
        admitted: list[int] = []
        following: NextHead | None = None
        prints: set[bytes] = set()
        number = self._log_number()
        asked = [(LOCKED_HEAD, {"log_number": number}), *((query, {}) for query in self._entries.consults)]
        try:
            with self._database.quick_writing(asked) as transaction:
                head, period = self._locked_head(transaction, number)
                self._admit(head)
                entries = together()
                now = self._clock()
                admit = self._entries.admission(transaction, now, partial(period.require, self._log.shard))
                for place, one in enumerate(entries):
                    try:
                        admit(one.entry)
                    except (InvalidRequest, LogClosed) as refused:
                        outcomes[place] = refused
                    else:
                        admitted.append(place)
                if admitted:
                    pending = [entries[place].entry for place in admitted]
                    following = sequence(head, pending, now, self._entries.codec.leaf)
                    signed = sign_head(self._log, following, self._sign_tree_head)
                    kept = [entries[place].beside for place in admitted]
                    prints = store_leaves(
                        transaction,
                        number,
                        self._entries.codec.kind,
                        list(zip(kept, following.leaves, strict=True)),
                        self._known_certificates,
                    )
                    stored = list(zip(pending, following.leaves, strict=True))
                    self._entries.store(transaction, number, stored)
                    store_full_tiles(transaction, number, head.frontier.size, signed.tree_size)
                    store_head(transaction, number, head, following, signed)
        except CommitUnknown as error:
            if following is None or not self._was_stored(following):
                raise StoreUnavailable(error.message, retry_after=error.retry_after) from error
        self._known_certificates |= prints
        if following is None:
            return Stored([outcomes[place] for place in range(len(entries))], None)
        for place, leaf in zip(admitted, following.leaves, strict=True):
            outcomes[place] = Sequenced(
                self._log.log_id, leaf.leaf_index, following.head.timestamp, leaf.leaf
            )
        return Stored(
            [outcomes[place] for place in range(len(entries))], _seen(following.head, following.root_hash)
        )

    def _log_number(self) -> int:
        if self._number is None:
            number, log_id, kind = find_log(self._database.quick_row, self._log.shard)
            if kind != self._entries.codec.kind:
                raise ConfigurationError(
                    f"the log of shard {self._log.shard} takes entries of the kind {kind}, not "
                    f"{self._entries.codec.kind}; a log's kind never changes: name the right shard"
                )
            if log_id != self._log.log_id:
                raise ConfigurationError(
                    f"the log of shard {self._log.shard} in the database has another key than the configured "
                    "one; a log's key never changes: name the right key, or another shard"
                )
            self._number = number
        return self._number

    def _locked_head(self, transaction: Transaction, number: int) -> tuple[LogHead, Period]:
        return read_head(transaction.row(LOCKED_HEAD, {"log_number": number}), self._log.shard)

    def _admit(self, head: LogHead) -> None:
        """Raise RolledBack when this database is not the newest there was; MarkUnavailable."""
        if self._guard is not None:
            self._guard.admit_head(self._log.log_id, _seen(head, head.frontier.root()))

    def _was_stored(self, following: NextHead) -> bool:
        """Look, under the log's lock, so that the lost transaction has ended one way or the other."""
        first = following.leaves[0]
        try:
            number = self._log_number()
            with self._database.quick_writing() as transaction:
                self._locked_head(transaction, number)
                row = index_of_leaf(transaction, number, first.leaf_hash)
        except DiskUntrusted:
            raise
        except StoreUnavailable:
            return False
        return row is not None and row[0] == first.leaf_index


def _seen(head: LogHead, root_hash: bytes) -> LogMark:
    return LogMark(head.frontier.size, root_hash, head.timestamp)
