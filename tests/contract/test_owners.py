"""Root may give commands on the service's host: what they make there is the service's, which must open it."""

import os
from pathlib import Path

import pytest

from ca_service.authority.mark import Mark
from ca_service.errors import StoreUnavailable
from ca_service.files.durable import write_file
from ca_service.files.high_water_mark import MarkFile
from ca_service.files.log_folder import LogFolder
from ca_service.files.turns import turn
from ca_service.store.file_locks import FileLocks


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> dict[int, tuple[int, int]]:
    """What root gave away: inodes, and to whom. Not everybody who runs this is root."""
    seen: dict[int, tuple[int, int]] = {}

    def record(descriptor: int, user: int, group: int) -> None:
        seen[os.fstat(descriptor).st_ino] = (user, group)

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "fchown", record)
    return seen


def test_everything_that_root_makes_is_the_owner_of_the_folders(
    given: dict[int, tuple[int, int]], tmp_path: Path
) -> None:
    locks = FileLocks(str(tmp_path / "ca.db"), 5.0)
    with locks.held(".build-lock"):
        lock = locks.tried(".publication-lock")
        assert lock is not None
        os.close(lock)
    MarkFile(tmp_path / "mark" / "high-water.json").create(Mark())
    files = LogFolder(tmp_path / "public" / "ctlog", "2026")
    with files.turn(0):
        files.keep("tile/0/000.p/1", b"a hash")
        files.replace("checkpoint", b"a tree")
        files.advance(1)
    with turn(tmp_path / "ocsp-delegate.lock"):
        write_file(tmp_path / "ocsp-delegate.pem", b"a key", mode=0o600, for_folder=True)
    owner = (tmp_path.stat().st_uid, tmp_path.stat().st_gid)
    made = list(tmp_path.rglob("*"))
    assert len(made) >= 15
    for path in made:
        assert given.get(path.stat().st_ino) == owner, path


def test_what_was_there_keeps_its_owner(given: dict[int, tuple[int, int]], tmp_path: Path) -> None:
    (tmp_path / "somebody's").write_text("not root's to give away")
    (tmp_path / "ca.db.lock").symlink_to("somebody's")
    (tmp_path / "ca.db.lock.turnstile").touch()
    with FileLocks(str(tmp_path / "ca.db"), 5.0).held(".lock"):
        pass
    (tmp_path / "other.lock").symlink_to("somebody's")
    with turn(tmp_path / "other.lock") as mine:
        assert mine
    assert not given
    # Nor is anything made where a name leads.
    (tmp_path / "ca.db.build-lock.turnstile").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreUnavailable), FileLocks(str(tmp_path / "ca.db"), 5.0).held(".build-lock"):
        pass
    assert not (tmp_path / "elsewhere").exists()
