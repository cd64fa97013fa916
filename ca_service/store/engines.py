"""The two databases: how each is opened, made durable, and locked."""

import hashlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import psycopg
from psycopg.conninfo import make_conninfo
from sqlalchemy import URL, Connection, Engine, create_engine, event, text

from ca_service.errors import ConfigurationError
from ca_service.store.arrays import BinaryArray, BinaryArrayDumper
from ca_service.store.file_locks import FileLocks
from ca_service.store.patience import PatientConnection, Reach
from ca_service.store.quick import DriverConnection

WRITING = "ca_service_writing"
"""The execution option of connections whose transactions write."""

POOL_SIZE = 8

_PATIENCE_SECONDS = 1.0
_LONGEST_STATEMENT_MS = 30_000
# A hung process must not keep rows that everybody waits for. In a transaction of quick statements nothing is
# done between them that takes long, and it may hold the log's lock: it ends before others give up on that.
_LONGEST_SILENCE_MS = 10_000
_LONGEST_QUICK_SILENCE_MS = 3_000
_LONGEST_HOLD_MS = 60_000
"""How long a session may hold a named lock without a word; what it does meanwhile is checked when stored."""


class DatabaseServer(Protocol):
    """What differs between the databases."""

    name: str

    def connect(self, *, quick: bool = False) -> DriverConnection:
        """Open a connection with all durability settings made; a `quick` one is for short statements."""
        ...

    def engine(self) -> Engine:
        """A new engine over `connect`; one for each process."""
        ...

    def prepare(self) -> None:
        """Make what must be there before the first connection, when the schema is to be made."""
        ...

    def write_lock(self, within: float | None = None) -> AbstractContextManager[None]:
        """Hold what keeps two writers from waiting inside the database; StoreUnavailable after a while.

        The while is the lock timeout, or `within` (seconds) where that is less.
        """
        ...

    def hurry(self, connection: Connection, within: float) -> None:
        """Bound the waits inside this transaction, where that is less than the lock timeout."""
        ...

    def build_lock(self, engine: Engine, name: str) -> AbstractContextManager[None]:
        """Hold the lock of this name, which does not keep writers out; StoreUnavailable after a while."""
        ...

    def try_lock(self, engine: Engine, name: str) -> AbstractContextManager[bool]:
        """Hold the lock of this name if nobody does, and say so; waits for no one."""
        ...


class SqliteFile:
    """SQLite in one file on a local disk, for one machine."""

    name = "sqlite"

    def __init__(self, url: URL, folder: Path, lock_timeout: float) -> None:
        """Resolve the file against `folder`; raises ConfigurationError for a database in memory."""
        if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
            raise ConfigurationError(
                "database.url must name a file, like sqlite:///state/ca.db: several processes share it"
            )
        self.path = (folder / url.database).absolute()
        self._lock_timeout = lock_timeout
        self._locks = FileLocks(str(self.path), lock_timeout)
        self._uri = f"file:{quote(str(self.path))}?mode=rw"

    def prepare(self) -> None:
        """Make an empty file that only its owner can read."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))

    def connect(self, *, quick: bool = False) -> sqlite3.Connection:  # noqa: ARG002 - PostgreSQL may hang
        """Open the file, which must exist: a deleted database is an error, not an empty one."""
        connection = sqlite3.connect(self._uri, uri=True, isolation_level=None, check_same_thread=False)
        for pragma in (
            f"busy_timeout = {int(self._lock_timeout * 1000)}",
            "page_size = 8192",  # of new files: six leaves in a page instead of two
            "journal_mode = WAL",
            "synchronous = FULL",  # NORMAL can lose acknowledged commits when the power fails
            "foreign_keys = ON",
            "temp_store = MEMORY",
            "trusted_schema = OFF",
            "wal_autocheckpoint = 2000",  # pages: index pages change often, and are copied back together
            "cache_size = -32768",  # 32 MiB a connection: index pages of a million entries stay in memory
        ):
            connection.execute(f"PRAGMA {pragma}").close()
        return connection

    def engine(self) -> Engine:
        """A new engine that begins writing transactions with the write lock taken."""
        engine = create_engine(
            "sqlite:///" + quote(str(self.path)),
            creator=self.connect,
            hide_parameters=True,
            pool_size=POOL_SIZE,
            max_overflow=POOL_SIZE,
        )
        event.listen(engine, "begin", _begin_on_sqlite)
        return engine

    def write_lock(self, within: float | None = None) -> AbstractContextManager[None]:
        """SQLite polls for its own lock, which starves writers for up to a second; a flock does not."""
        return self._locks.held(".lock", within)

    def hurry(self, connection: Connection, within: float) -> None:
        """Nothing: who has the write lock waits for no one."""

    def build_lock(self, engine: Engine, name: str) -> AbstractContextManager[None]:  # noqa: ARG002 - PostgreSQL needs both
        """One lock for all names: builds are short."""
        return self._locks.held(".build-lock")

    @contextmanager
    def try_lock(self, engine: Engine, name: str) -> Iterator[bool]:  # noqa: ARG002 - PostgreSQL needs both
        """A file of its own beside the database; the lock ends with its process, whatever ends that."""
        lock = self._locks.tried(f".{name}-lock")
        try:
            yield lock is not None
        finally:
            if lock is not None:
                os.close(lock)


def _begin_on_sqlite(connection: Connection) -> None:
    writing = connection.get_execution_options().get(WRITING, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


class PostgresServer:
    """PostgreSQL, for more than one machine; always the primary, never a replica."""

    name = "postgresql"

    def __init__(self, url: URL, lock_timeout: float) -> None:
        """Take a URL of whichever driver name; the driver is psycopg 3. Raises ConfigurationError."""
        arguments: dict[str, Any] = {
            "connect_timeout": "5",
            "application_name": "ca-service",
            # A connection that a firewall forgot is noticed before somebody waits for it.
            "keepalives_idle": "15",
            "keepalives_interval": "5",
            "keepalives_count": "3",
        }
        arguments.update(url.translate_connect_args(username="user", database="dbname"))
        arguments.update(
            (name, value if isinstance(value, str) else ",".join(value)) for name, value in url.query.items()
        )
        try:
            self._conninfo = make_conninfo("", **arguments)
        except psycopg.Error:
            # Its words would show what came, which may be anything that was put into the wrong place.
            raise ConfigurationError(
                "[database] url: what follows the ? must be parameters of PostgreSQL's client, such as"
                " ?sslmode=verify-full&sslrootcert=/etc/ssl/db.pem; another one came (not shown, since it may"
                " be a secret); see PostgreSQL's documentation of connection strings"
            ) from None
        self._lock_timeout = lock_timeout
        self._reach = Reach()
        self._settings = "; ".join(
            (
                "SET synchronous_commit = on",
                f"SET lock_timeout = {int(lock_timeout * 1000)}",
                f"SET statement_timeout = {_LONGEST_STATEMENT_MS}",
                "SET default_transaction_isolation = 'read committed'",
                "SET client_encoding = 'UTF8'",
            )
        )

    def prepare(self) -> None:
        """The operator makes the database."""

    def connect(self, *, quick: bool = False) -> PatientConnection:
        """Connect, with the settings of each session made."""
        with self._reach.trying():
            connection = PatientConnection.connect(self._conninfo, autocommit=True)
        connection.adapters.register_dumper(BinaryArray, BinaryArrayDumper)
        connection.when_silent = self._reach.silent
        # The server itself gives up before: on a lock, and on statements that are not quick.
        connection.patience = self._lock_timeout + _PATIENCE_SECONDS
        silence = _LONGEST_QUICK_SILENCE_MS if quick else _LONGEST_SILENCE_MS
        connection.execute(f"{self._settings}; SET idle_in_transaction_session_timeout = {silence}")
        if not quick:
            connection.patience += _LONGEST_STATEMENT_MS / 1000
        connection.autocommit = False
        return connection

    def engine(self) -> Engine:
        """A new engine; connections that the server closed are noticed before they are used."""
        return create_engine(
            "postgresql+psycopg://",
            creator=self.connect,
            hide_parameters=True,
            pool_pre_ping=True,
            pool_size=POOL_SIZE,
            max_overflow=POOL_SIZE,
        )

    def write_lock(self, within: float | None = None) -> AbstractContextManager[None]:  # noqa: ARG002 - for SQLite
        """Row locks do."""
        return nullcontext()

    def hurry(self, connection: Connection, within: float) -> None:
        """As said; the next transaction of the session has the usual bound again."""
        if within < self._lock_timeout:
            milliseconds = max(int(within * 1000), 1)  # 0 would mean for ever
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {milliseconds}")

    @contextmanager
    def build_lock(self, engine: Engine, name: str) -> Iterator[None]:
        """An advisory lock of the session: a row lock would stop revocations while a CRL is built."""
        with self._session_lock(engine, "SELECT pg_advisory_lock(:key) IS NOT NULL", name):
            yield

    def try_lock(self, engine: Engine, name: str) -> AbstractContextManager[bool]:
        """Another advisory lock of a session, which PostgreSQL frees when the session's process is gone."""
        return self._session_lock(engine, "SELECT pg_try_advisory_lock(:key)", name)

    @contextmanager
    def _session_lock(self, engine: Engine, query: str, name: str) -> Iterator[bool]:
        key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            try:
                # Of a node that hangs, or whose network does, nobody else hears: others take over after this.
                connection.execute(text(f"SET idle_session_timeout = {_LONGEST_HOLD_MS}"))
                yield bool(connection.execute(text(query), {"key": key}).scalar_one())
            finally:
                # Closing the session frees the lock whatever happened to it.
                connection.invalidate()
