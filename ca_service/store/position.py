"""How far a database says it has come: what the high-water mark is compared with."""

import sqlite3
from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, func, select

from ca_service.authority.mark import NO_AUDIT, LogMark, Mark
from ca_service.authority.mark_ports import QuickPosition
from ca_service.errors import StoreUnavailable
from ca_service.store.database import Database
from ca_service.store.logs import SqlLogReader
from ca_service.store.quick import Statement
from ca_service.store.schema import audit, crl_shards, generations, logs, tree_heads
from ca_service.vocabulary import KeyId, LogId, TimestampMs

_QUICK = Statement(
    select(
        generations.c.revocations,
        select(func.sum(tree_heads.c.tree_size)).scalar_subquery(),
        select(func.max(audit.c.sequence)).scalar_subquery(),
    )
)
_GENERATIONS = Statement(select(generations.c.revocations, generations.c.blocks))
_LOG = Statement(
    select(tree_heads.c.tree_size, tree_heads.c.root_hash, tree_heads.c.timestamp)
    .join_from(tree_heads, logs, logs.c.id == tree_heads.c.log)
    .where(logs.c.log_id == bindparam("id_of_log"))
)


class SqlPosition:
    """An adapter of mark_ports.Position."""

    def __init__(self, database: Database) -> None:
        """Take the database."""
        self._database = database
        self._shards: dict[LogId, str] = {}

    def quick(self) -> QuickPosition:
        """Entries of all logs, revocation generation and audit sequence; raises StoreUnavailable."""
        return _quick(self._database.quick_row(_QUICK, {}))

    def generations(self) -> tuple[int, int]:
        """How often revocations and blocks were changed, in one cheap look; raises StoreUnavailable."""
        row = self._database.quick_row(_GENERATIONS, {})
        if row is None:
            raise StoreUnavailable("the database has no generation row; it was not made by this program")
        return int(row[0]), int(row[1])

    def whole(self) -> Mark:
        """Everything a mark holds; raises StoreUnavailable.

        On PostgreSQL each part is read for itself, which is as good: all of them only rise.
        """
        with self._database.reading() as connection:
            newest = connection.execute(
                select(audit.c.sequence, audit.c.hash).order_by(audit.c.sequence.desc()).limit(1)
            ).first()
            # After the audit trail: a generation may be newer than its record here, never the reverse.
            generation = connection.execute(select(generations.c.revocations)).scalar_one_or_none()
            if generation is None:
                raise StoreUnavailable("the database has no generation row; it was not made by this program")
            heads = connection.execute(
                select(
                    logs.c.log_id,
                    logs.c.shard,
                    tree_heads.c.tree_size,
                    tree_heads.c.root_hash,
                    tree_heads.c.timestamp,
                ).join_from(tree_heads, logs, logs.c.id == tree_heads.c.log)
            ).all()
            numbers = connection.execute(
                select(crl_shards.c.authority_key, crl_shards.c.name, crl_shards.c.crl_number)
            ).all()
        self._shards = {LogId(bytes(head.log_id)): head.shard for head in heads}
        return Mark(
            logs={
                LogId(bytes(head.log_id)): LogMark(
                    head.tree_size, bytes(head.root_hash), TimestampMs(head.timestamp)
                )
                for head in heads
            },
            generation=generation,
            audit_sequence=newest.sequence if newest else 0,
            audit_hash=newest.hash if newest else NO_AUDIT,
            crl_numbers={(KeyId(row.authority_key), row.name): row.crl_number for row in numbers},
        )

    def log(self, log_id: LogId) -> LogMark | None:
        """How far one log has come, in one cheap look; raises StoreUnavailable."""
        row = self._database.quick_row(_LOG, {"id_of_log": bytes(log_id)})
        return None if row is None else LogMark(row[0], bytes(row[1]), TimestampMs(row[2]))

    def root_at(self, log_id: LogId, tree_size: int) -> bytes:
        """The root hash a log had at a size it has reached; raises StoreUnavailable."""
        if log_id not in self._shards:
            self.whole()
        return SqlLogReader(self._database, self._shards[log_id]).root_at(tree_size)

    def audit_hash_at(self, sequence: int) -> str:
        """The hash of an audit record, "" when there is none; raises StoreUnavailable."""
        with self._database.reading() as connection:
            found = connection.execute(select(audit.c.hash).where(audit.c.sequence == sequence)).scalar()
        return str(found) if found is not None else ""


def stands_at(file: sqlite3.Connection) -> QuickPosition:
    """As `quick`, of a SQLite file that is open alone; raises StoreUnavailable, sqlite3.Error."""
    return _quick(file.execute(_QUICK.on_sqlite).fetchone())


def _quick(row: Sequence[Any] | None) -> QuickPosition:
    if row is None:
        raise StoreUnavailable("the database has no generation row; it was not made by this program")
    return QuickPosition(entries=int(row[1] or 0), generation=int(row[0]), audit_sequence=int(row[2] or 0))
