"""Fixtures: a test that takes `database_url` runs twice, on SQLite and on a PostgreSQL of this run."""

from collections.abc import Iterator

import pytest

from tests.support.postgres import LocalPostgres


@pytest.fixture(scope="session")
def postgres_of_the_run() -> Iterator[LocalPostgres]:
    """The one server of the run, which a test may have stopped."""
    with LocalPostgres() as server:
        yield server


@pytest.fixture
def postgres(postgres_of_the_run: LocalPostgres) -> LocalPostgres:
    """The one server of the run, which a test may stop and start; it runs when the next test begins."""
    if not postgres_of_the_run.running:
        postgres_of_the_run.start()
    return postgres_of_the_run


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """Where an empty database is, or can be made: a URL for Database."""
    if request.param == "sqlite":
        return "sqlite:///state/ca.db"
    server: LocalPostgres = request.getfixturevalue("postgres")
    return server.new_database()
