"""A history moves from SQLite to PostgreSQL whole or not at all, and only one of the two goes on."""

import fcntl
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import inspect, text

from ca_service.app import database_move
from ca_service.cli import main
from ca_service.settings.reading import environment_name
from ca_service.store.database import Database
from ca_service.store.moving import is_empty
from tests.support.histories import History, done, issue_and_revoke, make_histories, rows_of
from tests.support.postgres import LocalPostgres

URL = environment_name("database.url")
SIZE = 2000


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    """Some thousand entries in two logs, revocations, blocks, a used token; it is only copied."""
    return make_histories(tmp_path_factory.mktemp("histories"), SIZE).sharded


@pytest.fixture
def folder(history: History, tmp_path: Path) -> Path:
    shutil.copytree(history.folder, tmp_path / "ca")
    return tmp_path / "ca"


@pytest.fixture
def url(postgres: LocalPostgres) -> str:
    """An empty database."""
    return postgres.new_database()


@pytest.fixture
def target(url: str, tmp_path: Path) -> Iterator[Database]:
    made = Database(url, folder=tmp_path)
    yield made
    made.close()


def run(*arguments: str | Path, **environ: str) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], env=environ)


def move(folder: Path, url: str, *options: str) -> Result:
    return run("migrate", "sqlite-to-postgresql", "--config", folder, *options, **{URL: url})


def untouched(folder: Path, target: Database) -> None:
    """What is true after a refusal: the old file is served as before, and the target holds nothing."""
    assert "Everything agrees." in done("fsck", "--config", folder)
    target.migrate()
    with target.reading() as connection:
        assert is_empty(connection)


def test_everything_is_moved_and_goes_on_there(
    folder: Path, history: History, url: str, target: Database, tmp_path: Path
) -> None:
    assert "Everything agrees." in done("fsck", "--config", folder)
    shutil.copytree(folder, tmp_path / "before")
    moved = move(folder, url)
    assert moved.exit_code == 0, moved.output
    assert "log second: 200 entries make the root" in moved.stdout
    assert f'url = "{url}"' in moved.stdout
    audited = run("fsck", "--config", folder, **{URL: url})
    assert audited.exit_code == 0, audited.output
    assert f"{SIZE:,} entries of log" in audited.stdout
    assert f"{SIZE // 10} entries of log second" in audited.stdout

    # Row for row the same, and one more record, of who moved it.
    rows = {name: list(found) for name, found in rows_of(target).items()}
    assert rows["audit"].pop()["action"] == "move-database"
    assert rows == history.rows

    # The old file is not taken for the newest any more, wherever it is put.
    (folder / "state/ca.db.moved").rename(folder / "state/ca.db")
    refused = run("revoke", "certificate", str(rows["issued"][0]["serial"]), "--config", folder)
    assert refused.exit_code == 3
    assert "behind the high-water mark" in refused.output
    assert move(folder, url).stdout.startswith("An earlier run had moved everything")
    assert not (folder / "state/ca.db").exists()

    assert issue_and_revoke(folder, url) == 3
    assert run("fsck", "--config", folder, **{URL: url}).exit_code == 0


def test_an_interrupted_end_is_made_up_for(
    folder: Path, url: str, target: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (folder / "mark/high-water.json.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        interrupted = move(folder, url)
        assert interrupted.exit_code == 3, interrupted.output
        assert "held the lock" in interrupted.output
    assert (folder / "state/ca.db").exists()
    assert move(folder, url).stdout.startswith("An earlier run had moved everything")
    assert not (folder / "state/ca.db").exists()
    assert run("fsck", "--config", folder, **{URL: url}).exit_code == 0


def test_what_does_not_hold_together_is_not_moved(folder: Path, url: str, target: Database) -> None:
    connection = sqlite3.connect(folder / "state/ca.db")
    (guard,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'leaves_no_update'").fetchone()
    connection.execute("DROP TRIGGER leaves_no_update")
    (leaf,) = connection.execute("SELECT leaf FROM leaves WHERE log = 1 AND leaf_index = 77").fetchone()

    def put(content: bytes) -> None:
        connection.execute("UPDATE leaves SET leaf = ? WHERE log = 1 AND leaf_index = 77", (content,))
        connection.commit()

    put(leaf[:-1] + bytes((leaf[-1] ^ 1,)))
    connection.close()
    told = move(folder, url)
    assert told.exit_code == 3, told.output
    assert "leaves make the root" in told.output
    connection = sqlite3.connect(folder / "state/ca.db")
    put(leaf)
    connection.execute(guard)
    connection.close()
    untouched(folder, target)


def test_a_database_that_is_served_or_not_the_newest_or_older_is_refused(
    folder: Path, url: str, target: Database, tmp_path: Path
) -> None:
    serving = Database("sqlite:///state/ca.db", folder=folder)
    with serving.reading() as connection:
        connection.execute(text("SELECT 1"))
    told = move(folder, url)
    assert told.exit_code == 3, told.output
    assert "open elsewhere; stop the service" in told.output
    serving.close()
    untouched(folder, target)

    shutil.copy(folder / "state/ca.db", tmp_path / "yesterday.db")
    done("block", "--identity", "mallory@example.com", "--reason", "since yesterday", "--config", folder)
    today = (folder / "state/ca.db").rename(tmp_path / "today.db")
    shutil.copy(tmp_path / "yesterday.db", folder / "state/ca.db")
    told = move(folder, url)
    assert told.exit_code == 3, told.output
    assert "behind the high-water mark" in told.output
    (folder / "state/ca.db").unlink()
    today.rename(folder / "state/ca.db")
    untouched(folder, target)

    file = sqlite3.connect(folder / "state/ca.db")
    file.execute("UPDATE alembic_version SET version_num = '0005'")
    file.commit()
    told = move(folder, url)
    assert told.exit_code == 2, told.output
    assert "revision 0005" in told.output
    file.execute("UPDATE alembic_version SET version_num = '0006'")
    file.commit()
    file.close()
    untouched(folder, target)


def test_another_history_is_not_written_over(
    folder: Path, url: str, target: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL, url.replace("ca@", "ca:5ecret@"))
    done("init", "--dir", tmp_path / "other")
    monkeypatch.delenv(URL)
    # `init` says in ca.toml where the database is, and keeps the password out of it.
    assert f'url = "{url}"' in (tmp_path / "other/ca.toml").read_text()
    assert "Everything agrees." in done("fsck", "--config", tmp_path / "other")
    before = rows_of(target)
    told = move(folder, url)
    assert told.exit_code == 2, told.output
    assert "holds another history" in told.output
    assert rows_of(target) == before
    assert "Everything agrees." in done("fsck", "--config", folder)


def test_a_database_of_another_program_is_not_written_into(folder: Path, url: str, target: Database) -> None:
    with target.writing() as connection:
        connection.execute(text("CREATE TABLE orders (number int PRIMARY KEY)"))
    told = move(folder, url)
    assert told.exit_code == 2, told.output
    assert "not empty: it holds orders, which ca-service did not make" in told.output
    with target.writing() as connection:
        assert inspect(connection).get_table_names() == ["orders"]
        connection.execute(text("DROP TABLE orders"))
    untouched(folder, target)


def test_both_databases_must_be_named_and_no_password_on_the_command_line(folder: Path) -> None:
    secret = "postgresql+psycopg://ca:5ecret@127.0.0.1/ca"
    for options, said in (
        ([], "where to?"),
        (["--to", secret], "does not belong on a command line"),
        (["--to", "postgresql+psycopg://ca@127.0.0.1/ca?password=5ecret"], "does not belong"),
        (["--to", "sqlite:///other.db"], "must be PostgreSQL"),
    ):
        told = run("migrate", "sqlite-to-postgresql", "--config", folder, *options)
        assert told.exit_code == 2, told.output
        assert said in told.output
        assert "5ecret" not in told.output
    assert database_move.VARIABLE == URL


def test_what_keeps_it_from_the_database_is_told_without_the_password(
    folder: Path, url: str, target: Database
) -> None:
    silent = "postgresql+psycopg://ca:5ecret@127.0.0.1:1/ca"
    for wrong, said in (
        (url.rpartition("/")[0] + "/nowhere", "no such database"),
        (url.replace("ca@", "nobody:5ecret@"), "no such database or user"),
        (silent, "nothing listens there"),
        (silent.replace("127.0.0.1", "nowhere.invalid"), "host's name is not known"),
        (silent.replace(":1/", ":99999/"), "up to 65535"),
        (f"{silent}?sslmode=always", "none of disable"),
        (f"{url}?sslmode=require", "speaks no TLS"),
    ):
        told = move(folder, wrong)
        assert told.exit_code == 3, told.output
        assert said in told.output
        assert "Retry-After" not in told.output
        assert "5ecret" not in told.output
    # What follows an "@" in a password stands where host and port would.
    for wrong, said in (
        (silent.replace("5ecret", "5@y:5ecret"), "%40"),
        (silent.replace(":1/", ":port/"), "%40"),
        (f"{silent}?5ecret=1", "parameters of PostgreSQL's client"),
    ):
        told = move(folder, wrong)
        assert told.exit_code == 2, told.output
        assert said in told.output
        assert "5ecret" not in told.output
    untouched(folder, target)


def test_a_user_who_may_make_no_tables_is_told_how_to_let_it(
    folder: Path, url: str, target: Database
) -> None:
    with target.writing() as connection:
        connection.execute(text("CREATE ROLE guest LOGIN"))
    told = move(folder, url.replace("ca@", "guest@"))
    assert told.exit_code == 3, told.output
    assert "let it own the database: ALTER DATABASE" in told.output
    untouched(folder, target)


def test_after_the_move_a_command_that_still_names_the_file_is_told_so(folder: Path, url: str) -> None:
    assert move(folder, url).exit_code == 0
    for told in (move(folder, url), run("fsck", "--config", folder)):
        assert told.exit_code == 2, told.output
        assert "was moved to PostgreSQL" in told.output
        assert "ca-service init" not in told.output
    examined = run("doctor", "--offline", "--config", folder)
    assert examined.exit_code == 1, examined.output
    assert "FAIL  database: [database] url: " in examined.stdout
    assert "was moved to PostgreSQL" in examined.stdout
    assert "FAIL  high-water mark: " in examined.stdout
    assert "nobody can tell whether the database is behind it" in examined.stdout
    assert "SQLITE" not in examined.stdout
