"""Each test of a store's port runs twice: on SQLite, and on PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ca_service.store.database import Database
from ca_service.store.logs import SqlLogReader
from ca_service.store.sequencer import BatchingSequencer
from tests.support.store import SettableClock, TestLog


@pytest.fixture
def database(database_url: str, tmp_path: Path) -> Iterator[Database]:
    """An empty database with its schema."""
    made = Database(database_url, folder=tmp_path, lock_timeout=60)
    made.migrate()
    yield made
    made.close()


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
