"""Kills itself with -9 at one step of an append: python -m tests.faults.dying_worker FOLDER STEP.

The step is named by the statement it dies at; `after COMMIT` is when the entry is durable and its SCT is not
signed yet. The hook is here, around the driver's connection: the product has none.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from ca_service.store.connections import ProcessConnections
from tests.support.entries import Foundation

STEPS = ("BEGIN", "INSERT INTO leaves", "INSERT INTO issued", "UPDATE tree_heads", "COMMIT", "after COMMIT")


class Dying:
    """A driver connection that dies at a statement."""

    def __init__(self, connection: Any, step: str) -> None:
        self._connection = connection
        self._step = step

    def _watch(self, sql: str, do: Any) -> Any:
        if sql.startswith(self._step):
            os.kill(os.getpid(), signal.SIGKILL)
        done = do()
        if self._step == f"after {sql}":
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    def execute(self, sql: str, *parameters: object) -> Any:
        return self._watch(sql, lambda: self._connection.execute(sql, *parameters))

    def cursor(self) -> Any:
        return Dying(self._connection.cursor(), self._step)

    def executemany(self, sql: str, rows: Any) -> Any:
        return self._watch(sql, lambda: self._connection.executemany(sql, rows))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def main(folder: Path, step: str) -> None:
    """Append one entry, and die on the way."""
    foundation = Foundation(folder)
    entry = foundation.entry()
    original = ProcessConnections.open
    setattr(ProcessConnections, "open", lambda self: Dying(original(self), step))  # noqa: B010 - mypy takes no other
    foundation.database.close()
    foundation.sequencer().append(entry)
    print("acknowledged", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
