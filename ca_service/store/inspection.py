"""Reads for an inspection of the whole database: in portions, so that memory does not grow with the log."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import NamedTuple

from sqlalchemy import BindParameter, Connection, and_, bindparam, func, or_, select, text

from ca_service.authority.audit import AuditRecord, record_hash
from ca_service.authority.entry_inspection import IssuedRow, LeafRow
from ca_service.authority.finding import Finding
from ca_service.authority.log_shards import Period
from ca_service.authority.published import TAKEN_BACK
from ca_service.authority.service_inspection import BlockRow
from ca_service.authority.status_inspection import ListedRow, RevocationRow
from ca_service.authority.status_ports import CrlShard
from ca_service.authority.tree_inspection import HeadRow, TileRow
from ca_service.merkle.tiles import TILE_WIDTH
from ca_service.store.database import Database
from ca_service.store.quick import Statement
from ca_service.store.schema import (
    audit,
    blocks,
    chain_certificates,
    crl_shards,
    issued,
    leaves,
    logs,
    revocations,
    tiles,
    tree_heads,
)

_STRAYS = 100
"""So many rows that belong to nothing are named; more would say nothing new."""

_BESIDE_TARGETS = frozenset({"id", "reason", "created", "expires"})
_REVOCATION = RevocationRow._fields[:6]
_HEAD = ("tree_size", "timestamp", "root_hash", "frontier", "signature", "starts", "ends", "retired_for")
_LOG: BindParameter[int] = bindparam("log_number")
_LEAVES = Statement(
    select(*(leaves.c[name] for name in LeafRow._fields))
    .where(
        leaves.c.log == _LOG,
        leaves.c.leaf_index >= bindparam("first"),
        leaves.c.leaf_index < bindparam("end"),
    )
    .order_by(leaves.c.leaf_index)
)
_ISSUED = Statement(
    select(*(issued.c[name] for name in IssuedRow._fields)).where(
        issued.c.log == _LOG,
        issued.c.leaf_index >= bindparam("first"),
        issued.c.leaf_index < bindparam("end"),
    )
)
_LEAF_TILES = Statement(
    select(tiles.c.tile_index, tiles.c.root_hash, tiles.c.hashes).where(
        tiles.c.log == _LOG,
        tiles.c.level == bindparam("at_level"),
        tiles.c.tile_index >= bindparam("first"),
        tiles.c.tile_index < bindparam("end"),
    )
)
_TILE = Statement(
    select(tiles.c.root_hash, tiles.c.hashes).where(
        tiles.c.log == _LOG,
        tiles.c.level == bindparam("at_level"),
        tiles.c.tile_index == bindparam("at_index"),
    )
)


class InspectedLog(NamedTuple):
    """A log with its head, both as stored at one moment; `number` is the database's.

    `period` is what the notAfter of every entry must be in; None for a shard that was closed out of turn.
    """

    number: int
    kind: str
    head: HeadRow
    period: Period | None = None


class Stray(NamedTuple):
    """A row that belongs to nothing: its table, how it is named, and what it should belong to."""

    table: str
    name: str
    lacks: str


class SqlInspection:
    """Reads of everything that is stored; each returns what was there at one moment."""

    def __init__(self, database: Database) -> None:
        """Take the database."""
        self._database = database

    def logs(self) -> tuple[list[InspectedLog], list[Stray]]:
        """Every log with its head, and rows of the log's tables that no log's head covers."""
        query = (
            select(
                logs.c.id,
                logs.c.shard,
                logs.c.log_id,
                logs.c.public_key,
                logs.c.kind,
                *(tree_heads.c[name] for name in _HEAD),
            )
            .outerjoin(tree_heads, tree_heads.c.log == logs.c.id)
            .order_by(logs.c.id)
        )
        with self._moment() as connection:
            found, strays = [], []
            for row in connection.execute(query):
                if row.tree_size is None:
                    strays.append(Stray("logs", f"log {row.shard}", "a row in tree_heads"))
                    continue
                head = HeadRow(
                    row.shard,
                    row.log_id,
                    row.public_key,
                    row.tree_size,
                    row.timestamp,
                    row.root_hash,
                    row.frontier,
                    row.signature,
                )
                period = None if row.retired_for else Period(row.starts, row.ends)
                found.append(InspectedLog(row.id, row.kind, head, period))
            for log in found:
                strays.extend(_beyond(connection, log))
            strays.extend(_of_no_log(connection, [log.number for log in found]))
        return found, strays

    def portion(
        self, log: int, first: int, end: int
    ) -> tuple[list[LeafRow], list[IssuedRow], dict[int, TileRow]]:
        """Leaves and issued rows first..end (excluded), and the full level-0 tiles in them, by tile index."""
        place = {"log_number": log, "first": first, "end": end}
        covered = {"log_number": log, "at_level": 0, "first": first // TILE_WIDTH, "end": end // TILE_WIDTH}
        with self._database.quick_reading() as transaction:
            return (
                list(map(LeafRow._make, transaction.rows(_LEAVES, place))),
                list(map(IssuedRow._make, transaction.rows(_ISSUED, place))),
                {row[0]: (row[1], row[2]) for row in transaction.rows(_LEAF_TILES, covered)},
            )

    def tile(self, log: int, level: int, index: int) -> TileRow | None:
        """A stored full tile."""
        place = {"log_number": log, "at_level": level, "at_index": index}
        row = self._database.quick_row(_TILE, place)
        return None if row is None else (row[0], row[1])

    def certificates(self) -> dict[bytes, bytes]:
        """Every stored chain certificate, by its fingerprint."""
        with self._database.reading() as connection:
            rows = connection.execute(select(chain_certificates))
            return {bytes(row.fingerprint): bytes(row.der) for row in rows}

    def shard_urls(self) -> dict[tuple[str, str], str]:
        """The URL of each CRL shard, by authority key and name."""
        query = select(crl_shards.c.authority_key, crl_shards.c.name, crl_shards.c.url)
        with self._database.reading() as connection:
            return {(row.authority_key, row.name): row.url for row in connection.execute(query)}

    def revocations(self, after: tuple[str, str], limit: int) -> list[RevocationRow]:
        """Revocations whose (authority key, serial) comes after one, in that order, at most `limit`."""
        query = (
            select(
                *(revocations.c[name] for name in _REVOCATION),
                issued.c.not_before,
                issued.c.crl_shard.label("issued_shard"),
                crl_shards.c.url.label("shard_url"),
                (revocations.c.comment == TAKEN_BACK).label("recovered"),
            )
            .outerjoin(
                issued,
                and_(
                    issued.c.serial == revocations.c.serial,
                    issued.c.authority_key == revocations.c.authority_key,
                ),
            )
            .outerjoin(
                crl_shards,
                and_(
                    crl_shards.c.authority_key == revocations.c.authority_key,
                    crl_shards.c.name == revocations.c.crl_shard,
                ),
            )
            .where(
                or_(
                    revocations.c.authority_key > after[0],
                    and_(revocations.c.authority_key == after[0], revocations.c.serial > after[1]),
                )
            )
            .order_by(revocations.c.authority_key, revocations.c.serial)
            .limit(limit)
        )
        with self._database.reading() as connection:
            return [RevocationRow._make(row) for row in connection.execute(query)]

    def blocks(self) -> list[BlockRow]:
        """Every block, without the words of whom it concerns being looked at."""
        targets = [column for column in blocks.c if column.name not in _BESIDE_TARGETS]
        query = select(blocks.c.id, blocks.c.created, blocks.c.expires, *targets).order_by(blocks.c.id)
        with self._database.reading() as connection:
            return [
                BlockRow(number, tuple(concerned), created, expires)
                for number, created, expires, *concerned in connection.execute(query)
            ]

    def shard(self, authority_key: str, name: str) -> tuple[CrlShard | None, list[ListedRow]]:
        """A CRL shard with its newest CRL, and its revocations."""
        stored = select(*(crl_shards.c[one.name] for one in fields(CrlShard))).where(
            crl_shards.c.authority_key == authority_key, crl_shards.c.name == name
        )
        query = select(*(revocations.c[column] for column in ListedRow._fields)).where(
            revocations.c.authority_key == authority_key, revocations.c.crl_shard == name
        )
        with self._moment() as connection:
            row = connection.execute(stored).first()
            shard = None if row is None else CrlShard(*row)
            return shard, [ListedRow(*row) for row in connection.execute(query)]

    def withdrawn(self) -> frozenset[tuple[str, str]]:
        """Authority key and serial of each revocation that was withdrawn, as the audit records say."""
        query = select(audit.c.detail).where(audit.c.action == "withdraw")
        with self._database.reading() as connection:
            details = [json.loads(detail) for detail in connection.execute(query).scalars()]
        return frozenset((detail["authority_key"], detail["serial"]) for detail in details)

    @contextmanager
    def _moment(self) -> Iterator[Connection]:
        """A transaction of several queries that all see one state."""
        with self._database.reading() as connection:
            if self._database.engine_name == "postgresql":
                connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            yield connection


def _beyond(connection: Connection, log: InspectedLog) -> Iterator[Stray]:
    """Rows of a log at or after the size that its head signs."""
    size, shard = log.head.tree_size, log.head.shard
    after = f"to be below the signed size {size}"
    for column in (leaves.c.leaf_index, issued.c.leaf_index):
        query = (
            select(column)
            .where(column.table.c.log == log.number, column >= size)
            .order_by(column)
            .limit(_STRAYS)
        )
        for index in connection.execute(query).scalars():
            yield Stray(column.table.name, f"row of entry {shard}:{index} in {column.table.name}", after)
    too_far = [
        and_(tiles.c.level == level, tiles.c.tile_index >= size >> 8 * (level + 1)) for level in range(6)
    ]
    query = (
        select(tiles.c.level, tiles.c.tile_index)
        .where(tiles.c.log == log.number, or_(tiles.c.level > 5, tiles.c.level < 0, *too_far))
        .limit(_STRAYS)
    )
    for level, index in connection.execute(query):
        yield Stray("tiles", f"tile {level}/{index} of log {shard}", after)


def _of_no_log(connection: Connection, known: list[int]) -> Iterator[Stray]:
    for table in (leaves, issued, tiles, tree_heads):
        query = (
            select(table.c.log, func.count())
            .where(table.c.log.not_in(known))
            .group_by(table.c.log)
            .limit(_STRAYS)
        )
        for number, count in connection.execute(query):
            yield Stray(
                table.name, f"{count} rows of log number {number} in {table.name}", "a log of that number"
            )


def inspect_records(records: Sequence[AuditRecord], sequence: int, previous: str) -> Iterator[Finding]:
    """Check audit records that follow the one of this number (0: none) and hash."""
    for record in records:
        where = f"audit record {record.sequence}"
        if record.sequence != sequence + 1:
            missing = Finding(
                "audit-missing", f"audit after record {sequence}", str(sequence + 1), str(record.sequence)
            )
            yield missing
        elif record.previous_hash != previous:
            yield Finding(
                "audit-chain",
                f"{where}, previous_hash",
                f"{previous} (of record {sequence})",
                record.previous_hash[:64],
            )
        if record_hash(record) != record.hash:
            yield Finding(
                "audit-hash", f"{where}, hash", f"{record_hash(record)} (of what it says)", record.hash[:64]
            )
        sequence, previous = record.sequence, record.hash
