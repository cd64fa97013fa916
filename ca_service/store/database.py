"""One database, shared by threads and processes: connections, transactions, locks and schema."""

import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path

from sqlalchemy import Connection

from ca_service.authority.waiting import about_to_wait
from ca_service.errors import ConfigurationError, StoreUnavailable
from ca_service.store import revisions, sqlite_files
from ca_service.store.connections import Asked, ProcessConnections, close_quietly
from ca_service.store.engines import DatabaseServer, PostgresServer, SqliteFile
from ca_service.store.faults import (
    DRIVER_ERRORS,
    REFUSALS,
    CommitUnknown,
    DiskUntrusted,
    translated,
    unavailable,
)
from ca_service.store.quick import DriverRow, Parameters, Statement, Transaction
from ca_service.store.urls import parsed_url

DEFAULT_LOCK_TIMEOUT = 5.0


def _commit_failed(error: Exception) -> StoreUnavailable:
    told = unavailable("storing a change", error)
    return (
        told if isinstance(told, DiskUntrusted) else CommitUnknown(told.message, retry_after=told.retry_after)
    )


class Database:
    """The database that `url` names; nothing is opened before it is needed, and nothing survives a fork."""

    def __init__(self, url: str, *, folder: Path, lock_timeout: float = DEFAULT_LOCK_TIMEOUT) -> None:
        """Take a SQLAlchemy URL; a relative SQLite path is resolved against `folder`.

        `lock_timeout` (seconds) bounds the wait for another writer. Raises ConfigurationError for a URL that
        is malformed or of another database than SQLite and PostgreSQL.
        """
        parsed = parsed_url(url)
        self._server: DatabaseServer
        if parsed.get_backend_name() == "sqlite":
            self._server = SqliteFile(parsed, folder, lock_timeout)
        elif parsed.get_backend_name() == "postgresql":
            self._server = PostgresServer(parsed, lock_timeout)
        else:
            raise ConfigurationError(
                f"database.url begins with {parsed.drivername}: sqlite or postgresql+psycopg are supported"
            )
        self._opening = threading.Lock()
        self._opened: ProcessConnections | None = None
        self._inherited: list[ProcessConnections] = []
        _databases.add(self)

    @property
    def engine_name(self) -> str:
        """Either "sqlite" or "postgresql"."""
        return self._server.name

    # -- transactions ------------------------------------------------------------------------------

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads; on SQLite all of it sees one state. Raises StoreUnavailable."""
        self._about_to_read()
        with translated("reading"), self._here().engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self, within: float | None = None) -> Iterator[Connection]:
        """A transaction that is durable once this returns; on SQLite there is one at a time.

        `within` (seconds) bounds the wait for other writers, where it is less than the lock timeout.
        Raises StoreUnavailable when it was rolled back (RowRefused when a row broke a rule), and
        CommitUnknown when COMMIT failed or its answer was lost.
        """
        about_to_wait()
        with self._server.write_lock(within), self._transaction(within) as connection:
            yield connection

    @contextmanager
    def _transaction(self, within: float | None = None) -> Iterator[Connection]:
        with translated("writing"), self._here().writer.connect() as connection:
            transaction = connection.begin()
            if within is not None:
                self._server.hurry(connection, within)
            try:
                yield connection
            except BaseException:
                with suppress(*DRIVER_ERRORS):  # the first error is the one to tell
                    transaction.rollback()
                raise
            try:
                transaction.commit()
            except DRIVER_ERRORS as error:
                with suppress(*DRIVER_ERRORS):
                    connection.invalidate()
                raise _commit_failed(error) from error

    def build_lock(self, name: str) -> AbstractContextManager[None]:
        """Hold a named lock across processes, which keeps no writer out; StoreUnavailable after a while."""
        return self._building(name)

    @contextmanager
    def _building(self, name: str) -> Iterator[None]:
        about_to_wait()
        with translated("waiting for a lock"), self._server.build_lock(self._here().engine, name):
            yield

    @contextmanager
    def try_lock(self, name: str) -> Iterator[bool]:
        """Hold a named lock if no process does, and say whether it is held here; StoreUnavailable.

        It ends with its process, however that ends; on PostgreSQL also with a connection that went dead.
        """
        about_to_wait()
        with translated("taking a lock"), self._server.try_lock(self._here().engine, name) as held:
            yield held

    # -- past SQLAlchemy ---------------------------------------------------------------------------

    def quick_row(self, statement: Statement, parameters: Parameters) -> DriverRow | None:
        """The first row of one query, read at once, outside a transaction.

        A connection that the server had closed is replaced once. Raises StoreUnavailable.
        """
        self._about_to_read()
        here = self._here()
        sql = statement.on_postgresql if here.postgresql else statement.on_sqlite
        try:
            connection = here.idle.pop()
        except IndexError:
            connection = None
        else:
            try:
                row: DriverRow | None = connection.execute(sql, parameters).fetchone()
            except DRIVER_ERRORS:
                close_quietly(connection)
            else:
                here.keep(connection)
                return row
        with translated("reading"):
            connection = here.open()
            try:
                row = connection.execute(sql, parameters).fetchone()
            except BaseException:
                close_quietly(connection)
                raise
        here.keep(connection)
        return row

    @contextmanager
    def quick_reading(self) -> Iterator[Transaction]:
        """As `reading`, for compiled statements."""
        self._about_to_read()
        here = self._here()
        with translated("reading"):
            connection, _ = here.begin("BEGIN")
            try:
                yield Transaction(connection, postgresql=here.postgresql)
                connection.execute("COMMIT")
            except BaseException:
                here.roll_back(connection)
                raise
        here.keep(connection)

    @contextmanager
    def quick_writing(self, asked: Asked = ()) -> Iterator[Transaction]:
        """As `writing`, for compiled statements; `asked` are queries that PostgreSQL gets with BEGIN.

        The first row of each is what `Transaction.row` gives for that statement the first time.
        """
        about_to_wait()
        here = self._here()
        with self._server.write_lock(), translated("writing"):
            connection, read = here.begin("BEGIN" if here.postgresql else "BEGIN IMMEDIATE", asked)
            try:
                transaction = Transaction(connection, postgresql=here.postgresql, read=read)
                yield transaction
            except DRIVER_ERRORS:
                close_quietly(connection)  # after an error in a pipeline psycopg misjudges what it prepared
                raise
            except BaseException:
                here.roll_back(connection)
                raise
            try:
                transaction.commit()
            except (*REFUSALS, StoreUnavailable):
                close_quietly(connection)  # a statement that was put off was refused: nothing is stored
                raise
            except DRIVER_ERRORS as error:
                close_quietly(connection)
                raise _commit_failed(error) from error
        here.keep(connection)

    def _about_to_read(self) -> None:
        if self._server.name == "postgresql":
            about_to_wait()  # a file on this machine is read as quickly as any other

    # -- schema ------------------------------------------------------------------------------------

    def migrate(self) -> None:
        """Make the schema, or bring it to what this program needs; waits for another process that does.

        Raises StoreUnavailable, MigrationRefused when somebody else has the database open that is to be
        changed or there is no room to do it, and ConfigurationError when a newer program made the schema or
        another one its tables there.
        """
        self._server.prepare()
        with self._server.write_lock():
            with self.reading() as connection:
                found = revisions.found_in(connection)
            if found == revisions.newest():
                return
            if isinstance(self._server, SqliteFile) and found is not None:
                self.close()
                with sqlite_files.alone(self._server.path):
                    revisions.refuse_without_room(self._server.path, found)
            with self._transaction() as connection:
                if self.engine_name == "postgresql":
                    revisions.wait_for_turn(connection)
                    # Whoever had the turn before has done it.
                    if (found := revisions.found_in(connection)) not in (None, revisions.newest()):
                        revisions.refuse_other_sessions(connection)
                if found is None:
                    revisions.refuse_others(connection)
                revisions.lead_on(connection)

    @contextmanager
    def taken_away(self, ending: str) -> Iterator[sqlite3.Connection]:
        """Have SQLite's file open alone; when the block ends well the file's name has this ending.

        Nobody can open it meanwhile, or write into it before it has its new name. Raises MigrationRefused
        when somebody has it open, ConfigurationError when the name is taken or the database is no file.
        """
        if not isinstance(self._server, SqliteFile):
            raise ConfigurationError("the database is PostgreSQL already, and no SQLite file")
        path = self._server.path
        name = path.with_name(path.name + ending)
        if name.exists():
            raise ConfigurationError(f"{name} is there from before; move it elsewhere first")
        with self._server.write_lock():
            self.close()
            with sqlite_files.alone(path) as connection:
                yield connection
            sqlite_files.rename_durably(path, name)

    def copy_to(self, path: Path) -> None:
        """Copy SQLite's database, as it is at one moment, into a new file; others may read and write.

        Raises StoreUnavailable, ConfigurationError for PostgreSQL.
        """
        if not isinstance(self._server, SqliteFile):
            raise ConfigurationError("the database is PostgreSQL, and no file that could be copied")
        with translated("copying the database"), closing(self._server.connect()) as source:
            sqlite_files.copy(source, path)

    def check(self) -> None:
        """Ask whether the database answers and has the schema of this program.

        Raises StoreUnavailable when it does not answer, ConfigurationError when the schema is another.
        """
        if isinstance(self._server, SqliteFile) and not self._server.path.exists():
            raise sqlite_files.missing(self._server.path)
        with self.reading() as connection:
            found = revisions.found_in(connection)
        revisions.require_newest(found)

    # -- processes ---------------------------------------------------------------------------------

    def close(self) -> None:
        """Close what this process has open; the next use opens it again."""
        opened, self._opened = self._opened, None
        if opened is not None and opened.pid == os.getpid():
            opened.close()

    def _here(self) -> ProcessConnections:
        opened = self._opened
        if opened is not None and opened.pid == os.getpid():
            return opened
        with self._opening:
            opened = self._opened
            if opened is None or opened.pid != os.getpid():
                if opened is not None:
                    # Connections of the parent: closing them here would disturb the parent's sessions.
                    self._inherited.append(opened)
                opened = self._opened = ProcessConnections(self._server)
        return opened


_databases: "weakref.WeakSet[Database]" = weakref.WeakSet()


def _close_before_fork() -> None:
    """SQLite keeps its locks by process: a child that inherits an open file would believe it holds them."""
    for database in list(_databases):
        database.close()


os.register_at_fork(before=_close_before_fork)
