"""A whole history from a SQLite file into an empty PostgreSQL database: one transaction, all read back."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from itertools import groupby
from operator import itemgetter
from typing import Any

import psycopg
from sqlalchemy import BigInteger, Boolean, Connection, Integer, SmallInteger, Table, Text, select

from ca_service.authority.ports import Actor, Clock
from ca_service.errors import ConfigurationError, StoreUnavailable
from ca_service.merkle.tree import Frontier, leaf_hash
from ca_service.store import audit, revisions
from ca_service.store.database import Database
from ca_service.store.schema import generations, leaves, logs, metadata, tree_heads

Tell = Callable[[str, int, int], None]
"""Told of each table how many rows of how many are done."""

_AT_ONCE = 2_000
_TOLD = 1_000

_Row = tuple[Any, ...]
_Target = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class MovedLog:
    """A log shard that was moved, its root computed anew from the leaves as PostgreSQL gave them back."""

    shard: str
    tree_size: int
    root_hash: bytes


@dataclass(frozen=True, slots=True)
class Moved:
    """What was moved: rows of each table, and the logs."""

    rows: Mapping[str, int]
    logs: tuple[MovedLog, ...]


def is_empty(connection: Connection) -> bool:
    """Whether a database of this schema holds nothing yet but what making the schema put there."""
    for table in metadata.sorted_tables:
        row = connection.execute(select(table).limit(1)).first()
        if row is not None and (table is not generations or (row.revocations, row.blocks) != (0, 0)):
            return False
    return True


def move(source: sqlite3.Connection, target: Database, *, clock: Clock, actor: Actor, tell: Tell) -> Moved:
    """Copy every row, set identities, read all of it back and compare, record it in the audit trail; commit.

    Nobody else may have the source open. When anything fails the target stays empty. Raises
    ConfigurationError when it is not, StoreUnavailable when it fails or gives back other rows.
    """
    with target.writing() as connection:
        revisions.wait_for_turn(connection)
        if not is_empty(connection):
            raise not_empty()
        driver = connection.connection.driver_connection
        if not isinstance(driver, psycopg.Connection):
            raise ConfigurationError("a history is moved to PostgreSQL; the target is another database")
        connection.execute(generations.delete())
        copied = {table.name: _copy(source, driver, table, tell) for table in metadata.sorted_tables}
        _set_identities(source, driver)
        roots: dict[int, Frontier] = {}
        for table in metadata.sorted_tables:
            rows = _told(_read_back(driver, table), f"{table.name}, read back", copied[table.name][0], tell)
            if _sum(_rooted(rows, roots) if table is leaves else rows) != copied[table.name]:
                raise StoreUnavailable(f"PostgreSQL gave back other rows of {table.name}: nothing was moved")
        moved = Moved(
            {name: count for name, (count, _) in copied.items()}, tuple(_checked_logs(connection, roots))
        )
        detail: dict[str, object] = {
            "from": "sqlite",
            "to": "postgresql",
            "rows": dict(moved.rows),
            "logs": {log.shard: log.tree_size for log in moved.logs},
        }
        audit.append(connection, clock(), actor, "move-database", detail)
    return moved


def not_empty() -> ConfigurationError:
    """The refusal to write into a database that holds something."""
    return ConfigurationError(
        "the PostgreSQL database is not empty, and holds another history than this one: nothing was changed;"
        " name an empty one"
    )


def _copy(source: sqlite3.Connection, target: _Target, table: Table, tell: Tell) -> tuple[int, bytes]:
    """Copy a table; the number of its rows and a hash over them."""
    names = ", ".join(table.c.keys())
    total = int(source.execute(f"SELECT count(*) FROM {table.name}").fetchone()[0])  # noqa: S608 - our names
    order = ", ".join(table.primary_key.columns.keys())
    query = f"SELECT {names} FROM {table.name} ORDER BY {order}"  # noqa: S608 - our names
    flags = [place for place, column in enumerate(table.c) if isinstance(column.type, Boolean)]
    rows = _told(_with_flags(source.execute(query), flags), table.name, total, tell)
    with (
        target.cursor() as cursor,
        cursor.copy(f"COPY {table.name} ({names}) FROM STDIN (FORMAT BINARY)") as copy,
    ):
        copy.set_types([_type_name(column.type) for column in table.c])

        def written() -> Iterator[_Row]:
            for row in rows:
                copy.write_row(row)
                yield row

        return _sum(written())


def _with_flags(rows: Iterable[_Row], flags: list[int]) -> Iterator[_Row]:
    """SQLite's rows, its 0 and 1 as truth values where they are."""
    for row in rows:
        yield tuple(bool(one) if i in flags else one for i, one in enumerate(row)) if flags else row


def _type_name(kind: object) -> str:
    for known, name in ((SmallInteger, "int2"), (BigInteger, "int8"), (Integer, "int4"), (Boolean, "bool")):
        if isinstance(kind, known):
            return name
    return "text" if isinstance(kind, Text) else "bytea"


def _read_back(target: _Target, table: Table) -> Iterator[_Row]:
    """The rows as the target has them, in SQLite's order: text by its octets."""
    order = ", ".join(
        f'{name} COLLATE "C"' if isinstance(column.type, Text) else name
        for name, column in table.primary_key.columns.items()
    )
    query = f"SELECT {', '.join(table.c.keys())} FROM {table.name} ORDER BY {order}"  # noqa: S608 - our names
    with target.cursor(f"read_back_{table.name}", binary=True) as cursor:
        cursor.itersize = _AT_ONCE
        yield from cursor.execute(query)


def _sum(rows: Iterable[_Row]) -> tuple[int, bytes]:
    """The number of rows and a hash over all of them, in order."""
    digest, count = sha256(), 0
    for row in rows:
        digest.update(repr(row).encode())
        count += 1
    return count, digest.digest()


def _told(rows: Iterable[_Row], what: str, total: int, tell: Tell) -> Iterator[_Row]:
    for done, row in enumerate(rows):
        if done % _TOLD == 0:
            tell(what, done, total)
        yield row
    tell(what, total, total)


def _rooted(rows: Iterable[_Row], roots: dict[int, Frontier]) -> Iterator[_Row]:
    """The same rows of leaves; of each log, `roots` gets the tree over the leaves' octets."""
    names = list(leaves.c.keys())
    log, leaf = names.index("log"), names.index("leaf")
    for number, group in groupby(rows, itemgetter(log)):
        frontier, portion = Frontier(), list[bytes]()
        for row in group:
            portion.append(leaf_hash(row[leaf]))
            if len(portion) == _AT_ONCE:
                frontier, portion = frontier.extend(portion), []
            yield row
        roots[number] = frontier.extend(portion)


def _checked_logs(connection: Connection, roots: Mapping[int, Frontier]) -> Iterator[MovedLog]:
    """Every log with its head; raises StoreUnavailable where the leaves do not make that head's root."""
    query = select(logs.c.id, logs.c.shard, tree_heads.c.tree_size, tree_heads.c.root_hash).join_from(
        logs, tree_heads, tree_heads.c.log == logs.c.id
    )
    for row in connection.execute(query.order_by(logs.c.id)):
        made = roots.get(row.id, Frontier())
        if (made.size, made.root()) != (row.tree_size, bytes(row.root_hash)):
            raise StoreUnavailable(
                f"log {row.shard}: {made.size} leaves make the root {made.root().hex()}, its head says "
                f"{row.tree_size} and {bytes(row.root_hash).hex()}; nothing was moved, see `ca-service fsck`"
            )
        yield MovedLog(row.shard, row.tree_size, bytes(row.root_hash))


def _set_identities(source: sqlite3.Connection, target: _Target) -> None:
    """Let every column that counts by itself go on after the highest number that was ever given."""
    given: dict[str, int] = dict(source.execute("SELECT name, seq FROM sqlite_sequence"))
    for table in metadata.sorted_tables:
        for name in [column.name for column in table.primary_key]:
            row = target.execute("SELECT pg_get_serial_sequence(%s, %s)", (table.name, name)).fetchone()
            if row is not None and row[0] is not None and (highest := given.get(table.name, 0)):
                target.execute("SELECT setval(%s, %s)", (row[0], highest))
