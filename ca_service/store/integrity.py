"""Whether the database itself is sound: its file, its tables and indexes, its triggers, its values' types."""

from collections.abc import Iterator

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Boolean, Column, Connection, Integer, LargeBinary, Table, text
from sqlalchemy.types import TypeEngine

from ca_service.authority.finding import Finding
from ca_service.store.database import Database
from ca_service.store.schema import IMMUTABLE, HexOctets, issued, leaves, metadata, tiles

_NAMED = 20
"""So many faults of one kind are named; more would say nothing new."""

_READ_IN_PORTIONS = {
    leaves.name: frozenset(leaves.c.keys()),
    tiles.name: frozenset(tiles.c.keys()),
    issued.name: frozenset(issued.c.keys()) - {"oidc_subject"},
}
"""Columns whose values' types are looked at where their rows are read, a portion at a time."""

_BEFORE_ANY_CHANGE = 2 | 8 | 16 | 32
"""pg_trigger.tgtype of a statement trigger: BEFORE, DELETE, UPDATE, TRUNCATE."""

_TRIGGERS_ON_POSTGRESQL = text(
    "SELECT tgname, relname FROM pg_trigger"
    " JOIN pg_class ON pg_class.oid = tgrelid JOIN pg_proc ON pg_proc.oid = tgfoid"
    " WHERE relnamespace = current_schema()::regnamespace AND NOT tgisinternal AND tgenabled IN ('O', 'A')"
    " AND tgqual IS NULL AND cardinality(tgattr::int2[]) = 0 AND tgtype = :tgtype"
    " AND proname = 'refuse_change' AND prosrc LIKE '%RAISE EXCEPTION%'"
)


class SqlIntegrity:
    """Looks at a database as its engine sees it."""

    def __init__(self, database: Database) -> None:
        """Take the database, whose schema is of this program's revision."""
        self._database = database

    def inspect_file(self) -> list[Finding]:
        """Let SQLite read its whole file: pages, each index against its table, foreign keys.

        PostgreSQL looks after its own files; there is nothing to ask. Raises StoreUnavailable.
        """
        if self._database.engine_name == "postgresql":
            return []
        with self._database.reading() as connection:
            said = connection.execute(text(f"PRAGMA integrity_check({_NAMED})")).scalars().all()
            lost = connection.execute(text("PRAGMA foreign_key_check")).all()[:_NAMED]
        found = [
            Finding("database-file", "database file", "`ok` of PRAGMA integrity_check", one)
            for one in said
            if one != "ok"
        ]
        found.extend(
            Finding("foreign-key", f"row {row[1]} of {row[0]}", f"a row of {row[2]} that it names", "none")
            for row in lost
        )
        return found

    def inspect_schema(self) -> Iterator[Finding]:
        """Compare tables, columns and indexes with what this program makes, and find each trigger.

        What is there beyond that, such as an index of an administrator's, is nobody's fault. Raises
        StoreUnavailable.
        """
        with self._database.reading() as connection:
            for difference in compare_metadata(MigrationContext.configure(connection), metadata):
                yield from _lacking(difference)
            expected = _expected_triggers(postgresql=self._database.engine_name == "postgresql")
            present = (
                _triggers_on_postgresql(connection)
                if self._database.engine_name == "postgresql"
                else _triggers_on_sqlite(connection)
            )
            for name, table in sorted(expected - present):
                yield Finding(
                    "trigger",
                    f"trigger {name} on {table}",
                    f"it to be in force, and to refuse changes of {table}",
                    "none that does: somebody took the guard off",
                )

    def inspect_types(self) -> Iterator[tuple[str, Finding]]:
        """Find values of another type than their column has, each with its table.

        SQLite keeps whatever it is given; PostgreSQL does not take it. Raises StoreUnavailable.
        """
        if self._database.engine_name == "postgresql":
            return
        with self._database.reading() as connection:
            for table in metadata.sorted_tables:
                skipped = _READ_IN_PORTIONS.get(table.name, frozenset())
                there = {row[1] for row in connection.execute(text(f"PRAGMA table_info({table.name})"))}
                for column in table.c:
                    if column.name in there - skipped:
                        yield from _mistyped(connection, table, column)


def _mistyped(
    connection: Connection, table: Table, column: "Column[object]"
) -> Iterator[tuple[str, Finding]]:
    expected = _storage_class(column.type)
    nothing = f" AND {column.name} IS NOT NULL" if column.nullable else ""
    query = (
        f"SELECT rowid, typeof({column.name}) FROM {table.name} "  # noqa: S608 - names of our own tables
        f"WHERE typeof({column.name}) <> '{expected}'{nothing} LIMIT {_NAMED}"
    )
    for number, found in connection.execute(text(query)):
        yield (
            table.name,
            Finding("column-type", f"row {number} of {table.name}, {column.name}", expected, found),
        )


def _storage_class(kind: TypeEngine[object]) -> str:
    if isinstance(kind, Integer | Boolean):
        return "integer"
    return "blob" if isinstance(kind, LargeBinary | HexOctets) else "text"


def _lacking(difference: object) -> Iterator[Finding]:
    """Name what a difference of Alembic's says is missing or another; changes of a column come in lists."""
    if isinstance(difference, list):
        for each in difference:
            yield from _lacking(each)
    elif isinstance(difference, tuple) and not str(difference[0]).startswith("remove_"):
        what = " ".join(
            str(getattr(part, "name", part))
            for part in difference[1:]
            if isinstance(part, str | Table | Column)
        ) or str(getattr(difference[1], "name", difference[1]))
        operation = str(difference[0]).replace("_", " ")
        yield Finding(
            "schema", f"schema, {what}", "what this program's migrations make", f"`{operation}` is due"
        )


def _expected_triggers(*, postgresql: bool) -> set[tuple[str, str]]:
    if postgresql:
        return {(f"{table}_no_change", table) for table in IMMUTABLE}
    return {(f"{table}_no_{change}", table) for table in IMMUTABLE for change in ("update", "delete")}


def _triggers_on_postgresql(connection: Connection) -> set[tuple[str, str]]:
    rows = connection.execute(_TRIGGERS_ON_POSTGRESQL, {"tgtype": _BEFORE_ANY_CHANGE})
    return {(row.tgname, row.relname) for row in rows}


def _triggers_on_sqlite(connection: Connection) -> set[tuple[str, str]]:
    """Those that say what ours say, however they are quoted."""
    present = set()
    rows = connection.execute(text("SELECT name, tbl_name, sql FROM sqlite_master WHERE type = 'trigger'"))
    for name, table, sql in rows:
        change = "UPDATE" if name.endswith("_update") else "DELETE"
        ours = (
            f"CREATE TRIGGER {name} BEFORE {change} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, 'rows of {table} never change'); END"
        )
        if " ".join(sql.replace('"', "").split()).casefold() == ours.casefold():
            present.add((name, table))
    return present
