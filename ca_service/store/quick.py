"""Statements compiled once and run by the driver itself: for what every certificate and every answer asks.

SQLAlchemy writes them, so that both databases have one source; only its work at each execution is left out.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from sqlalchemy import ClauseElement
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

DriverConnection = Any
"""A connection of sqlite3 or psycopg; both have execute(sql, parameters), cursor() and close()."""

DriverRow = tuple[Any, ...]
Parameters = Mapping[str, object]

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


class Transaction:
    """An open transaction of one driver connection; driver errors pass through it untranslated."""

    __slots__ = ("_connection", "_postgresql")

    def __init__(self, connection: DriverConnection, *, postgresql: bool) -> None:
        """Take a connection whose transaction has begun."""
        self._connection = connection
        self._postgresql = postgresql

    def _sql(self, statement: Statement) -> str:
        return statement.on_postgresql if self._postgresql else statement.on_sqlite

    def rows(self, statement: Statement, parameters: Parameters) -> list[DriverRow]:
        """All rows that a query gives."""
        found: list[DriverRow] = self._connection.execute(self._sql(statement), parameters).fetchall()
        return found

    def row(self, statement: Statement, parameters: Parameters) -> DriverRow | None:
        """The first row that a query gives."""
        found: DriverRow | None = self._connection.execute(self._sql(statement), parameters).fetchone()
        return found

    def change(self, statement: Statement, parameters: Parameters) -> int:
        """Execute a change; how many rows it concerned."""
        return int(self._connection.execute(self._sql(statement), parameters).rowcount)

    def insert(self, statement: Statement, rows: Sequence[Parameters]) -> None:
        """Insert rows; PostgreSQL takes them in one exchange."""
        cursor = self._connection.cursor()
        try:
            cursor.executemany(self._sql(statement), rows)
        finally:
            cursor.close()

    def pipeline(self) -> AbstractContextManager[object]:
        """Inside it PostgreSQL takes inserts without an exchange for each; errors come by its end."""
        return self._connection.pipeline() if self._postgresql else nullcontext()
