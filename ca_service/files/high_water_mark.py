"""The high-water mark as one small JSON file, which belongs on another volume than the database.

The file has two halves, each a line of JSON with a checksum and padding. A change overwrites the older one in
place, under a lock between processes, and costs one flush of a few blocks: a replaced file would cost three.
A write that was cut off leaves the other half; when neither fits its checksum, the file is damaged.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ca_service.authority.mark import Mark
from ca_service.errors import AlreadyExists, MarkMissing, MarkUnavailable
from ca_service.files.durable import write_file
from ca_service.files.mark_form import MarkForm, opened, padded, turn_of
from ca_service.files.owners import make_folder, opened_lock

_LOCK_SECONDS = 2.0
_SMALLEST_HALF = 4096
_TICK_NS = 50_000_000
"""Two writes within one tick of the file system's clock look alike; what is older than this is settled."""

_Stamp = tuple[int, int, int, int]


class _Found(NamedTuple):
    """The file as it was read: the half that counts, how many writes led to it, and what it says."""

    stamp: _Stamp
    settled: bool
    half: int
    half_size: int
    turn: int
    content: bytes
    mark: Mark


class MarkFile:
    """An adapter of mark_ports.HighWaterMark; threads and processes may share the file."""

    def __init__(self, path: Path, *, lock_timeout: float = _LOCK_SECONDS) -> None:
        """Take the file's path; `lock_timeout` (seconds) bounds the wait for another writer."""
        self.path = path
        self._lock_timeout = lock_timeout
        self._last: _Found | None = None
        self._unsure = False
        self._form = MarkForm(path)

    def read(self) -> Mark:
        """What was stored last; read anew only when the file changed. MarkMissing, MarkUnavailable."""
        last = self._last
        try:
            stamp = _stamp(self.path.stat())
        except OSError as error:
            raise self._unreadable(error) from error
        if last is not None and last.settled and last.stamp == stamp:
            return last.mark
        return self._read_anew().mark

    def create(self, mark: Mark) -> None:
        """Store the first mark, and make its folder; AlreadyExists when there is one, MarkUnavailable."""
        self._make_folder()
        with self._locked():
            if self.path.exists():
                raise AlreadyExists(f"there is a high-water mark in {self.path} already; it is kept")
            self._write_whole(mark, 0)

    def change(self, made: Callable[[Mark], Mark]) -> None:
        """Put what `made` makes of the mark there, durably; as `advance`, but that nothing comes between."""
        with self._locked(), self._open() as descriptor:
            following = made((found := self._read_from(descriptor)).mark)
            if not found.mark.is_covered_by(following):
                raise ValueError("a high-water mark only rises")
            if following != found.mark or self._unsure:
                self._write_half(following, found, descriptor)

    def advance(self, seen: Mark, following: Mark) -> bool:
        """Put `following` in the place of `seen`, durably; False when another than `seen` stands there.

        Raises ValueError when that would lower anything, MarkMissing, MarkUnavailable.
        """
        if not seen.is_covered_by(following):
            raise ValueError("a high-water mark only rises")
        with self._locked(), self._open() as descriptor:
            found = self._read_from(descriptor)
            if found.mark != seen:
                return False
            if following != seen or self._unsure:
                self._write_half(following, found, descriptor)
        return True

    def reset(self, mark: Mark) -> None:
        """Put another mark there, whatever stood there, also a damaged one. Raises MarkUnavailable."""
        self._make_folder()
        with self._locked():
            self._write_whole(mark, 0)

    @contextmanager
    def _open(self) -> Iterator[int]:
        """A descriptor to read the file and write into it; under the lock, for others may replace it."""
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise self._unreadable(error) from error
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _read_anew(self) -> _Found:
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise self._unreadable(error) from error
        try:
            return self._read_from(descriptor)
        finally:
            os.close(descriptor)

    def _read_from(self, descriptor: int) -> _Found:
        try:
            stamp = _stamp(os.fstat(descriptor))
            content = os.pread(descriptor, stamp[2], 0)
        except OSError as error:
            raise self._unreadable(error) from error
        settled = time.time_ns() - stamp[0] > _TICK_NS
        last, size = self._last, len(content) // 2
        if last is not None and content == last.content:
            self._last = last = last._replace(stamp=stamp, settled=settled)
            return last
        halves = [
            (turn_of(payload), half, payload)
            for half in (0, 1)
            if (payload := opened(content[half * size : (half + 1) * size])) is not None
        ]
        if not halves:
            raise MarkUnavailable(
                f"the high-water mark in {self.path} is damaged: its checksum does not fit its content; "
                "restore the file, or see `ca-service recover --accept-missing-mark`"
            )
        turn, half, payload = max(halves, key=lambda each: (each[0], -each[1]))
        self._last = found = _Found(stamp, settled, half, size, turn, content, self._form.decoded(payload))
        return found

    def _write_half(self, mark: Mark, found: _Found, descriptor: int) -> None:
        line = self._form.encoded(mark, found.turn + 1)
        if len(line) >= found.half_size:
            self._write_whole(mark, found.turn + 1)
            return
        line = padded(line, found.half_size)
        half = 1 - found.half
        try:
            _write_at(descriptor, line, half * found.half_size)
            os.fdatasync(descriptor)
            stamp = _stamp(os.fstat(descriptor))
        except OSError as error:
            # The new content may be visible and yet not on the disk: the next call must write again.
            self._last, self._unsure = None, True
            raise self._unwritable(error) from error
        kept = found.content[found.half * found.half_size :][: found.half_size]
        content = line + kept if half == 0 else kept + line
        self._last = _Found(stamp, False, half, found.half_size, found.turn + 1, content, mark)
        self._unsure = False

    def _write_whole(self, mark: Mark, turn: int) -> None:
        line = self._form.encoded(mark, turn)
        size = _SMALLEST_HALF
        while size < 2 * len(line):
            size *= 2
        line = padded(line, size)
        self._last = None
        try:
            write_file(self.path, 2 * line, mode=0o600, for_folder=True)
        except OSError as error:
            self._unsure = True
            raise self._unwritable(error) from error
        self._unsure = False

    def _make_folder(self) -> None:
        try:
            make_folder(self.path.parent, 0o700)
        except OSError as error:
            raise self._unwritable(error) from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock file beside the mark, which itself is replaced with every write."""
        try:
            lock = opened_lock(self.path.with_name(f"{self.path.name}.lock"))
        except FileNotFoundError as error:
            raise self._unreadable(error) from error
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            deadline, pause = time.monotonic() + self._lock_timeout, 0.0002
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    # A blocking flock has no time limit, and a stopped holder must not stop everybody.
                    if time.monotonic() > deadline:
                        raise MarkUnavailable(
                            f"another process has held the lock of {self.path} for {self._lock_timeout:g} s;"
                            " look for one that is stopped or stuck",
                            retry_after=2,
                        ) from None
                    time.sleep(pause)
                    pause = min(pause * 1.3, 0.002)
            yield
        finally:
            os.close(lock)

    def _unreadable(self, error: OSError) -> MarkUnavailable:
        if isinstance(error, FileNotFoundError):
            return MarkMissing(
                f"there is no high-water mark in {self.path}; without it nobody can tell whether the database"
                " was rolled back, so nothing is signed",
                retry_after=5,
            )
        return MarkUnavailable(
            f"the high-water mark in {self.path} cannot be read: {error.strerror}", retry_after=5
        )

    def _unwritable(self, error: OSError) -> MarkUnavailable:
        return MarkUnavailable(
            f"the high-water mark in {self.path} cannot be written: {error.strerror}", retry_after=5
        )


def _stamp(found: os.stat_result) -> _Stamp:
    return found.st_mtime_ns, found.st_ino, found.st_size, found.st_dev


def _write_at(descriptor: int, content: bytes, place: int) -> None:
    if os.pwrite(descriptor, content, place) != len(content):
        raise OSError(28, "it was written in part only")
