"""The high-water mark as one small JSON file, which belongs on another volume than the database.

The file has two halves, each a line of JSON with a checksum and padding. A change overwrites the older one in
place, under a lock between processes, and costs one flush of a few blocks: a replaced file would cost three.
A write that was cut off leaves the other half; when neither fits its checksum, the file is damaged.
"""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ca_service.authority.mark import CrlName, LogMark, Mark
from ca_service.errors import AlreadyExists, MarkMissing, MarkUnavailable
from ca_service.files.durable import write_file
from ca_service.vocabulary import KeyId, LogId, TimestampMs

_VERSION = 1
_LOCK_SECONDS = 2.0
_HEAD = b'{"sha256":"'
_DIGEST = 64
_MIDDLE = b'","mark":'
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
    """An adapter of ports.HighWaterMark; threads and processes may share the file."""

    def __init__(self, path: Path, *, lock_timeout: float = _LOCK_SECONDS) -> None:
        """Take the file's path; `lock_timeout` (seconds) bounds the wait for another writer."""
        self.path = path
        self._lock_timeout = lock_timeout
        self._last: _Found | None = None
        self._unsure = False
        self._encoded: tuple[Mapping[CrlName, int], str] | None = None

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
        with self._locked():
            following = made((found := self._read_anew()).mark)
            if not found.mark.is_covered_by(following):
                raise ValueError("a high-water mark only rises")
            if following != found.mark or self._unsure:
                self._write_half(following, found)

    def advance(self, seen: Mark, following: Mark) -> bool:
        """Put `following` in the place of `seen`, durably; False when another than `seen` stands there.

        Raises ValueError when that would lower anything, MarkMissing, MarkUnavailable.
        """
        if not seen.is_covered_by(following):
            raise ValueError("a high-water mark only rises")
        with self._locked():
            found = self._read_anew()
            if found.mark != seen:
                return False
            if following != seen or self._unsure:
                self._write_half(following, found)
        return True

    def reset(self, mark: Mark) -> None:
        """Put another mark there, whatever stood there, also a damaged one. Raises MarkUnavailable."""
        self._make_folder()
        with self._locked():
            self._write_whole(mark, 0)

    def _read_anew(self) -> _Found:
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                stamp = _stamp(os.fstat(descriptor))
                content = file.read()
        except OSError as error:
            raise self._unreadable(error) from error
        settled = time.time_ns() - stamp[0] > _TICK_NS
        last, size = self._last, len(content) // 2
        if last is not None and content == last.content:
            self._last = last = last._replace(stamp=stamp, settled=settled)
            return last
        halves = [
            (stored["turn"], half, stored)
            for half in (0, 1)
            if (stored := _opened(content[half * size : (half + 1) * size])) is not None
        ]
        if not halves:
            raise MarkUnavailable(
                f"the high-water mark in {self.path} is damaged: its checksum does not fit its content; "
                "restore the file, or see `ca-service recover --accept-missing-mark`"
            )
        turn, half, stored = max(halves, key=lambda each: (each[0], -each[1]))
        if stored["version"] != _VERSION:
            raise MarkUnavailable(
                f"the high-water mark in {self.path} is of form {stored['version']}, this program knows "
                f"{_VERSION}; run the newer version that wrote it"
            )
        self._last = found = _Found(stamp, settled, half, size, turn, content, _decoded(stored))
        return found

    def _write_half(self, mark: Mark, found: _Found) -> None:
        line = self._line(mark, found.turn + 1)
        if len(line) >= found.half_size:
            self._write_whole(mark, found.turn + 1)
            return
        line = _padded(line, found.half_size)
        half = 1 - found.half
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                if os.pwrite(descriptor, line, half * found.half_size) != len(line):
                    raise OSError(28, "it was written in part only")
                os.fdatasync(descriptor)
                stamp = _stamp(os.fstat(descriptor))
            finally:
                os.close(descriptor)
        except OSError as error:
            # The new content may be visible and yet not on the disk: the next call must write again.
            self._last, self._unsure = None, True
            raise self._unwritable(error) from error
        kept = found.content[found.half * found.half_size :][: found.half_size]
        content = line + kept if half == 0 else kept + line
        self._last = _Found(stamp, False, half, found.half_size, found.turn + 1, content, mark)
        self._unsure = False

    def _write_whole(self, mark: Mark, turn: int) -> None:
        line = self._line(mark, turn)
        size = _SMALLEST_HALF
        while size < 2 * len(line):
            size *= 2
        line = _padded(line, size)
        self._last = None
        try:
            write_file(self.path, 2 * line, mode=0o600)
        except OSError as error:
            self._unsure = True
            raise self._unwritable(error) from error
        self._unsure = False

    def _make_folder(self) -> None:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock file beside the mark, which itself is replaced with every write."""
        try:
            lock = os.open(f"{self.path}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
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

    def _line(self, mark: Mark, turn: int) -> bytes:
        """Write it as JSON; the CRL numbers, which are many and change rarely, are encoded once."""
        encoded = self._encoded
        if encoded is None or encoded[0] is not mark.crl_numbers:
            by_key: dict[str, dict[str, int]] = {}
            for (key, name), number in sorted(mark.crl_numbers.items()):
                by_key.setdefault(key, {})[name] = number
            encoded = self._encoded = (mark.crl_numbers, _json(by_key))
        rest = {
            "version": _VERSION,
            "turn": turn,
            "logs": {
                log_id.hex(): {
                    "tree_size": seen.tree_size,
                    "root_hash": seen.root_hash.hex(),
                    "timestamp": seen.timestamp,
                }
                for log_id, seen in mark.logs.items()
            },
            "revocation_generation": mark.generation,
            "audit": {"sequence": mark.audit_sequence, "hash": mark.audit_hash},
        }
        payload = f'{_json(rest)[:-1]},"crl_numbers":{encoded[1]}}}'.encode()
        return _HEAD + _sum(payload) + _MIDDLE + payload + b"}"

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


def _opened(line: bytes) -> dict[str, Any] | None:
    """What a half says, None when its checksum does not fit: it was never written whole."""
    payload = line.rstrip()[len(_HEAD) + _DIGEST + len(_MIDDLE) : -1]
    if (
        line[len(_HEAD) : len(_HEAD) + _DIGEST] != _sum(payload)
        or not line.startswith(_HEAD)
        or not line.endswith(b"\n")
    ):
        return None
    stored: dict[str, Any] = json.loads(payload)
    return stored


def _decoded(stored: dict[str, Any]) -> Mark:
    return Mark(
        logs={
            LogId(bytes.fromhex(log_id)): LogMark(
                seen["tree_size"], bytes.fromhex(seen["root_hash"]), TimestampMs(seen["timestamp"])
            )
            for log_id, seen in stored["logs"].items()
        },
        generation=stored["revocation_generation"],
        audit_sequence=stored["audit"]["sequence"],
        audit_hash=stored["audit"]["hash"],
        crl_numbers={
            (KeyId(key), name): number
            for key, names in stored["crl_numbers"].items()
            for name, number in names.items()
        },
    )


def _stamp(found: os.stat_result) -> _Stamp:
    return found.st_mtime_ns, found.st_ino, found.st_size, found.st_dev


def _padded(line: bytes, size: int) -> bytes:
    return line.ljust(size - 1) + b"\n"


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True)


def _sum(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()
