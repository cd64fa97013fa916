"""The directory through which the worker processes of one service share their numbers.

Each has its own files. Those of a process that ended are added to one sum and removed, so that months of
recycled workers take no more room than a day's; nobody sees a worker counted twice, or not at all.
"""

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from ca_service.telemetry.cells import Cells, read_cells, remove_cells

PREFIX = "ca-service-metrics-"
GAUGE = "gauge"

# On a disk, the kernel makes a process wait that counts while the page is being written.
_MEMORY = Path("/dev/shm")  # noqa: S108 - mkdtemp makes a folder in it that is ours alone
_ENDED = "ended.json"
_LOCK = "lock"
_CELLS = ".cells"
_ATTEMPTS = 100


class _Ended(NamedTuple):
    """The sum of what ended processes counted: of how many, the file of the newest, and by name."""

    processes: int
    newest: str
    numbers: dict[str, list[float]]


class MetricsDirectory:
    """Made by the first process, inherited by its workers."""

    def __init__(self, parent: Path | None = None) -> None:
        """Make an empty directory of our own, in memory where there is one, and remove those left behind."""
        if parent is None:
            parent = _MEMORY if os.access(_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
        _sweep(parent)
        self.path, self._lock = _locked_directory(parent)

    def close(self) -> None:
        """Remove the directory with all it holds."""
        os.close(self._lock)
        shutil.rmtree(self.path, ignore_errors=True)

    def open_cells(self) -> Cells:
        """New files for the numbers of this process."""
        return Cells(self.path / f"{os.getpid()}-{time.time_ns()}{_CELLS}")

    def processes(self) -> list[int]:
        """The processes that have numbers here and still run."""
        return [pid for pid in map(_process, self.path.glob(f"*{_CELLS}")) if _runs(pid)]

    def read(self) -> Iterable[tuple[str, list[float]]]:
        """The numbers of all processes, those that ended included; a name comes once for each process."""
        parts: list[list[tuple[str, list[float]]]] = []
        for _ in range(_ATTEMPTS):
            ended = self._ended()
            parts.clear()
            for path in self.path.glob(f"*{_CELLS}"):
                if path.name != ended.newest:
                    # Files that are gone are in the sum by now, which has changed then.
                    with contextlib.suppress(FileNotFoundError):
                        parts.append(list(read_cells(path)))
            if self._ended().processes == ended.processes:
                break
        return (*ended.numbers.items(), *(each for part in parts for each in part))

    def forget(self, ended: int) -> None:
        """Add up what this process counted and others that have ended, and remove their files.

        For the first process alone: two at once would lose counts.
        """
        for path in sorted(self.path.glob(f"*{_CELLS}")):
            if (pid := _process(path)) == ended or not _runs(pid):
                self._forget(path)

    def _forget(self, path: Path) -> None:
        before = self._ended()
        numbers = dict(before.numbers)
        try:
            for name, added in read_cells(path):
                if _kind(name) != GAUGE:
                    there = numbers.get(name, [0.0] * len(added))
                    numbers[name] = [old + new for old, new in zip(there, added, strict=True)]
        except FileNotFoundError:
            pass  # killed before it had named anything
        else:
            # Readers pass by the files of the newest in the sum, until these are gone.
            content = json.dumps(_Ended(before.processes + 1, path.name, numbers))
            fresh = self.path / "ended.new"
            fresh.write_text(content, "utf-8")
            fresh.replace(self.path / _ENDED)
        remove_cells(path)

    def _ended(self) -> "_Ended":
        try:
            return _Ended(*json.loads((self.path / _ENDED).read_text("utf-8")))
        except FileNotFoundError:
            return _Ended(0, "", {})


def _kind(name: str) -> str:
    return str(json.loads(name)[0])


def _process(path: Path) -> int:
    return int(path.name.partition("-")[0])


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # somebody else's by now; ours share our user
    return True


def _locked_directory(parent: Path) -> tuple[Path, int]:
    """A new directory, and the lock that this process holds and those it forks until all are gone."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        lock = os.open(path / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            return path, lock
        os.close(lock)  # swept away by another service before it was locked


def _sweep(parent: Path) -> None:
    """Remove directories of services that were killed with all their processes."""
    for path in _leftovers(parent):
        with contextlib.suppress(OSError), (path / _LOCK).open("rb+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: it is in use
            shutil.rmtree(path, ignore_errors=True)


def _leftovers(parent: Path) -> Iterator[Path]:
    for path in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if path.is_dir() and not path.is_symlink() and path.stat().st_uid == os.getuid():
                yield path
