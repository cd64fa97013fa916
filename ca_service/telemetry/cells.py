"""Numbers that one process counts in, where the others can read them even after it was killed.

A process has a file of numbers, which it maps into its memory, and beside it a file that names them. To count
is then to add to a number in memory, and what was counted outlives kill -9. Only its own process writes.
"""

import mmap
import os
from array import array
from collections.abc import Iterator
from pathlib import Path

CAPACITY = 16_384
"""Numbers of one process; those after it are lost, in a place that nobody reads."""

_NOWHERE = 64
_SIZE = 8
_NAMES = ".names"


class Cells:
    """The numbers of this process; not to be used across fork."""

    def __init__(self, path: Path | None) -> None:
        """Keep them in a new file, or in this process alone; raises OSError where there is no room."""
        self._taken = _NOWHERE
        self._names: dict[str, tuple[int, int]] = {}
        self._file = -1
        self.numbers: memoryview[float] | array[float]
        if path is None:
            self.numbers = array("d", bytes(CAPACITY * _SIZE))
            return
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            # Room that is missing must be missing now: a page that cannot be had later kills the process.
            os.posix_fallocate(descriptor, 0, CAPACITY * _SIZE)
            self.numbers = memoryview(mmap.mmap(descriptor, CAPACITY * _SIZE)).cast("d")
        finally:
            os.close(descriptor)
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(path.with_suffix(_NAMES), flags, 0o600)

    def allot(self, name: str, count: int) -> int:
        """Give `count` numbers in a row to a name without newlines; return the place of the first."""
        if self._taken + count > CAPACITY:
            return 0
        place, self._taken = self._taken, self._taken + count
        self._names[name] = (place, count)
        if self._file >= 0:
            os.write(self._file, f"{place} {count} {name}\n".encode())
        return place

    def read(self) -> Iterator[tuple[str, list[float]]]:
        """Each name with its numbers as they are now."""
        for name, (place, count) in list(self._names.items()):
            yield name, list(self.numbers[place : place + count])


def read_cells(path: Path) -> Iterator[tuple[str, list[float]]]:
    """Each name of a process with its numbers; FileNotFoundError when its files are gone."""
    names, octets = path.with_suffix(_NAMES).read_bytes(), path.read_bytes()
    numbers = memoryview(octets[: len(octets) // _SIZE * _SIZE]).cast("d")
    # What follows the last newline is a name that is being written, or whose writer was killed.
    for line in names.split(b"\n")[:-1]:
        place, count, name = line.split(b" ", 2)
        yield name.decode(), list(numbers[int(place) : int(place) + int(count)])


def remove_cells(path: Path) -> None:
    """Remove the files of a process that ended."""
    path.unlink(missing_ok=True)
    path.with_suffix(_NAMES).unlink(missing_ok=True)
