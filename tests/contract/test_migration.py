"""A database of the first form with true entries is led on to today's, and says the same afterwards."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from click.testing import CliRunner
from sqlalchemy import MetaData, Table, insert, select, text

from ca_service.authority.ports import LogEntry, Selector
from ca_service.cli import main
from ca_service.cli.founding import Plan, found
from ca_service.errors import StoreUnavailable
from ca_service.store.database import Database, migration_config
from ca_service.store.issued import SqlIssuedCertificates
from ca_service.store.logs import SqlLogReader
from ca_service.store.schema import IMMUTABLE, metadata
from ca_service.vocabulary import RevocationReason, Serial
from tests.support.entries import Foundation

SIZE = 300


@pytest.fixture
def foundation(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Foundation:
    """A directory with some hundred entries, one of them revoked."""
    if database_url.startswith("postgresql"):
        monkeypatch.setenv("CASVC_DATABASE__URL", database_url)
    found(tmp_path / "ca", Plan("http://127.0.0.1:5555", "http://127.0.0.1:5555"))
    made = Foundation(tmp_path / "ca")
    made.append(SIZE)
    return made


def _rows(database: Database) -> dict[str, list[Mapping[str, Any]]]:
    """All that is stored, as SQLAlchemy reads it."""
    with database.reading() as connection:
        return {
            table.name: [
                dict(row) for row in connection.execute(select(table).order_by(*table.primary_key)).mappings()
            ]
            for table in metadata.sorted_tables
        }


def _in_the_form_of_0005(
    rows: Mapping[str, Sequence[Mapping[str, Any]]], entries: Sequence[LogEntry]
) -> dict[str, list[dict[str, Any]]]:
    """Whole precertificates beside leaves; what was hex then, SQLAlchemy gives as hex."""
    old = {name: [dict(row) for row in some] for name, some in rows.items()}
    for leaf in old["leaves"]:
        leaf["precertificate"] = entries[leaf["leaf_index"]].precertificate
        del leaf["signature"], leaf["hash_prefix"]
    return old


def test_what_an_older_program_stored_is_kept_in_the_new_form(
    foundation: Foundation, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serial = Serial(int(_rows(foundation.database)["issued"][7]["serial"], 16))
    revoked = ["revoke", "certificate", f"{serial:x}", "--reason", RevocationReason.KEY_COMPROMISE.label]
    config = ["--config", str(foundation.folder / "ca.toml")]
    assert CliRunner().invoke(main, [*revoked, *config]).exit_code == 0
    reader = SqlLogReader(foundation.database, foundation.log.shard)
    before, entries = _rows(foundation.database), reader.entries(0, SIZE)
    assert {bytes(row["precertificate"]) for row in before["leaves"]} == {b""}
    foundation.database.close()

    _go_back(foundation.database, _in_the_form_of_0005(before, entries))
    with pytest.raises(Exception, match="revision 0005"):
        foundation.database.check()
    foundation.database.migrate()
    foundation.database.check()

    assert _rows(foundation.database) == before
    assert reader.entries(0, SIZE) == entries
    issued = SqlIssuedCertificates(foundation.database)
    ((_, revocation),) = issued.find(Selector(serial=serial), 2)
    assert revocation is not None
    assert revocation.reason is RevocationReason.KEY_COMPROMISE
    for table in sorted({"leaves", "issued"} & set(IMMUTABLE)):
        with pytest.raises(StoreUnavailable) as told, foundation.database.writing() as connection:
            connection.execute(text(f"DELETE FROM {table}"))  # noqa: S608 - our own names
        assert "never change" in str(told.value.__cause__)
    foundation.append(1)
    foundation.database.close()
    audited = CliRunner().invoke(main, ["fsck", *config])
    assert audited.exit_code == 0, audited.output


def _go_back(database: Database, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Make the tables anew as revision 0005 had them, with these rows."""
    with database.writing() as connection:
        if database.engine_name == "postgresql":
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
        else:
            connection.execute(text("PRAGMA defer_foreign_keys = ON"))
            for table in reversed(metadata.sorted_tables):
                connection.execute(text(f"DROP TABLE {table.name}"))
            connection.execute(text("DROP TABLE alembic_version"))
        config = migration_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0005")
        connection.execute(text("DELETE FROM generations"))
        for described in metadata.sorted_tables:
            stored = Table(described.name, MetaData(), autoload_with=connection)
            if rows[described.name]:
                connection.execute(insert(stored), list(rows[described.name]))
