"""A PostgreSQL that cannot be reached, or says nothing any more: nobody waits for it without end."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import func, literal_column, select, text

from ca_service.errors import StoreUnavailable
from ca_service.store.connections import Asked
from ca_service.store.database import DEFAULT_LOCK_TIMEOUT, Database
from ca_service.store.quick import Statement
from tests.support.postgres import LocalPostgres
from tests.support.processes import wait_until
from tests.support.tcp_proxy import TcpProxy

PATIENT = 60.0
SOON = Statement(
    select(func.set_config(*map(literal_column, ("'idle_in_transaction_session_timeout'", "'300'", "true"))))
)
SILENCE = Statement(select(func.current_setting(literal_column("'idle_in_transaction_session_timeout'"))))
ONE = Statement(select(literal_column("1")))


@pytest.fixture
def proxy(postgres: LocalPostgres) -> Iterator[TcpProxy]:
    with TcpProxy(postgres.port) as started:
        yield started


@pytest.fixture
def database(postgres: LocalPostgres, proxy: TcpProxy, tmp_path: Path) -> Iterator[Database]:
    url = postgres.new_database().replace(f":{postgres.port}/", f":{proxy.port}/")
    with closing(Database(url, folder=tmp_path, lock_timeout=1.0)) as made:
        yield made


def answers(database: Database) -> bool:
    try:
        return database.quick_row(ONE, {}) == (1,)
    except StoreUnavailable:
        return False


def reads(database: Database) -> bool:
    try:
        with database.reading() as connection:
            return bool(connection.execute(text("SELECT 1")).scalar_one())
    except StoreUnavailable:
        return False


def at_once(database: Database, threads: int) -> list[bool]:
    """Ask from so many threads at the same moment."""
    together = threading.Barrier(threads)

    def ask(_: int) -> bool:
        together.wait(PATIENT)
        return answers(database)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(ask, range(threads)))


def test_a_server_that_hangs_is_given_up_by_all_and_found_again(database: Database, proxy: TcpProxy) -> None:
    wait_until(lambda: all(at_once(database, 8)), PATIENT, "eight connections are open")
    proxy.hang()
    try:
        assert not any(at_once(database, 8))
        # Those that were open are used up; who comes now is told at once, or tries for all.
        with ThreadPoolExecutor(4) as pool:
            assert not any(pool.map(lambda _: answers(database), range(400)))
    finally:
        proxy.recover()
    wait_until(lambda: all(at_once(database, 8)), PATIENT, "answers for eight at once")


def test_a_server_that_is_gone_is_an_error_at_once_and_found_again(
    database: Database, proxy: TcpProxy
) -> None:
    wait_until(lambda: all(at_once(database, 4)) and reads(database), PATIENT, "connections are open")
    proxy.die()
    assert not any(at_once(database, 4))
    assert not reads(database)
    proxy.recover()
    wait_until(lambda: answers(database) and reads(database), PATIENT, "answers")


def test_a_named_lock_is_not_waited_for_without_end_either(database: Database, proxy: TcpProxy) -> None:
    wait_until(lambda: answers(database), PATIENT, "an answer")
    proxy.hang()
    try:
        with pytest.raises(StoreUnavailable), database.try_lock("publication"):
            raise AssertionError("nobody can know that")
        with pytest.raises(StoreUnavailable), database.build_lock("crl"):
            raise AssertionError("nobody can know that")
    finally:
        proxy.recover()
    wait_until(lambda: reads(database), PATIENT, "an answer")


def test_who_may_hold_the_log_s_lock_is_ended_before_others_stop_waiting(database: Database) -> None:
    assert database.quick_row(SILENCE, {}) == ("3s",)
    with database.quick_writing() as transaction:
        assert transaction.row(SILENCE, {}) == ("3s",)
    with database.reading() as connection:
        assert connection.execute(text("SHOW idle_in_transaction_session_timeout")).scalar_one() == "10s"
    assert DEFAULT_LOCK_TIMEOUT > 3


@pytest.mark.parametrize("in_pipeline", [True, False])
def test_a_node_that_hangs_in_a_transaction_holds_its_locks_for_a_while_only(
    postgres: LocalPostgres, database: Database, in_pipeline: bool
) -> None:
    asked: Asked = [(SOON, {})] if in_pipeline else ()
    with psycopg.connect(postgres.conninfo("postgres"), autocommit=True) as administrator:

        def ended() -> bool:
            found = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ca-service'"
            return administrator.execute(found).fetchone() == (0,)

        def hang() -> None:
            with database.quick_writing(asked) as transaction:
                if not in_pipeline:
                    transaction.row(SOON, {})
                wait_until(ended, PATIENT, "a session that the server has ended")
                transaction.rows(ONE, {})

        wait_until(ended, PATIENT, "no sessions of other tests")
        with pytest.raises(StoreUnavailable):
            hang()


def test_a_transaction_that_the_server_fell_silent_in_is_given_up(
    database: Database, proxy: TcpProxy
) -> None:
    database.migrate()

    def transact() -> None:
        with database.quick_writing() as transaction:
            assert transaction.row(ONE, {}) == (1,)
            proxy.hang()
            transaction.row(ONE, {})

    try:
        with pytest.raises(StoreUnavailable):
            transact()
    finally:
        proxy.recover()
    wait_until(lambda: answers(database), PATIENT, "an answer")
