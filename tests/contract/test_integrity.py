"""The database itself is inspected on both engines: what was taken off or changed is named."""

import pytest
from sqlalchemy import text

from ca_service.store.database import Database
from ca_service.store.integrity import SqlIntegrity
from ca_service.store.schema import IMMUTABLE


def findings(database: Database) -> list[tuple[str, str]]:
    integrity = SqlIntegrity(database)
    found = [*integrity.inspect_file(), *integrity.inspect_schema()]
    found.extend(finding for _, finding in integrity.inspect_types())
    return [(one.rule, one.where) for one in found]


def change(database: Database, *statements: str) -> None:
    with database.writing() as connection:
        for statement in statements:
            connection.execute(text(statement))


@pytest.fixture
def triggers(database: Database) -> list[str]:
    """A trigger of each immutable table, as this engine has them."""
    name = "no_change" if database.engine_name == "postgresql" else "no_delete"
    return [f"{table}_{name}" for table in IMMUTABLE]


def test_a_new_database_is_sound(database: Database) -> None:
    assert findings(database) == []


def test_an_index_more_is_nobodys_fault(database: Database) -> None:
    change(database, "CREATE INDEX of_an_administrator ON audit (action)")
    assert findings(database) == []


def test_a_trigger_that_is_gone_is_named(database: Database, triggers: list[str]) -> None:
    where = " ON leaves" if database.engine_name == "postgresql" else ""
    (trigger,) = (each for each in triggers if each.startswith("leaves_"))
    change(database, f"DROP TRIGGER {trigger}{where}")
    assert findings(database) == [("trigger", f"trigger {trigger} on leaves")]


def test_a_trigger_that_refuses_nothing_is_named(database: Database, triggers: list[str]) -> None:
    blunt = (
        [
            "ALTER TABLE audit DISABLE TRIGGER audit_no_change",
            "DROP TRIGGER issued_no_change ON issued",
            "CREATE TRIGGER issued_no_change BEFORE UPDATE ON issued EXECUTE FUNCTION refuse_change()",
        ]
        if database.engine_name == "postgresql"
        else [
            f"DROP TRIGGER {table}_no_delete;CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} "
            "BEGIN SELECT 1; END"
            for table in ("audit", "issued")
        ]
    )
    change(database, *(part for each in blunt for part in each.split(";", 1) if part))
    expected = [each for each in triggers if each.startswith(("audit_", "issued_"))]
    assert sorted(findings(database)) == sorted(
        ("trigger", f"trigger {each} on {each.partition('_')[0]}") for each in expected
    )


def test_a_function_that_refuses_nothing_takes_every_trigger_off(
    database: Database, triggers: list[str]
) -> None:
    if database.engine_name == "postgresql":
        change(
            database,
            "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RETURN NULL; END $$",
        )
    else:
        change(database, *(f"DROP TRIGGER {each}" for each in triggers))
    assert {where.split()[1] for rule, where in findings(database) if rule == "trigger"} == set(triggers)


def test_a_missing_index_and_column_are_named(database: Database) -> None:
    change(database, "DROP INDEX ix_issued_not_before", "ALTER TABLE blocks DROP COLUMN reason")
    found = findings(database)
    assert ("schema", "schema, ix_issued_not_before") in found
    assert any(rule == "schema" and "reason" in where for rule, where in found)
