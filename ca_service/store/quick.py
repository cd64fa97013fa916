"""Statements compiled once and run by the driver itself: for what every certificate and every answer asks.

SQLAlchemy writes them, so that both databases have one source; only its work at each execution is left out.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import psycopg
from sqlalchemy import ClauseElement, Table
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from ca_service.errors import StoreUnavailable
from ca_service.store.arrays import BinaryArray, Columns

DriverConnection = Any
"""A connection of sqlite3 or psycopg; both have execute(sql, parameters), cursor() and close()."""

DriverRow = tuple[Any, ...]
Parameters = Mapping[str, object]

_MOST_ROWS = 64
"""Rows in one INSERT of SQLite: columns times this stays far below what it takes as parameters."""

_SQLITE = SQLiteDialect_pysqlite(paramstyle="named")
_POSTGRESQL = PGDialect_psycopg()  # type: ignore[no-untyped-call]  # SQLAlchemy types it on no line


class Statement:
    """A Core statement whose bindparams are named; its values are plain bytes, text and integers."""

    __slots__ = ("on_postgresql", "on_sqlite")

    def __init__(self, on_sqlite: ClauseElement, on_postgresql: ClauseElement | None = None) -> None:
        """Take one statement, or two where the engines need their own construct."""
        self.on_sqlite = str(on_sqlite.compile(dialect=_SQLITE))
        other = on_sqlite if on_postgresql is None else on_postgresql
        self.on_postgresql = str(other.compile(dialect=_POSTGRESQL))


class Insertion:
    """An INSERT of many rows in few statements: the driver's work, and its locks, come once for each.

    Rows are tuples in the order of the table's columns. PostgreSQL takes all of them in one statement; one of
    SQLite takes a power of two of them, so that few texts are compiled.
    """

    __slots__ = ("_columns", "_on_postgresql", "_on_sqlite")

    def __init__(self, table: Table, *, unless_there: bool = False) -> None:
        """Write the statements; `unless_there` leaves rows out whose key exists."""
        start = f"INSERT INTO {table.name} ({', '.join(column.name for column in table.columns)})"
        end = " ON CONFLICT DO NOTHING" if unless_there else ""
        sizes = [1 << power for power in range(_MOST_ROWS.bit_length())]
        row = f"({', '.join('?' * len(table.columns))})"
        self._on_sqlite = {size: f"{start} VALUES {', '.join([row] * size)}{end}" for size in sizes}
        self._columns = Columns(table)
        self._on_postgresql = f"{start} SELECT * FROM {self._columns.unnested}{end}"  # noqa: S608 - the schema's own names

    def on_sqlite(self, rows: Sequence[tuple[object, ...]]) -> list[tuple[str, tuple[object, ...]]]:
        """Statements with their parameters, which together insert all rows in their order."""
        cut, start = [], 0
        while left := len(rows) - start:
            size = min(_MOST_ROWS, 1 << left.bit_length() - 1)
            cut.append((self._on_sqlite[size], tuple(chain.from_iterable(rows[start : start + size]))))
            start += size
        return cut

    def on_postgresql(self, rows: Sequence[tuple[object, ...]]) -> tuple[str, tuple[BinaryArray, ...]]:
        """The statement that inserts all rows in their order, one at least, and its parameters."""
        return self._on_postgresql, self._columns.arrays(rows)


class Transaction:
    """An open transaction of one driver connection; driver errors pass through it untranslated.

    On PostgreSQL, what is put off goes to the server in one exchange with COMMIT, or before the next query.
    """

    __slots__ = ("_connection", "_otherwise", "_postgresql", "_put_off", "_read")

    def __init__(
        self,
        connection: DriverConnection,
        *,
        postgresql: bool,
        read: dict[Statement, DriverRow | None] | None = None,
    ) -> None:
        """Take a connection whose transaction has begun; `read` are first rows that came with BEGIN."""
        self._connection = connection
        self._postgresql = postgresql
        self._put_off: list[tuple[str, Any]] = []
        self._read = read or {}
        self._otherwise = ""

    def _sql(self, statement: Statement) -> str:
        return statement.on_postgresql if self._postgresql else statement.on_sqlite

    def rows(self, statement: Statement, parameters: Parameters) -> list[DriverRow]:
        """All rows that a query gives."""
        self._send()
        found: list[DriverRow] = self._connection.execute(self._sql(statement), parameters).fetchall()
        return found

    def row(self, statement: Statement, parameters: Parameters) -> DriverRow | None:
        """The first row that a query gives."""
        if statement in self._read:
            return self._read.pop(statement)
        self._send()
        found: DriverRow | None = self._connection.execute(self._sql(statement), parameters).fetchone()
        return found

    def change(self, statement: Statement, parameters: Parameters) -> int:
        """Execute a change; how many rows it concerned."""
        self._send()
        return int(self._connection.execute(self._sql(statement), parameters).rowcount)

    def insert(self, statement: Insertion, rows: Sequence[tuple[object, ...]]) -> None:
        """Insert rows; on PostgreSQL it is put off, and so is the error."""
        if self._postgresql:
            if rows:
                self._put_off.append(statement.on_postgresql(rows))
            return
        try:
            for sql, parameters in statement.on_sqlite(rows):
                self._connection.execute(sql, parameters)
        except (OverflowError, UnicodeEncodeError) as error:  # what SQLite never got to see
            raise sqlite3.DataError("a number of over 64 bits, or half of a surrogate pair") from error

    def require_change(self, statement: Statement, parameters: Parameters, otherwise: str) -> None:
        """Execute a change of exactly one row, or raise StoreUnavailable with these words.

        On PostgreSQL it is put off as inserts are: its statement must fail by itself, with a division by 0.
        """
        if self._postgresql:
            self._put_off.append((statement.on_postgresql, parameters))
            self._otherwise = otherwise
        elif self._connection.execute(statement.on_sqlite, parameters).rowcount != 1:
            raise StoreUnavailable(otherwise)

    def commit(self) -> None:
        """Send what was put off, and COMMIT."""
        if self._put_off:
            self._send(("COMMIT", None))
        else:
            self._connection.execute("COMMIT")

    def _send(self, *last: tuple[str, None]) -> None:
        if not self._put_off:
            return
        waiting, self._put_off = self._put_off, []
        try:
            with self._connection.pipeline():
                for sql, parameters in (*waiting, *last):
                    self._connection.execute(sql, parameters)
        except psycopg.errors.DivisionByZero as error:
            raise StoreUnavailable(self._otherwise) from error
