"""Kills itself with -9 at one step of an append: python -m tests.faults.dying_worker FOLDER STEP.

The step is named by the statement it dies at; `after COMMIT` is when the entry is durable and its SCT is not
signed yet. At the step `fsync` nobody dies at once: SQLite says that the disk did not confirm the write. The
hook is here, around the driver's connection: the product has none.
"""

import contextlib
import os
import signal
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ca_service.store.connections import ProcessConnections
from ca_service.store.entry_kinds import CertificateEntries
from ca_service.store.sequencer import BatchingSequencer
from tests.support.entries import Foundation, machine_clock
from tests.support.store import RecordingObserver

STEPS = (
    *("BEGIN", "INSERT INTO leaves", "INSERT INTO issued", "INSERT INTO tiles", "UPDATE tree_heads"),
    *("COMMIT", "after COMMIT"),
)


class Dying:
    """A driver connection that dies at a statement; COMMIT counts only where a leaf was written before."""

    def __init__(self, connection: Any, step: str) -> None:
        self._connection = connection
        self._step = step
        self._wrote = self._committed = self._pipelined = False

    def _watch(self, sql: str, do: Any) -> Any:
        self._wrote |= "INSERT INTO leaves" in sql
        commits = sql == "COMMIT" and self._wrote
        if commits if self._step == "COMMIT" else self._step in sql:
            os.kill(os.getpid(), signal.SIGKILL)
        if commits and self._step == "fsync":
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
            raise error
        done = do()
        self._committed |= commits
        self._after()
        return done

    def _after(self) -> None:
        if self._committed and self._step == "after COMMIT" and not self._pipelined:
            os.kill(os.getpid(), signal.SIGKILL)

    @contextlib.contextmanager
    def pipeline(self) -> Iterator[None]:
        """PostgreSQL has done nothing of what is said inside before the end."""
        with self._connection.pipeline():
            self._pipelined = True
            yield
        self._pipelined = False
        self._after()

    def execute(self, sql: str, *parameters: object) -> Any:
        return self._watch(sql, lambda: self._connection.execute(sql, *parameters))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def main(folder: Path, step: str) -> None:
    """Append one entry, and die on the way."""
    foundation = Foundation(folder)
    entry = foundation.entry()
    original = ProcessConnections.open
    setattr(ProcessConnections, "open", lambda self: Dying(original(self), step))  # noqa: B010 - mypy takes no other
    foundation.database.close()
    sequencer = BatchingSequencer(
        foundation.database,
        foundation.log,
        foundation.sign,
        machine_clock,
        RecordingObserver(),
        entries=CertificateEntries(),
    )
    sequencer.append(entry)
    print("acknowledged", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
