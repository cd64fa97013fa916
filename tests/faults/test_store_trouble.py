"""Break the database under the log, observe the refusal, mend it, and audit the whole log."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ca_service.authority.log_ports import Sequenced
from ca_service.errors import CAError, LogUnavailable, StoreUnavailable
from ca_service.store.blocks import SqlBlocks
from ca_service.store.connections import ProcessConnections
from ca_service.store.database import Database
from ca_service.store.logs import SqlLogReader
from ca_service.store.revocations import SqlRevocations
from ca_service.vocabulary import KeyId, Serial
from tests.support.postgres import LocalPostgres
from tests.support.store import SettableClock, TestLog, audit_log, pending


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database of either kind with its schema."""
    url = "sqlite:///state/ca.db"
    if request.param == "postgresql":
        server: LocalPostgres = request.getfixturevalue("postgres")
        url = server.new_database()
    made = Database(url, folder=tmp_path, lock_timeout=60)
    made.migrate()
    yield made
    made.close()


@pytest.fixture
def log(database: Database) -> TestLog:
    """A log without entries."""
    made = TestLog()
    made.create(database)
    return made


class Breaking:
    """A driver connection that breaks at one statement; everything else passes through."""

    def __init__(self, connection: Any, statement: str, broken: Callable[[Any], object]) -> None:
        self._connection = connection
        self._statement = statement
        self._broken = broken

    def execute(self, sql: str, *parameters: object) -> object:
        if sql == self._statement:
            return self._broken(self._connection)
        return self._connection.execute(sql, *parameters)

    def __getattr__(self, name: str) -> object:
        return getattr(self._connection, name)


def break_next(
    monkeypatch: pytest.MonkeyPatch, database: Database, statement: str, broken: Callable[[Any], object]
) -> None:
    """Make the next new connection break at a statement; those after it work."""
    database.close()
    original = ProcessConnections.open
    left = [1]

    def opened(self: ProcessConnections) -> Any:
        connection = original(self)
        if left:
            left.pop()
            return Breaking(connection, statement, broken)
        return connection

    monkeypatch.setattr(ProcessConnections, "open", opened)


def lost(database: Database) -> Exception:
    if database.engine_name == "sqlite":
        return sqlite3.OperationalError("disk I/O error")
    return psycopg.OperationalError("server closed the connection unexpectedly")


def test_a_lost_answer_to_commit_is_looked_up_and_found(
    database: Database, log: TestLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def commit_and_lose_the_answer(connection: Any) -> object:
        connection.execute("COMMIT")
        raise lost(database)

    sequencer = log.sequencer(database)
    break_next(monkeypatch, database, "COMMIT", commit_and_lose_the_answer)
    sequenced = sequencer.append(pending())
    sequencer.close()
    reader = SqlLogReader(database, "2026")
    assert audit_log(reader, log).tree_size == 1
    assert reader.entries(0, 1)[0].leaf == sequenced.leaf


def test_a_commit_that_did_not_happen_is_looked_up_and_refused(
    database: Database, log: TestLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(connection: Any) -> object:
        connection.execute("ROLLBACK")
        raise lost(database)

    sequencer = log.sequencer(database)
    break_next(monkeypatch, database, "COMMIT", lose)
    with pytest.raises(LogUnavailable):
        sequencer.append(pending())
    assert sequencer.append(pending()).leaf_index == 0
    sequencer.close()
    assert audit_log(SqlLogReader(database, "2026"), log).tree_size == 1


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_disk_that_did_not_confirm_a_write_ends_the_process(
    database: Database, log: TestLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_to_sync(connection: Any) -> object:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        raise error

    ended = threading.Event()
    sequencer = log.sequencer(database, when_disk_lies=ended.set)
    break_next(monkeypatch, database, "COMMIT", fail_to_sync)
    with pytest.raises(LogUnavailable):
        sequencer.append(pending())
    assert ended.is_set()
    sequencer.close()


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_full_disk_stores_nothing_and_the_log_goes_on_when_there_is_room(
    database: Database, log: TestLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    sequencer = log.sequencer(database)
    for _ in range(3):
        sequencer.append(pending())
    original = ProcessConnections.open
    full = [True]

    def opened(self: ProcessConnections) -> Any:
        connection = original(self)
        if full:
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            connection.execute(f"PRAGMA max_page_count = {pages}")
        return connection

    database.close()
    monkeypatch.setattr(ProcessConnections, "open", opened)
    results: list[Sequenced | CAError] = []
    while len(results) < 50 and not any(isinstance(result, CAError) for result in results):
        try:
            results.append(sequencer.append(pending()))
        except CAError as error:
            results.append(error)
    assert isinstance(results[-1], LogUnavailable)
    assert "SQLITE_FULL" in results[-1].message
    stored = 3 + len(results) - 1
    assert audit_log(SqlLogReader(database, "2026"), log).tree_size == stored
    full.clear()
    database.close()
    assert sequencer.append(pending()).leaf_index == stored
    sequencer.close()
    assert audit_log(SqlLogReader(database, "2026"), log).tree_size == stored + 1


HOLDER = """
import sys, time
from pathlib import Path
from ca_service.store.database import Database
with Database(sys.argv[1], folder=Path(sys.argv[2])).writing() as connection:
    connection.exec_driver_sql("UPDATE tree_heads SET frozen = frozen")
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_stopped_holder_of_the_lock_means_unavailable_and_a_killed_one_nothing(
    database: Database, log: TestLog, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = "sqlite:///state/ca.db"
    if database.engine_name == "postgresql":
        server: LocalPostgres = request.getfixturevalue("postgres")
        with database.reading() as connection:
            name = connection.exec_driver_sql("SELECT current_database()").scalar_one()
        url = f"postgresql+psycopg://ca@127.0.0.1:{server.port}/{name}"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, url, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
    )
    impatient = Database(url, folder=tmp_path, lock_timeout=1)
    sequencer = log.sequencer(impatient)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        os.kill(holder.pid, signal.SIGSTOP)
        with pytest.raises(LogUnavailable) as told:
            sequencer.append(pending())
        assert told.value.retry_after
        assert SqlRevocations(database, SettableClock()).generation() == 0, "reads go on"
    finally:
        holder.kill()
        holder.communicate()
        sequencer.close()
        impatient.close()
    sequencer = log.sequencer(database)
    assert sequencer.append(pending()).leaf_index == 0
    sequencer.close()
    assert audit_log(SqlLogReader(database, "2026"), log).tree_size == 1


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_server_that_crashes_and_comes_back_is_used_again(
    database: Database, log: TestLog, postgres: LocalPostgres
) -> None:
    sequencer = log.sequencer(database)
    revocations = SqlRevocations(database, SettableClock())
    blocks = SqlBlocks(database, SettableClock())
    sequencer.append(pending())
    assert revocations.generation() == 0
    postgres.stop(signal.SIGQUIT)
    entry = pending()
    refused: list[Callable[[], object]] = [
        revocations.generation,
        lambda: revocations.status(KeyId("a1" * 20), Serial(1)),
        lambda: blocks.check(entry.subject, entry.oidc_issuer, entry.oidc_subject, entry.key_sha256),
        SqlLogReader(database, "2026").head,
        blocks.all,
        database.check,
    ]
    for ask in refused:
        with pytest.raises(StoreUnavailable):
            ask()
    with pytest.raises(LogUnavailable):
        sequencer.append(entry)
    postgres.start()
    assert sequencer.append(entry).leaf_index == 1
    for ask in refused:
        ask()
    sequencer.close()
    assert audit_log(SqlLogReader(database, "2026"), log).tree_size == 2


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")  # the fork is what is tested
def test_workers_forked_after_use_have_connections_and_threads_of_their_own(
    database: Database, log: TestLog
) -> None:
    sequencer = log.sequencer(database)
    revocations = SqlRevocations(database, SettableClock())
    reader = SqlLogReader(database, "2026")
    sequencer.append(pending())
    revocations.generation()
    with database.reading() as connection:
        connection.exec_driver_sql("SELECT 1")
    children = []
    for number in range(3):
        child = os.fork()
        if child == 0:
            done = 1
            try:
                serials = range(1_000 * (number + 1), 1_000 * (number + 1) + 20)
                places = [sequencer.append(pending(serial=serial)).leaf_index for serial in serials]
                stored = [reader.entries(place, place + 1)[0].leaf_index for place in places]
                done = 0 if stored == places and revocations.generation() == 0 else 2
            finally:
                os._exit(done)
        children.append(child)
    for _ in range(20):
        sequencer.append(pending())
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    sequencer.close()
    assert audit_log(reader, log).tree_size == 81
