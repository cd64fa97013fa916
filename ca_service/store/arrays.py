"""Columns of many rows as PostgreSQL's binary arrays: one parameter each, however many rows there are.

psycopg takes an INSERT of many rows apart anew each time it is executed, since it caches no statement of more
than fifty parameters, and adapts each value for itself.
"""

from collections.abc import Callable, Iterable, Sequence
from struct import Struct
from struct import error as StructError  # noqa: N812 - it is named like a module
from typing import Any

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Dumper
from psycopg.postgres import types
from psycopg.pq import Format
from sqlalchemy import Table
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

_DIALECT = PGDialect_psycopg()  # type: ignore[no-untyped-call]  # SQLAlchemy types it on no line
_HEAD = Struct("!iiIii").pack
"""Dimensions, whether there are NULLs, type of the elements, their number, and the index of the first."""

Pack = Callable[[Iterable[Any]], bytes]


def _octets(values: Iterable[bytes]) -> bytes:
    return b"".join([part for value in values for part in (len(value).to_bytes(4), value)])


def _texts(values: Iterable[str]) -> bytes:
    try:
        return _octets([value.encode() for value in values])
    except UnicodeEncodeError as error:
        raise psycopg.DataError("a text has half of a surrogate pair in it") from error


def _numbers(sign: str) -> Pack:
    element = Struct(f"!i{sign}")
    size = element.size - 4
    pack = element.pack

    def packed(values: Iterable[int]) -> bytes:
        try:
            return b"".join([pack(size, value) for value in values])
        except StructError as error:
            raise psycopg.DataError("a number is out of its column's range") from error

    return packed


_PACKS: dict[str, Pack] = {
    "smallint": _numbers("h"),
    "integer": _numbers("i"),
    "bigint": _numbers("q"),
    "bytea": _octets,
    "text": _texts,
}


class BinaryArray:
    """An array as PostgreSQL's array_recv reads it; the statement names its type."""

    __slots__ = ("octets",)

    def __init__(self, octets: bytes) -> None:
        """Take it as it is sent."""
        self.octets = octets


class BinaryArrayDumper(Dumper):
    """Has psycopg send a BinaryArray as it is."""

    format = Format.BINARY
    oid = 0  # the statement's cast tells

    def dump(self, obj: BinaryArray) -> Buffer | None:
        """The octets."""
        return obj.octets


class Columns:
    """The columns of a table, none of which may be NULL in rows that go this way."""

    def __init__(self, table: Table) -> None:
        """Look up the types: of smallint, integer, bigint, bytea and text."""
        names = [column.type.compile(dialect=_DIALECT).split()[0].lower() for column in table.columns]
        self.unnested = f"unnest({', '.join(f'%s::{name}[]' for name in names)})"
        """A FROM item whose rows, in their order, are those of the arrays."""
        self._kinds = [(types[name].oid, _PACKS[name]) for name in names]

    def arrays(self, rows: Sequence[tuple[object, ...]]) -> tuple[BinaryArray, ...]:
        """The parameters of `unnested`; rows are in the order of the columns. Raises psycopg.DataError."""
        count = len(rows)
        return tuple(
            BinaryArray(_HEAD(1, 0, oid, count, 1) + pack(values))
            for (oid, pack), values in zip(self._kinds, zip(*rows, strict=True), strict=True)
        )
