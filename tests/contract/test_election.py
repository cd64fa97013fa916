"""Database.try_lock: of all processes one does a task, and when it dies another can, without a hand."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path

import psycopg
import pytest

from ca_service.errors import StoreUnavailable
from ca_service.store.database import Database
from tests.support.postgres import LocalPostgres
from tests.support.processes import wait_until

TASK = "publication"
PATIENT = 60.0
_spawn = multiprocessing.get_context("spawn")


def _hold(url: str, folder: Path, told: Connection) -> None:
    with closing(Database(url, folder=folder)) as database, database.try_lock(TASK) as held:
        told.send(held)
        told.recv()


@pytest.fixture
def other(database: Database, database_url: str, tmp_path: Path) -> Iterator[tuple[int, Connection]]:
    """Another process that was elected: its number, and what ends it in order."""
    ours, theirs = _spawn.Pipe()
    process = _spawn.Process(target=_hold, args=(database_url, tmp_path, theirs))
    process.start()
    assert ours.poll(PATIENT)
    assert ours.recv() is True
    assert process.pid
    yield process.pid, ours
    process.kill()
    process.join(PATIENT)


def elected(database: Database, name: str = TASK) -> bool:
    with database.try_lock(name) as held:
        return held


def test_one_of_many_threads_and_everybody_in_turn(database: Database) -> None:
    inside, most = 0, 0
    counting, all_there = threading.Lock(), threading.Barrier(8)

    def attempt() -> None:
        nonlocal inside, most
        all_there.wait(PATIENT)
        while not try_once():
            pass

    def try_once() -> bool:
        nonlocal inside, most
        with database.try_lock(TASK) as held:
            if held:
                with counting:
                    inside += 1
                    most = max(most, inside)
                with counting:
                    inside -= 1
        return held

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENT)
        assert not thread.is_alive()
    assert most == 1


def test_while_one_process_is_elected_no_other_is_and_other_tasks_go_on(
    database: Database, other: tuple[int, Connection]
) -> None:
    assert not elected(database)
    assert elected(database, "another task")
    other[1].send("enough")
    wait_until(lambda: elected(database), PATIENT, "our turn")


def test_a_process_that_is_killed_is_followed_without_a_hand(
    database: Database, other: tuple[int, Connection]
) -> None:
    assert not elected(database)
    os.kill(other[0], signal.SIGKILL)
    wait_until(lambda: elected(database), PATIENT, "another one elected")


def test_trouble_in_the_task_gives_the_lock_back(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.try_lock(TASK):
        raise ZeroDivisionError
    assert elected(database)


def test_a_session_that_the_server_ends_is_followed(postgres: LocalPostgres, tmp_path: Path) -> None:
    url = postgres.new_database()
    with (
        closing(Database(url, folder=tmp_path)) as one,
        closing(Database(url, folder=tmp_path)) as another,
        psycopg.connect(postgres.conninfo(url.rpartition("/")[2]), autocommit=True) as administrator,
    ):
        with one.try_lock(TASK) as held:
            assert held
            assert not elected(another)
            administrator.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"
            )
            wait_until(lambda: elected(another), PATIENT, "another one elected")
        assert elected(one), "who lost it can be elected again"


def test_nobody_is_elected_by_a_database_that_is_away(postgres: LocalPostgres, tmp_path: Path) -> None:
    url = postgres.new_database()
    postgres.stop()
    try:
        with (
            closing(Database(url, folder=tmp_path)) as database,
            pytest.raises(StoreUnavailable),
            database.try_lock(TASK),
        ):
            raise AssertionError("nobody can know that")
    finally:
        postgres.start()
