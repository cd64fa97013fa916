"""The high-water mark as one small JSON file, which belongs on another volume than the database.

Written whole and durably, under a lock between processes, and only ever upwards. A checksum tells a damaged
file from a low one.
"""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ca_service.authority.mark import CrlName, LogMark, Mark
from ca_service.errors import AlreadyExists, MarkMissing, MarkUnavailable
from ca_service.files.durable import write_file
from ca_service.vocabulary import KeyId, LogId, TimestampMs

_VERSION = 1
_LOCK_SECONDS = 2.0
_HEAD = '{"sha256":"'
_DIGEST = 64
_MIDDLE = '","mark":'

_Stamp = tuple[int, int, int, int]


class MarkFile:
    """An adapter of ports.HighWaterMark; threads and processes may share the file."""

    def __init__(self, path: Path, *, lock_timeout: float = _LOCK_SECONDS) -> None:
        """Take the file's path; `lock_timeout` (seconds) bounds the wait for another writer."""
        self.path = path
        self._lock_timeout = lock_timeout
        self._last: tuple[_Stamp, bytes, Mark] | None = None
        self._unsure = False
        self._encoded: tuple[Mapping[CrlName, int], str] | None = None

    def read(self) -> Mark:
        """What was stored last; read anew only when the file changed. MarkMissing, MarkUnavailable."""
        last = self._last
        try:
            stamp = _stamp(self.path.stat())
        except OSError as error:
            raise self._unreadable(error) from error
        if last is not None and last[0] == stamp:
            return last[2]
        return self._read_anew()

    def create(self, mark: Mark) -> None:
        """Store the first mark, and make its folder; AlreadyExists when there is one, MarkUnavailable."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error
        with self._locked():
            if self.path.exists():
                raise AlreadyExists(f"there is a high-water mark in {self.path} already; it is kept")
            self._write(mark)

    def advance(self, seen: Mark, following: Mark) -> bool:
        """Put `following` in the place of `seen`, durably; False when another than `seen` stands there.

        Raises ValueError when that would lower anything, MarkMissing, MarkUnavailable.
        """
        if not seen.is_covered_by(following):
            raise ValueError("a high-water mark only rises")
        with self._locked():
            # Not the cached one: two writes within one tick of the file system's clock look alike.
            if self._read_anew() != seen:
                return False
            if following != seen or self._unsure:
                self._write(following)
        return True

    def reset(self, mark: Mark) -> None:
        """Put another mark there, whatever stood there, also a damaged one. Raises MarkUnavailable."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error
        with self._locked():
            self._write(mark)

    def _read_anew(self) -> Mark:
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                stamp = _stamp(os.fstat(descriptor))
                content = file.read()
        except OSError as error:
            raise self._unreadable(error) from error
        last = self._last
        mark = last[2] if last is not None and last[1] == content else self._decoded(content)
        self._last = (stamp, content, mark)
        return mark

    def _write(self, mark: Mark) -> None:
        content = self._encode(mark)
        try:
            write_file(self.path, content, mode=0o600)
            stamp = _stamp(self.path.stat())
        except OSError as error:
            # The new content may be visible and yet not on the disk: the next call must write again.
            self._last, self._unsure = None, True
            raise self._unwritable(error) from error
        self._last, self._unsure = (stamp, content, mark), False

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

    def _encode(self, mark: Mark) -> bytes:
        """Write it as JSON; the CRL numbers, which are many and change rarely, are written once."""
        encoded = self._encoded
        if encoded is None or encoded[0] is not mark.crl_numbers:
            by_key: dict[str, dict[str, int]] = {}
            for (key, name), number in sorted(mark.crl_numbers.items()):
                by_key.setdefault(key, {})[name] = number
            encoded = self._encoded = (mark.crl_numbers, _json(by_key))
        logs = {
            log_id.hex(): {
                "tree_size": seen.tree_size,
                "root_hash": seen.root_hash.hex(),
                "timestamp": seen.timestamp,
            }
            for log_id, seen in mark.logs.items()
        }
        rest = {
            "version": _VERSION,
            "logs": logs,
            "revocation_generation": mark.generation,
            "audit": {"sequence": mark.audit_sequence, "hash": mark.audit_hash},
        }
        payload = f'{_json(rest)[:-1]},"crl_numbers":{encoded[1]}}}'
        return f"{_HEAD}{_sum(payload.encode())}{_MIDDLE}{payload}}}\n".encode()

    def _decoded(self, content: bytes) -> Mark:
        start = len(_HEAD) + _DIGEST + len(_MIDDLE)
        payload = content[start:-2]
        claimed = content[len(_HEAD) : len(_HEAD) + _DIGEST]
        if not content.startswith(_HEAD.encode()) or claimed.decode("ascii", "replace") != _sum(payload):
            raise MarkUnavailable(
                f"the high-water mark in {self.path} is damaged: its checksum does not fit its content; "
                "restore the file, or see `ca-service recover --accept-missing-mark`"
            )
        stored: dict[str, Any] = json.loads(payload)
        if stored["version"] != _VERSION:
            raise MarkUnavailable(
                f"the high-water mark in {self.path} is of form {stored['version']}, this program knows "
                f"{_VERSION}; run the newer version that wrote it"
            )
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


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True)


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
