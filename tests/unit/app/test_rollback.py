"""A database that is moved away or replaced under a running service is no longer believed."""

import shutil
from pathlib import Path

import pytest

from ca_service.app.rollback import MarkOfFile
from ca_service.authority.mark import NO_AUDIT, Mark
from ca_service.errors import StoreUnavailable

MARK = Mark(logs={}, generation=3, audit_sequence=0, audit_hash=NO_AUDIT, crl_numbers={})


@pytest.fixture
def database(tmp_path: Path) -> Path:
    file = tmp_path / "ca.db"
    file.write_bytes(b"database")
    return file


@pytest.fixture
def mark(tmp_path: Path, database: Path) -> MarkOfFile:
    made = MarkOfFile(tmp_path / "mark" / "high-water.json", database)
    made.create(MARK)
    assert made.read() == MARK
    return made


def test_a_database_moved_away_is_missed_until_it_is_back(mark: MarkOfFile, database: Path) -> None:
    elsewhere = database.rename(database.with_name("elsewhere"))
    with pytest.raises(StoreUnavailable, match=r"ca\.db cannot be found any more"):
        mark.read()
    elsewhere.rename(database)
    assert mark.read() == MARK


def test_another_file_in_its_place_is_not_taken_for_it(mark: MarkOfFile, database: Path) -> None:
    other = Path(shutil.copy(database, database.with_name("copy")))
    other.replace(database)
    with pytest.raises(StoreUnavailable, match="replaced while it was in use"):
        mark.read()


def test_what_changes_in_place_is_the_same_database(mark: MarkOfFile, database: Path) -> None:
    database.write_bytes(b"more of it")
    assert mark.read() == MARK


def test_one_that_was_never_there_is_left_to_who_opens_it(tmp_path: Path, database: Path) -> None:
    mark = MarkOfFile(tmp_path / "high-water.json", tmp_path / "none.db")
    mark.create(MARK)
    assert mark.read() == MARK
    database.rename(tmp_path / "none.db")
    assert mark.read() == MARK
