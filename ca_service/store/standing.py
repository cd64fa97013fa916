"""How much the database holds and how old it is, for whoever watches: a few small queries."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Integer, case, func, select

from ca_service.store.database import Database
from ca_service.store.schema import audit, blocks, crl_shards, generations, logs, tree_heads
from ca_service.vocabulary import KeyId, LogId


@dataclass(frozen=True, slots=True)
class LogStanding:
    """One log: entries, when its newest head was signed (milliseconds), when its period ends (seconds)."""

    name: str
    log_id: LogId
    tree_size: int
    timestamp: int
    frozen: bool
    ends: int | None


@dataclass(frozen=True, slots=True)
class CrlsStanding:
    """The CRLs of one issuing key together: how many, dirty ones, octets, and their times in seconds."""

    authority_key: KeyId
    shards: int
    dirty: int
    octets: int
    largest: int
    oldest_this_update: int
    first_next_update: int


@dataclass(frozen=True, slots=True)
class Standing:
    """What the database holds: logs, CRLs, how often revocations changed, audit records, blocks."""

    logs: Sequence[LogStanding]
    crls: Sequence[CrlsStanding]
    generation: int
    audit_records: int
    blocks: int


class SqlStanding:
    """Reads the standing of a database."""

    def __init__(self, database: Database) -> None:
        """Take the database."""
        self._database = database

    def read(self) -> Standing:
        """Everything at once; reads no list and no leaf. Raises StoreUnavailable."""
        # Neither engine reads the octets to tell how many there are.
        length = func.octet_length if self._database.engine_name == "postgresql" else func.length
        octets: ColumnElement[int] = length(crl_shards.c.crl)
        dirty = case((crl_shards.c.generation != crl_shards.c.published_generation, 1), else_=0)
        with self._database.reading() as connection:
            found = connection.execute(
                select(
                    logs.c.shard,
                    logs.c.log_id,
                    tree_heads.c.tree_size,
                    tree_heads.c.timestamp,
                    tree_heads.c.frozen,
                    tree_heads.c.ends,
                ).join_from(tree_heads, logs, logs.c.id == tree_heads.c.log)
            ).all()
            lists = connection.execute(
                select(
                    crl_shards.c.authority_key,
                    func.count(),
                    func.sum(dirty),
                    func.sum(octets, type_=Integer),
                    func.max(octets),
                    func.min(crl_shards.c.this_update),
                    func.min(crl_shards.c.next_update),
                ).group_by(crl_shards.c.authority_key)
            ).all()
            generation = connection.execute(select(generations.c.revocations)).scalar()
            records = connection.execute(select(func.max(audit.c.sequence))).scalar()
            blocked = connection.execute(select(func.count()).select_from(blocks)).scalar()
        return Standing(
            logs=[LogStanding(row[0], LogId(bytes(row[1])), *row[2:]) for row in found],
            crls=[CrlsStanding(KeyId(row[0]), *map(int, row[1:])) for row in lists],
            generation=int(generation or 0),
            audit_records=int(records or 0),
            blocks=int(blocked or 0),
        )
