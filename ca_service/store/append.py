"""The one transaction that puts a batch of entries into a log: durable as a whole, or not at all."""

from collections.abc import Sequence
from functools import partial
from hashlib import sha256
from typing import Generic, TypeVar

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from ca_service.authority.log import (
    LogHead,
    LogIdentity,
    NextHead,
    SignTreeHead,
    next_timestamp,
    sequence,
    sign_head,
)
from ca_service.authority.log_shards import Period
from ca_service.authority.mark import LogMark
from ca_service.authority.ports import Clock, Sequenced, TreeHead
from ca_service.authority.rollback import RollbackGuard
from ca_service.errors import (
    CAError,
    ConfigurationError,
    InvalidRequest,
    LogClosed,
    LogUnavailable,
    StoreUnavailable,
)
from ca_service.merkle.tiles import completed_tiles
from ca_service.merkle.tree import Frontier, complete_root
from ca_service.store.database import Database
from ca_service.store.entry_kinds import EntryKind
from ca_service.store.faults import CommitUnknown, DiskUntrusted, RowRefused
from ca_service.store.logs import INDEX_OF_LEAF, find_log, tile_hashes
from ca_service.store.quick import Statement, Transaction
from ca_service.store.schema import chain_certificates, leaves, tiles, tree_heads
from ca_service.vocabulary import TimestampMs

Outcome = Sequenced | CAError

_Entry = TypeVar("_Entry")

_LOCKED_HEAD = Statement(
    select(
        tree_heads.c.tree_size,
        tree_heads.c.timestamp,
        tree_heads.c.frontier,
        tree_heads.c.frozen,
        tree_heads.c.starts,
        tree_heads.c.ends,
    )
    .where(tree_heads.c.log == bindparam("log_number"))
    .with_for_update()
)
_NEXT_HEAD = Statement(
    update(tree_heads)
    .where(
        tree_heads.c.log == bindparam("log_number"),
        tree_heads.c.tree_size == bindparam("old_size"),
    )
    .values(
        tree_size=bindparam("new_size"),
        timestamp=bindparam("new_timestamp"),
        root_hash=bindparam("new_root_hash"),
        frontier=bindparam("new_frontier"),
        signature=bindparam("new_signature"),
    )
)
_NEW_LEAVES = Statement(insert(leaves))
_NEW_TILES = Statement(insert(tiles))
_NEW_CERTIFICATES = Statement(
    sqlite.insert(chain_certificates).on_conflict_do_nothing(),
    postgresql.insert(chain_certificates).on_conflict_do_nothing(),
)


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
        try:
            return self._append_together(entries)
        except RowRefused:
            return [self._append_alone(entry) for entry in entries]

    def _append_alone(self, entry: _Entry) -> Outcome:
        try:
            return self._append_together([entry])[0]
        except RowRefused as error:
            refusal = LogUnavailable(
                f"the log could not store {self._entries.name_of(entry)}: {error.message}",
                retry_after=error.retry_after,
            )
            refusal.__cause__ = error
            return refusal
        except DiskUntrusted:
            raise
        except StoreUnavailable as error:
            return LogUnavailable(f"the log stored nothing: {error.message}", retry_after=error.retry_after)
        except CAError as error:
            return error

    def republish(self, older_than_ms: int) -> TreeHead | None:
        """Sign the same tree anew with the present time when its head is older; None when it was not.

        Raises as `append` does.
        """
        with self._database.quick_writing() as transaction:
            number = self._log_number(transaction)
            head, _ = self._read_head(transaction, number)
            self._admit(head)
            timestamp = next_timestamp(head, self._clock())
            if timestamp - head.timestamp <= older_than_ms:
                return None
            same = NextHead((), LogHead(head.frontier, timestamp), head.frontier.root())
            return self._store_head(transaction, number, head, same)

    def _append_together(self, entries: Sequence[_Entry]) -> list[Outcome]:
        outcomes: dict[int, Outcome] = {}
        admitted: list[int] = []
        following: NextHead | None = None
        prints: set[bytes] = set()
        try:
            with self._database.quick_writing() as transaction:
                number = self._log_number(transaction)
                head, period = self._read_head(transaction, number)
                self._admit(head)
                now = self._clock()
                admit = self._entries.admission(transaction, now, partial(period.require, self._log.shard))
                for place, entry in enumerate(entries):
                    try:
                        admit(entry)
                    except (InvalidRequest, LogClosed) as refused:
                        outcomes[place] = refused
                    else:
                        admitted.append(place)
                if admitted:
                    pending = [entries[place] for place in admitted]
                    following = sequence(head, pending, now, self._entries.codec.leaf)
                    with transaction.pipeline():
                        prints = self._store_entries(transaction, number, pending, following)
                    self._store_full_tiles(transaction, number, head, following)
                    self._store_head(transaction, number, head, following)
        except CommitUnknown as error:
            if following is None or not self._was_stored(following):
                raise StoreUnavailable(error.message, retry_after=error.retry_after) from error
        self._known_certificates |= prints
        if following is not None:
            if self._guard is not None:
                # Before any SCT of it: what is released must never be forgotten by every memory at once.
                self._guard.record_head(self._log.log_id, _seen(following.head, following.root_hash))
            for place, leaf in zip(admitted, following.leaves, strict=True):
                outcomes[place] = Sequenced(
                    self._log.log_id, leaf.leaf_index, following.head.timestamp, leaf.leaf
                )
        return [outcomes[place] for place in range(len(entries))]

    def _log_number(self, transaction: Transaction) -> int:
        if self._number is None:
            number, log_id, kind = find_log(transaction, self._log.shard)
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

    def _read_head(self, transaction: Transaction, number: int) -> tuple[LogHead, Period]:
        row = transaction.row(_LOCKED_HEAD, {"log_number": number})
        if row is None:
            raise StoreUnavailable("the log has no tree head: the database is damaged")
        size, timestamp, frontier, frozen, starts, ends = row
        if frozen:
            raise LogClosed(
                f"the log shard {self._log.shard} is frozen: its last tree head is signed and it takes no "
                "entries",
                retry_after=1,
            )
        return LogHead(Frontier.decode(size, frontier), TimestampMs(timestamp)), Period(starts, ends)

    def _admit(self, head: LogHead) -> None:
        """Raise RolledBack when this database is not the newest there was; MarkUnavailable."""
        if self._guard is not None:
            self._guard.admit_head(self._log.log_id, _seen(head, head.frontier.root()))

    def _store_entries(
        self,
        transaction: Transaction,
        number: int,
        pending: Sequence[_Entry],
        following: NextHead,
    ) -> set[bytes]:
        beside = [self._entries.beside_leaf(entry) for entry in pending]
        chains = {one.chain: [sha256(der).digest() for der in one.chain] for one in beside}
        prints = {print_ for chain in chains.values() for print_ in chain}
        if not prints <= self._known_certificates:
            rows = [
                {"fingerprint": print_, "der": der}
                for chain, its in chains.items()
                for print_, der in zip(its, chain, strict=True)
            ]
            transaction.insert(_NEW_CERTIFICATES, rows)
        transaction.insert(
            _NEW_LEAVES,
            [
                {
                    "log": number,
                    "leaf_index": leaf.leaf_index,
                    "leaf_hash": leaf.leaf_hash,
                    "kind": self._entries.codec.kind,
                    "chain": b"".join(chains[one.chain]),
                    "leaf": leaf.leaf,
                    "precertificate": one.octets,
                }
                for one, leaf in zip(beside, following.leaves, strict=True)
            ],
        )
        self._entries.store(transaction, number, list(zip(pending, following.leaves, strict=True)))
        return prints

    @staticmethod
    def _store_full_tiles(transaction: Transaction, number: int, head: LogHead, following: NextHead) -> None:
        for tile in completed_tiles(head.frontier.size, following.head.frontier.size):
            assert tile.level is not None  # noqa: S101 - completed_tiles gives hash tiles only
            hashes = tile_hashes(transaction, number, tile.level, tile.index)
            row = {
                "log": number,
                "level": tile.level,
                "tile_index": tile.index,
                "root_hash": complete_root(hashes),
                "hashes": b"".join(hashes),
            }
            transaction.insert(_NEW_TILES, [row])

    def _store_head(
        self, transaction: Transaction, number: int, head: LogHead, following: NextHead
    ) -> TreeHead:
        signed = sign_head(self._log, following, self._sign_tree_head)
        changed = transaction.change(
            _NEXT_HEAD,
            {
                "log_number": number,
                "old_size": head.frontier.size,
                "new_size": signed.tree_size,
                "new_timestamp": signed.timestamp,
                "new_root_hash": signed.root_hash,
                "new_frontier": following.head.frontier.encode(),
                "new_signature": signed.signature,
            },
        )
        if changed != 1:
            raise StoreUnavailable(
                f"the log's head moved from {head.frontier.size} while its lock was held, so nothing was "
                "stored; make sure that every process uses this database and no copy of it"
            )
        return signed

    def _was_stored(self, following: NextHead) -> bool:
        """Look, under the log's lock, so that the lost transaction has ended one way or the other."""
        first = following.leaves[0]
        try:
            with self._database.quick_writing() as transaction:
                number = self._log_number(transaction)
                self._read_head(transaction, number)
                row = transaction.row(INDEX_OF_LEAF, {"log_number": number, "hashed_leaf": first.leaf_hash})
        except DiskUntrusted:
            raise
        except StoreUnavailable:
            return False
        return row is not None and row[0] == first.leaf_index


def _seen(head: LogHead, root_hash: bytes) -> LogMark:
    return LogMark(head.frontier.size, root_hash, head.timestamp)
