"""The migrations make the tables that the code describes, and the triggers that keep their rows."""

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Executable, delete, text, update

from ca_service.errors import StoreUnavailable
from ca_service.store.audit import SqlAudit
from ca_service.store.database import Database
from ca_service.store.schema import IMMUTABLE, metadata
from ca_service.store.sequencer import BatchingSequencer
from tests.support.store import ACTOR, SettableClock, pending


def test_the_migrated_schema_is_the_described_one(database: Database) -> None:
    database.migrate()
    database.check()
    with database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


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
