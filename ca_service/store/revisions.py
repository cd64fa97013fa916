"""The revisions of the schema: which one this program needs, and when an older database is led on to it."""

import shutil
import time
from collections.abc import Collection, Mapping
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, TextClause, text

from ca_service.errors import ConfigurationError, MigrationRefused
from ca_service.store.patience import wait_without_end
from ca_service.store.schema import metadata

MIGRATION_LOCK = 0x6361_7365_7276_6963
"""The advisory lock of PostgreSQL under which one process at a time changes the schema."""

_ROOM_AGAIN = 2.2
"""Free room asked for, in sizes of the database: SQLite took 1.8 for its write-ahead log and new pages."""

_SESSIONS_SECONDS = 5.0
"""How long sessions that are about to end are waited for."""

# Where a table would be made that is named without its schema; what an extension brought is nobody's data.
_RELATIONS: Mapping[str, TextClause] = {
    "sqlite": text(
        "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%'"
        " ORDER BY name"
    ),
    "postgresql": text(
        "SELECT relname FROM pg_class WHERE relnamespace = CAST(current_schema() AS regnamespace)"
        " AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND NOT EXISTS (SELECT 1 FROM pg_depend"
        " WHERE classid = CAST('pg_class' AS regclass) AND objid = pg_class.oid AND deptype = 'e')"
        " ORDER BY relkind = 'S', relname"
    ),
}

_NAMED = 5
"""Tables of another program that a refusal names."""

_OTHER_SESSIONS = text(
    "SELECT count(*) FROM pg_stat_activity AS other"
    " WHERE datname = current_database() AND application_name = 'ca-service' AND pid <> pg_backend_pid()"
    " AND NOT EXISTS (SELECT 1 FROM pg_locks WHERE pg_locks.pid = other.pid AND locktype = 'advisory'"
    " AND classid = CAST(:high AS oid) AND objid = CAST(:low AS oid))"
)


def migration_config() -> Config:
    """Where Alembic finds the revisions; what it runs needs an open connection in `attributes`."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def newest() -> str:
    """The revision that this program needs."""
    head = ScriptDirectory.from_config(migration_config()).get_current_head()
    assert head is not None  # noqa: S101 - the program comes with its revisions
    return head


def found_in(connection: Connection) -> str | None:
    """The revision of a database, None for one without tables; raises ConfigurationError for a newer one."""
    found = MigrationContext.configure(connection).get_current_revision()
    known = {script.revision for script in ScriptDirectory.from_config(migration_config()).walk_revisions()}
    if found is not None and found not in known:
        _refuse_others(connection, metadata.tables.keys())
        raise ConfigurationError(
            f"the database's schema is at revision {found}, which this program does not know; "
            "run the newer version that made it"
        )
    return found


def require_newest(found: str | None) -> None:
    """Raise ConfigurationError unless `found` is the revision that this program needs."""
    if found is None:
        raise ConfigurationError(
            "the database has no tables of ca-service (revision none); see whether [database] url names the"
            " right one, restore its backup, or make an authority in it: `ca-service init`"
        )
    if found != newest():
        raise ConfigurationError(
            f"the database's schema is at revision {found}, this program needs {newest()}; stop the service,"
            " back the database up, then `ca-service migrate`"
        )


def refuse_others(connection: Connection) -> None:
    """Raise ConfigurationError when a database without this program's schema holds anything else."""
    _refuse_others(connection, ())


def _refuse_others(connection: Connection, ours: Collection[str]) -> None:
    names = list(connection.execute(_RELATIONS[connection.dialect.name]).scalars())
    if not names or set(ours).intersection(names):
        return
    others = ", ".join(names[:_NAMED])
    if len(names) > _NAMED:
        others += f" and {len(names) - _NAMED} more"
    raise ConfigurationError(
        f"the database is not empty: it holds {others}, which ca-service did not make. Nothing was written;"
        " make a database for ca-service alone, and name it in [database] url, CASVC_DATABASE__URL or --to"
    )


def lead_on(connection: Connection) -> None:
    """Bring the schema to the newest revision, in the transaction that is open."""
    config = migration_config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def wait_for_turn(connection: Connection) -> None:
    """On PostgreSQL: let one process at a time change the schema, however long that takes."""
    wait_without_end(connection)
    for setting in ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout"):
        connection.execute(text(f"SET LOCAL {setting} = 0"))
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})


def refuse_other_sessions(connection: Connection) -> None:
    """On PostgreSQL: raise MigrationRefused while a node is connected that does not wait for the same turn.

    It would go on with the schema that it knew when it started.
    """
    halves = {"high": MIGRATION_LOCK >> 32, "low": MIGRATION_LOCK & 0xFFFF_FFFF}
    deadline = time.monotonic() + _SESSIONS_SECONDS
    while count := connection.execute(_OTHER_SESSIONS, halves).scalar_one():
        if time.monotonic() > deadline:
            raise MigrationRefused(
                f"{count} other sessions of ca-service are open in this database; stop the service on every"
                " node first, since it would go on with the schema that it knows"
            )
        time.sleep(0.05)


def refuse_without_room(path: Path, found: str) -> None:
    """Raise MigrationRefused when a SQLite file is to be written anew and would not fit beside itself."""
    due = ScriptDirectory.from_config(migration_config()).iterate_revisions(newest(), found)
    if not any(getattr(script.module, "WRITES_ANEW", False) for script in due):
        return
    size = sum(file.stat().st_size for file in (path, Path(f"{path}-wal")) if file.exists())
    needed, free = int(size * _ROOM_AGAIN), shutil.disk_usage(path.parent).free
    if free < needed:
        raise MigrationRefused(
            f"from revision {found} on, all rows are written anew: that takes {_mebibytes(needed)} beside "
            f"{path}, and {_mebibytes(free)} are free there; make room, or copy the database to a larger "
            "disk, migrate it there and copy it back"
        )


def _mebibytes(octets: int) -> str:
    return f"{octets / 1_048_576:,.0f} MiB"
