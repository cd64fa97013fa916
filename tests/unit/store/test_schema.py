"""A database that is missing, of another program or no shared one is named; and its file is private."""

from pathlib import Path

import pytest

from ca_service.errors import ConfigurationError, StoreUnavailable
from ca_service.store.database import Database
from ca_service.store.shards import SqlShards


@pytest.fixture
def database(tmp_path: Path) -> Database:
    """A database whose schema is not made yet."""
    return Database("sqlite:///state/ca.db", folder=tmp_path, lock_timeout=1)


def test_a_database_without_schema_or_of_a_newer_program_is_named(database: Database) -> None:
    with pytest.raises(ConfigurationError, match="does not exist"):
        database.check()
    with pytest.raises(StoreUnavailable):
        SqlShards(database).all()
    database.migrate()
    with database.writing() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    for ask in (database.check, database.migrate):
        with pytest.raises(ConfigurationError, match="9999"):
            ask()
    with database.writing() as connection:
        connection.exec_driver_sql("DELETE FROM alembic_version")
    with pytest.raises(ConfigurationError, match="revision none"):
        database.check()
    database.close()


def test_the_database_file_is_its_owners_alone(database: Database, tmp_path: Path) -> None:
    database.migrate()
    for path in (tmp_path / "state").iterdir():
        assert path.stat().st_mode & 0o077 == 0, path
    database.close()


def test_durability_is_switched_on(database: Database) -> None:
    database.migrate()
    with database.reading() as connection:
        asked = ("journal_mode", "synchronous", "foreign_keys")
        assert [connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in asked] == ["wal", 2, 1]
    database.close()


@pytest.mark.parametrize(
    "url", ["", "nonsense", "mysql://host/db", "sqlite://", "sqlite:///:memory:", "sqlite:///file:x?uri=true"]
)
def test_a_url_that_is_no_shared_database_is_a_configuration_error(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"database(\.url|\] url)"):
        Database(url, folder=tmp_path)
