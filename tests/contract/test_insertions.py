"""Rows that go past SQLAlchemy: what is read is what was stored, and what does not fit is refused."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import (
    BigInteger,
    Column,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    select,
    text,
)

from ca_service.errors import StoreUnavailable
from ca_service.store.database import Database
from ca_service.store.faults import RowRefused
from ca_service.store.patience import PatientConnection
from ca_service.store.quick import Insertion, Statement
from tests.support.postgres import LocalPostgres

SAMPLES = Table(
    "samples",
    MetaData(),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("small", SmallInteger, nullable=False),
    Column("large", BigInteger, nullable=False),
    Column("octets", LargeBinary, nullable=False),
    Column("said", Text, nullable=False),
)
INSERTION = Insertion(SAMPLES)
UNLESS_THERE = Insertion(SAMPLES, unless_there=True)
ALL = Statement(select(SAMPLES).order_by(SAMPLES.c.number))
ROWS: list[tuple[object, ...]] = [
    (0, -(1 << 15), -(1 << 63), b"", ""),
    (1, (1 << 15) - 1, (1 << 63) - 1, bytes(range(256)), 'ö, "quoted", {braced}, NULL, \\x00'),
    *((number, number, number, b"%d" % number, "words" * number) for number in range(2, 150)),
]


@pytest.fixture
def samples(database: Database) -> Database:
    with database.writing() as connection:
        SAMPLES.create(connection)
    return database


def stored(database: Database) -> list[tuple[object, ...]]:
    with database.quick_reading() as transaction:
        return [(*row[:3], bytes(row[3]), row[4]) for row in transaction.rows(ALL, {})]


def test_all_rows_are_stored_as_they_are(samples: Database) -> None:
    with samples.quick_writing() as transaction:
        transaction.insert(INSERTION, [])
        transaction.insert(INSERTION, ROWS)
    assert stored(samples) == ROWS


def test_rows_whose_key_exists_are_left_out_where_that_was_asked(samples: Database) -> None:
    with samples.quick_writing() as transaction:
        transaction.insert(INSERTION, ROWS[:2])
        transaction.insert(UNLESS_THERE, ROWS)
    assert stored(samples) == ROWS
    with pytest.raises(RowRefused), samples.quick_writing() as transaction:
        transaction.insert(INSERTION, ROWS[:1])
    assert stored(samples) == ROWS


@pytest.mark.parametrize(
    "refused",
    [
        (0, 1 << 15, 0, b"", ""),
        (0, 0, 1 << 63, b"", ""),
        (0, 0, 0, b"", "no \0 in a text"),
        (0, 0, 0, b"", "half a pair \ud800"),
    ],
    ids=["smallint", "bigint", "NUL", "surrogate"],
)
def test_postgresql_refuses_what_its_columns_cannot_hold(
    postgres: LocalPostgres, tmp_path: Path, refused: tuple[object, ...]
) -> None:
    with closing(Database(postgres.new_database(), folder=tmp_path)) as samples:
        with samples.writing() as connection:
            SAMPLES.create(connection)
        with pytest.raises(RowRefused, match="refused a row") as told, samples.quick_writing() as transaction:
            transaction.insert(INSERTION, [ROWS[1], refused])
        assert "half a pair" not in told.value.message
        assert stored(samples) == []


@pytest.mark.parametrize("refused", [(2, 0, 1 << 63, b"", ""), (2, 0, 0, b"", "half a pair \ud800")])
def test_what_no_database_can_hold_is_a_refused_row_on_both(
    samples: Database, refused: tuple[object, ...]
) -> None:
    with pytest.raises(RowRefused), samples.quick_writing() as transaction:
        transaction.insert(INSERTION, [*ROWS[:2], refused])
    assert stored(samples) == []


@pytest.mark.parametrize("read_before_commit", [False, True])
def test_a_change_that_moves_no_row_is_told_in_words_of_its_own_whenever_it_is_sent(
    samples: Database, read_before_commit: bool
) -> None:
    moves_none = Statement(text("UPDATE samples SET small = 0 WHERE number = -1"), text("SELECT 1 / 0"))

    def change() -> None:
        with samples.quick_writing() as transaction:
            transaction.require_change(moves_none, {}, "the row was gone")
            if read_before_commit:
                transaction.rows(ALL, {})

    with pytest.raises(StoreUnavailable) as told:
        change()
    assert told.value.message == "the row was gone"


@pytest.fixture
def connection(postgres: LocalPostgres) -> Iterator[PatientConnection]:
    name = postgres.new_database().rpartition("/")[2]
    with PatientConnection.connect(postgres.conninfo(name), autocommit=True) as made:
        yield made


def test_what_is_asked_in_the_middle_of_a_pipeline_is_answered(connection: PatientConnection) -> None:
    with connection.pipeline():
        for number in range(200):  # more than are sent in one piece
            asked = connection.execute("SELECT %s::int", [number])
        assert asked.fetchone() == (199,)
        later = connection.execute("SELECT 200")
    assert later.fetchone() == (200,)


def test_each_of_many_executions_returns_its_rows(connection: PatientConnection) -> None:
    connection.execute("CREATE TEMPORARY TABLE numbers (number int)")
    cursor = connection.cursor()
    given = [(number,) for number in range(200)]
    cursor.executemany("INSERT INTO numbers VALUES (%s) RETURNING number", given, returning=True)
    assert [each.fetchone() for each in cursor.results()] == given


@pytest.mark.parametrize("before", [0, 63, 150])
@pytest.mark.parametrize("after", [0, 63, 150])
def test_the_first_error_in_a_pipeline_is_what_is_raised(
    connection: PatientConnection, before: int, after: int
) -> None:
    queries = [*["SELECT 1"] * before, "SELECT 1 / 0", *["SELECT 2"] * after]
    with pytest.raises(psycopg.errors.DivisionByZero), connection.pipeline():  # noqa: PT012 - at any of them
        for query in queries:
            connection.execute(query)
    assert connection.execute("SELECT 1").fetchone() == (1,)
