"""The migrations make the tables that the code describes, and the triggers that keep their rows."""

from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Executable, delete, inspect, text, update

from ca_service.errors import ConfigurationError, StoreUnavailable
from ca_service.store.audit import SqlAudit
from ca_service.store.database import Database
from ca_service.store.schema import IMMUTABLE, metadata
from ca_service.store.sequencer import BatchingSequencer
from ca_service.store.urls import file_name
from tests.support.postgres import LocalPostgres
from tests.support.store import ACTOR, SettableClock, pending


def test_the_migrated_schema_is_the_described_one(database: Database) -> None:
    database.migrate()
    database.check()
    with database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


@pytest.mark.parametrize("by_alembic", [False, True])
def test_a_database_of_another_program_is_named_and_nothing_is_written_into_it(
    database_url: str, tmp_path: Path, by_alembic: bool
) -> None:
    with closing(Database(database_url, folder=tmp_path)) as shared:
        if shared.engine_name == "sqlite":
            file = tmp_path / file_name(database_url)
            file.parent.mkdir(exist_ok=True)
            file.touch()
        with shared.writing() as connection:
            for number in range(7):
                connection.execute(text(f"CREATE TABLE wiki_{number} (page text)"))
            if by_alembic:
                connection.execute(text("CREATE TABLE alembic_version AS SELECT '8a3f' AS version_num"))
        for ask in (shared.migrate, shared.check) if by_alembic else (shared.migrate,):
            with pytest.raises(ConfigurationError) as told:
                ask()
            assert "not empty: it holds" in told.value.message
            assert "wiki_3" in told.value.message
            assert "make a database for ca-service alone" in told.value.message
        with shared.reading() as connection:
            assert not set(inspect(connection).get_table_names()).intersection(metadata.tables)


def test_what_an_extension_brings_and_other_schemas_keep_no_one_from_a_database(
    postgres: LocalPostgres, tmp_path: Path
) -> None:
    with closing(Database(postgres.new_database(), folder=tmp_path)) as database:
        with database.writing() as connection:
            connection.execute(text("CREATE EXTENSION pg_stat_statements"))  # views in schema public
            connection.execute(text("CREATE SCHEMA others CREATE TABLE logs (line text)"))
        database.migrate()
        database.check()


def test_what_was_logged_issued_and_audited_never_changes(
    database: Database, sequencer: BatchingSequencer
) -> None:
    for _ in range(257):
        sequencer.append(pending())
    SqlAudit(database, SettableClock()).append(ACTOR, "test", {})
    for table in IMMUTABLE:
        rows = metadata.tables[table]
        changes: list[Executable] = [
            update(rows).values({column: column for column in rows.primary_key}),
            delete(rows),
        ]
        if database.engine_name == "postgresql":
            changes.append(text(f"TRUNCATE {table} CASCADE"))
        for change in changes:
            with pytest.raises(StoreUnavailable) as told, database.writing() as connection:
                connection.execute(change)
            assert "never change" in str(told.value.__cause__)
