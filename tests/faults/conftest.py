"""What several tests of `fsck` tamper with."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.tampered import Copy, make_whole


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which everything agrees; it is only copied."""
    folder = tmp_path_factory.mktemp("whole") / "ca"
    make_whole(folder)
    return folder


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Iterator[Copy]:
    shutil.copytree(whole, tmp_path / "ca")
    made = Copy(tmp_path / "ca")
    yield made
    made.database.close()
