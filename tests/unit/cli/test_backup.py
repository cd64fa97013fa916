"""What `backup` puts into its folder, what it leaves out and says so, and where it makes none."""

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Host, run


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_backup_has_what_is_needed_elsewhere_and_nothing_that_must_not_come_back(
    host: Host, tmp_path: Path
) -> None:
    chain = (host.folder / "authority/chain.pem").rename(tmp_path / "chain.pem")
    (host.folder / "authority/chain.pem").symlink_to(chain)
    made = run("backup", "--config", host.config, "--out", tmp_path / "backups/today")
    assert made.exit_code == 0, made.output
    assert "database: 1 log entries" in made.stdout
    (log_key,) = (path.name for path in host.folder.glob("private/log-*.key"))
    assert files(tmp_path / "backups/today") == {
        "ca.toml",
        "issuers.yaml",
        "authority/chain.pem",
        "authority/root.crl",
        "private/issuing.key",
        f"private/{log_key}",
        "state/ca.db",
    }
    assert f"not in it: {host.folder / 'offline'}" in made.stderr
    assert stat.S_IMODE((tmp_path / "backups/today").stat().st_mode) == 0o700
    inspected = run("fsck", "--no-mark", "--config", tmp_path / "backups/today")
    assert inspected.exit_code == 0, inspected.output


def test_the_database_alone(host: Host, tmp_path: Path) -> None:
    made = run("backup", "--config", host.config, "--out", tmp_path / "today", "--database-only")
    assert made.exit_code == 0, made.output
    assert files(tmp_path / "today") == {"state/ca.db"}
    with closing(sqlite3.connect(tmp_path / "today/state/ca.db")) as database:
        assert database.execute("SELECT count(*) FROM issued").fetchone() == (1,)


def test_files_elsewhere_and_the_passphrase_are_named(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "issuers.yaml").write_bytes((host.folder / "issuers.yaml").read_bytes())
    monkeypatch.setenv("CASVC_ISSUERS", str(tmp_path / "issuers.yaml"))
    monkeypatch.setenv("CASVC_KEYS__PASSPHRASE", "5ecret")
    made = run("backup", "--config", host.config, "--out", tmp_path / "today")
    assert made.exit_code == 0, made.output
    assert f"not in it: {tmp_path / 'issuers.yaml'}, which issuers names" in made.stderr
    assert "not in it: the passphrase" in made.stderr
    assert "5ecret" not in made.output


def test_locks_and_what_a_move_to_postgresql_left_are_no_part_of_it(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ca.db.moved", "ca.db.build-lock", "ca.db.lock.turnstile", "ocsp-0a.lock"):
        (host.folder / "state" / name).touch()
    rotated = host.folder / "private/authorities/0a"
    rotated.mkdir(mode=0o700, parents=True)
    (rotated / "issuing.key").touch(mode=0o600)
    monkeypatch.setenv("CASVC_DATABASE__URL", "postgresql+psycopg://ca@db.example.com/ca")
    for name in ("ca.db", "ca.db-wal", "ca.db-shm"):
        (host.folder / "state" / name).unlink(missing_ok=True)
    made = run("backup", "--config", host.config, "--out", tmp_path / "today")
    assert made.exit_code == 0, made.output
    assert not [name for name in files(tmp_path / "today") if name.startswith("state/")]
    for folder in (path for path in (tmp_path / "today").rglob("*") if path.is_dir()):
        original = host.folder / folder.relative_to(tmp_path / "today")
        assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IMODE(original.stat().st_mode), folder


def test_nothing_is_written_over_or_into_what_is_backed_up(host: Host, tmp_path: Path) -> None:
    (tmp_path / "today").mkdir()
    again = run("backup", "--config", host.config, "--out", tmp_path / "today")
    assert again.exit_code == 1
    assert "a folder of its own" in again.output
    within = run("backup", "--config", host.config, "--out", host.folder / "backup")
    assert within.exit_code == 2
    assert "choose another disk" in within.output
    assert not (host.folder / "backup").exists()
