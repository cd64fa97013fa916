"""Each test of a store's port runs twice: on SQLite, and on PostgreSQL."""

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ca_service.store.database import Database
from ca_service.store.logs import SqlLogReader
from ca_service.store.sequencer import BatchingSequencer
from tests.support.postgres import LocalPostgres
from tests.support.store import SettableClock, TestLog

SQLITE = "sqlite:///state/ca.db"


@pytest.fixture(scope="session")
def migrated() -> dict[str, str]:
    """The URL of a PostgreSQL database with its schema, once there is one: copying it costs less."""
    return {}


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an SQLite database that has its schema; it is only copied."""
    folder = tmp_path_factory.mktemp("migrated")
    with closing(Database(SQLITE, folder=folder, lock_timeout=60)) as made:
        made.migrate()
    return folder


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(
    request: pytest.FixtureRequest, migrated: dict[str, str], migrated_sqlite: Path, tmp_path: Path
) -> str:
    """Where a database with its schema is for a test that takes `database`, and for others an empty one."""
    with_schema = "database" in request.fixturenames
    if request.param == "sqlite":
        if with_schema:
            shutil.copytree(migrated_sqlite / "state", tmp_path / "state")
        return SQLITE
    server: LocalPostgres = request.getfixturevalue("postgres")
    if not with_schema:
        return server.new_database()
    if "url" not in migrated:
        url = server.new_database()
        with closing(Database(url, folder=tmp_path, lock_timeout=60)) as made:
            made.migrate()
        migrated["url"] = url
    return server.new_database(like=migrated["url"])


@pytest.fixture
def database(database_url: str, tmp_path: Path) -> Iterator[Database]:
    """An empty database with its schema."""
    with closing(Database(database_url, folder=tmp_path, lock_timeout=60)) as made:
        made.check()
        yield made


@pytest.fixture
def clock() -> SettableClock:
    """A clock that stands still until it is set."""
    return SettableClock()


@pytest.fixture
def log(database: Database) -> TestLog:
    """A log without entries."""
    made = TestLog()
    made.create(database)
    return made


@pytest.fixture
def sequencer(database: Database, log: TestLog, clock: SettableClock) -> Iterator[BatchingSequencer]:
    """The sequencer of that log."""
    made = log.sequencer(database, clock)
    yield made
    made.close()


@pytest.fixture
def reader(database: Database, log: TestLog) -> SqlLogReader:
    """The reader of that log."""
    return SqlLogReader(database, log.identity.shard)
