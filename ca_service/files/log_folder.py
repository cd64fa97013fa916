"""A log's files in a folder, as a file server finds them: FOLDER/<shard>/checkpoint, tile/…, issuer/….

Beside them lie, under names with a dot, the lock, the cursor and the file that is being written. It must be
a local disk: a lock over NFS elects nobody.
"""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ca_service.errors import LogForked, StoreUnavailable
from ca_service.files.durable import sync_directory
from ca_service.files.owners import give_to_owner_of, make_folder, opened_lock

_FILE_MODE = 0o644
_FOLDER_MODE = 0o755
"""Public, whatever the service's umask: the file server runs as somebody else."""
_TO_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


class LogFolder:
    """Keeps the files of one log: an adapter of log_publisher.LogFiles; nothing is made before a turn."""

    def __init__(self, folder: Path, shard: str) -> None:
        """Take the folder that all logs share; this one's files get into a folder with its shard's name."""
        self.path = folder / shard
        self._folder = folder
        self._lock = folder / f".{shard}.lock"
        self._cursor = folder / f".{shard}.cursor"
        self._new = folder / f".{shard}.new"
        self._unsettled: set[Path] = set()

    @contextmanager
    def turn(self, pause: float) -> Iterator[bool]:
        """True inside when nobody else publishes here, and the last checkpoint is `pause` seconds old."""
        with _told("locking"):
            make_folder(self.path, _FOLDER_MODE)
            lock = opened_lock(self._lock, _FILE_MODE)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield not 0 <= self._age() < pause
        finally:
            os.close(lock)  # which frees it; so does the end of the process, however it comes

    def cursor(self) -> int:
        """The size up to which every file is durable."""
        with _told("reading"):
            try:
                text = self._cursor.read_text("ascii")
            except FileNotFoundError:
                return 0
        try:
            return int(text)
        except ValueError:
            raise LogForked(
                f"{self._cursor} holds no size; remove it, and every file is compared anew"
            ) from None

    def keep(self, path: str, content: bytes) -> bool:
        """Store a file that never changes; False when it is there already."""
        target = self.path / path
        # Names of files that are there already may be of a run that was killed before it settled them.
        self._unsettled.update(one for one in target.parents if one.is_relative_to(self._folder))
        with _told("writing"):
            try:
                present = target.read_bytes()
            except FileNotFoundError:
                make_folder(target.parent, _FOLDER_MODE)
                self._write(target, content)
                return True
        if present != content:
            raise LogForked(
                f"{target} is there with other content: the folder is of another log, or the database is; "
                "nothing was overwritten"
            )
        return False

    def settle(self) -> None:
        """Make all that was kept durable: the contents are, now the names."""
        with _told("writing"):
            while self._unsettled:
                sync_directory(next(iter(self._unsettled)))
                self._unsettled.pop()

    def drop_partial_tiles(self, path: str) -> None:
        """Remove the partial tiles beside a full one."""
        with _told("writing"), suppress(FileNotFoundError):
            shutil.rmtree(self.path / f"{path}.p")

    def advance(self, size: int) -> None:
        """Move the cursor."""
        with _told("writing"):
            self._write(self._cursor, b"%d\n" % size)
            sync_directory(self._folder)

    def current(self, path: str) -> bytes | None:
        """A file that changes, or None."""
        with _told("reading"):
            try:
                return (self.path / path).read_bytes()
            except FileNotFoundError:
                return None

    def replace(self, path: str, content: bytes) -> None:
        """Store a file that changes, durably."""
        with _told("writing"):
            self._write(self.path / path, content)
            sync_directory(self.path)

    def _age(self) -> float:
        try:
            return time.time() - (self.path / "checkpoint").stat().st_mtime
        except FileNotFoundError:
            return float("inf")

    def _write(self, target: Path, content: bytes) -> None:
        """Give a durable content its name; the name is durable once its folder is synchronized."""
        # One name for every file in the making: what a killed process left of it is simply written over.
        making = os.open(self._new, _TO_WRITE, _FILE_MODE)
        with os.fdopen(making, "wb") as file:
            os.fchmod(making, _FILE_MODE)
            give_to_owner_of(self._folder, making)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        self._new.replace(target)


@contextmanager
def _told(doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(
            f"{doing} in the folder of the log's files failed: {error.strerror} ({error.filename})"
        ) from error
