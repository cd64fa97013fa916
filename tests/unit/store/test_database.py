"""Connections: errors leave as the store's own, and nothing of a parent is used in its child."""

import os
import threading
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import select, update

from ca_service.errors import StoreUnavailable
from ca_service.store.database import Database
from ca_service.store.faults import RowRefused, unavailable
from ca_service.store.quick import Statement
from ca_service.store.schema import generations

GENERATION = Statement(select(generations.c.revocations))


@pytest.fixture
def database(tmp_path: Path) -> Database:
    """A database with its schema."""
    made = Database("sqlite:///state/ca.db", folder=tmp_path, lock_timeout=0.5)
    made.migrate()
    return made


def test_what_failed_is_rolled_back_and_told_without_values(database: Database) -> None:
    def change() -> None:
        with database.writing() as connection:
            connection.exec_driver_sql("UPDATE generations SET revocations = 5")
            connection.exec_driver_sql("INSERT INTO generations VALUES (1, 777, 777)")

    with pytest.raises(RowRefused) as told:
        change()
    assert "777" not in told.value.message
    assert "SQLITE_CONSTRAINT" in told.value.message
    assert told.value.retry_after
    assert database.quick_row(GENERATION, {}) == (0,)
    with pytest.raises(StoreUnavailable), database.reading() as connection:
        connection.exec_driver_sql("SELECT * FROM nowhere")
    database.close()


def test_an_error_of_the_caller_rolls_back_and_passes_through(database: Database) -> None:
    for transaction in (database.writing, database.quick_writing):
        with pytest.raises(ZeroDivisionError), transaction():
            raise ZeroDivisionError
    with database.writing() as connection:
        connection.exec_driver_sql("UPDATE generations SET revocations = 6")
    assert database.quick_row(GENERATION, {}) == (6,)
    database.close()


def test_threads_of_one_process_keep_each_other_out_in_turn(database: Database, tmp_path: Path) -> None:
    # Each waits for three others and for the disk; who gives up is the next test's matter.
    patient = Database("sqlite:///state/ca.db", folder=tmp_path, lock_timeout=60)

    def add() -> None:
        for _ in range(25):
            with patient.writing() as connection:
                (value,) = connection.exec_driver_sql("SELECT revocations FROM generations").one()
                connection.execute(update(generations).values(revocations=value + 1))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert database.quick_row(GENERATION, {}) == (100,)
    patient.close()
    database.close()


def test_a_lock_held_too_long_is_unavailable_and_reads_go_on(database: Database) -> None:
    with database.writing():
        with pytest.raises(StoreUnavailable, match="lock"), database.writing():
            pytest.fail("two writers at once")
        assert database.quick_row(GENERATION, {}) == (0,)
    with database.build_lock("a"):
        with database.writing():
            pass
        with pytest.raises(StoreUnavailable, match="lock"), database.build_lock("a"):
            pytest.fail("two builders at once")
    database.close()


def test_idle_connections_are_closed_before_a_fork_and_opened_anew_after_it(database: Database) -> None:
    database.quick_row(GENERATION, {})
    parents = database._opened
    assert parents is not None
    assert parents.idle
    child = os.fork()
    if child == 0:
        done = 1
        try:
            answered = database.quick_row(GENERATION, {}) == (0,)
            done = 0 if answered and database._opened is not parents and not parents.idle else 2
        finally:
            os._exit(done)
    assert os.waitpid(child, 0)[1] == 0
    assert database.quick_row(GENERATION, {}) == (0,)
    database.close()


def test_a_deleted_database_is_an_error_and_not_an_empty_one(database: Database, tmp_path: Path) -> None:
    database.close()
    (tmp_path / "state" / "ca.db").unlink()
    with pytest.raises(StoreUnavailable):
        database.quick_row(GENERATION, {})
    assert not (tmp_path / "state" / "ca.db").exists()


def test_a_missing_authority_of_postgresql_s_certificate_is_not_taken_for_a_missing_database() -> None:
    words = 'connection failed: root certificate file "/root/.postgresql/root.crt" does not exist'
    told = unavailable("reading", psycopg.OperationalError(words)).message
    assert "sslrootcert" in told
    assert "createdb" not in told
    assert "/root/.p" not in told
    missing = unavailable("reading", psycopg.OperationalError('database "ca" does not exist')).message
    assert "createdb" in missing
