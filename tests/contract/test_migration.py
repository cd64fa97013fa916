"""A database of every schema there was is led on to today's, says the same afterwards, and is served."""

import fcntl
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner
from sqlalchemy import make_url, text

from ca_service.cli import main
from ca_service.errors import ConfigurationError, MigrationRefused, StoreUnavailable
from ca_service.store import revisions
from ca_service.store.database import Database
from ca_service.store.schema import IMMUTABLE
from tests.support.histories import (
    REVISIONS,
    Histories,
    as_of,
    done,
    issue_and_revoke,
    make_histories,
    rows_of,
)
from tests.support.processes import CA_SERVICE, environment, wait_until


@pytest.fixture(scope="module")
def histories(tmp_path_factory: pytest.TempPathFactory) -> Histories:
    """Two directories that are only copied."""
    return make_histories(tmp_path_factory.mktemp("histories"))


@pytest.fixture
def folder(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the copy comes; commands find the database too."""
    monkeypatch.setenv("CASVC_DATABASE__URL", database_url)
    return tmp_path / "ca"


@pytest.mark.parametrize("revision", REVISIONS)
def test_what_an_older_program_stored_is_kept_and_served(
    revision: str, histories: Histories, folder: Path, database_url: str
) -> None:
    with as_of(revision, histories, database_url, folder) as database:
        if revision != revisions.newest():
            with pytest.raises(ConfigurationError, match=f"revision {revision}"):
                database.check()
            database.close()
        done("migrate", "--config", folder)
        database.check()
        migrated = rows_of(database)
        expected = dict(histories.of(revision).rows)
        if revision < "0002":
            expected["token_uses"] = []
        assert migrated == expected
        for table in sorted({"leaves", "issued"} & set(IMMUTABLE)):
            with pytest.raises(StoreUnavailable) as told, database.writing() as connection:
                connection.execute(text(f"DELETE FROM {table}"))  # noqa: S608 - our own names
            assert "never change" in str(told.value.__cause__)
        database.close()
        assert "Everything agrees." in done("fsck", "--config", folder)
        assert issue_and_revoke(folder, database_url) == 3
        if revision == REVISIONS[0]:
            assert "Everything agrees." in done("fsck", "--config", folder)


def test_a_newer_schema_is_refused_and_left_alone(
    histories: Histories, folder: Path, database_url: str
) -> None:
    with as_of("0006", histories, database_url, folder) as database:
        with database.writing() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        with pytest.raises(ConfigurationError, match="revision 9999, which this program does not know"):
            database.check()
        database.close()
        for verb in ("migrate", "serve", "fsck", "recover"):
            told = CliRunner().invoke(main, [verb, "--config", str(folder)])
            assert told.exit_code == 2, told.output
            assert "run the newer version that made it" in told.output
        with database.reading() as connection:
            found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
        assert found == "9999"


@contextmanager
def _turn_taken(folder: Path, database_url: str) -> Iterator[None]:
    """Hold what one who migrates holds, until two wait for it."""
    migrations = [
        subprocess.Popen(
            [CA_SERVICE, "migrate", "--config", folder],
            env=environment({"CASVC_DATABASE__URL": database_url}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        yield
    finally:
        said = [migration.communicate(timeout=240)[0] for migration in migrations]
    assert [migration.returncode for migration in migrations] == [0, 0], said


def test_of_two_who_migrate_at_once_one_waits_and_finds_it_done(
    histories: Histories, folder: Path, database_url: str
) -> None:
    with as_of("0001", histories, database_url, folder) as database:
        if database.engine_name == "postgresql":
            address = make_url(database_url).set(drivername="postgresql").render_as_string()
            with psycopg.connect(address, autocommit=True) as holder:
                holder.execute("SELECT pg_advisory_lock(%s)", (revisions.MIGRATION_LOCK,))
                waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"

                def two_wait() -> bool:
                    row = holder.execute(waiting).fetchone()
                    return row is not None and row[0] == 2

                with _turn_taken(folder, database_url):
                    wait_until(two_wait, 120, "two that wait for the turn")
                    holder.execute("SELECT pg_advisory_unlock(%s)", (revisions.MIGRATION_LOCK,))
        else:
            with (folder / "state/ca.db.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)

                def one_is_next() -> bool:
                    with (folder / "state/ca.db.lock.turnstile").open("w") as turnstile:
                        try:
                            fcntl.flock(turnstile, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        except BlockingIOError:
                            return True
                    return False

                with _turn_taken(folder, database_url):
                    wait_until(one_is_next, 120, "one that waits for the turn")
                    fcntl.flock(lock, fcntl.LOCK_UN)
        database.check()
        assert rows_of(database)["leaves"] == histories.single.rows["leaves"]


def test_a_database_that_others_have_open_is_not_changed_under_them(
    histories: Histories, folder: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revisions, "_SESSIONS_SECONDS", 0)
    with as_of("0005", histories, database_url, folder) as database:
        serving = Database(database_url, folder=folder)
        with serving.reading() as connection:
            connection.execute(text("SELECT 1"))
        told = CliRunner().invoke(main, ["migrate", "--config", str(folder)])
        assert told.exit_code == 3, told.output
        assert "stop the service" in told.output
        assert "nothing was changed" in told.output
        serving.close()
        monkeypatch.undo()
        database.migrate()
        database.check()


def test_what_has_no_room_beside_itself_is_refused_before_anything_is_changed(
    histories: Histories, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with as_of("0005", histories, "sqlite:///state/ca.db", tmp_path / "ca") as database:
        size = (tmp_path / "ca/state/ca.db").stat().st_size
        _, used, free = shutil.disk_usage(tmp_path)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(free, used, 2 * size))
        with pytest.raises(MigrationRefused, match=r"and \d+ MiB are free there; make room"):
            database.migrate()
        with pytest.raises(ConfigurationError, match="revision 0005"):
            database.check()
        monkeypatch.undo()
        database.migrate()
        database.check()
