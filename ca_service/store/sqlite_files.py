"""What is done with SQLite's file as a whole: having it alone, copying it, giving it another name."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from ca_service.errors import ConfigurationError, MigrationRefused

MOVED = ".moved"
"""The ending of a file whose history went to PostgreSQL."""


def missing(path: Path) -> ConfigurationError:
    """The refusal to go on without the file, which may have been moved by us."""
    moved = path.with_name(path.name + MOVED)
    if moved.exists():
        return ConfigurationError(
            f"[database] url: {path} does not exist; its history was moved to PostgreSQL, and {moved} is what"
            " is left: name that database in [database] url or CASVC_DATABASE__URL"
        )
    return ConfigurationError(
        f"[database] url: {path} does not exist; make the directory with `ca-service init`"
    )


@contextmanager
def alone(path: Path) -> Iterator[sqlite3.Connection]:
    """Have a SQLite file open that nobody else has open, or can open; MigrationRefused when somebody has."""
    with closing(sqlite3.connect(path, timeout=1.0, isolation_level=None)) as connection:
        try:
            # Before the first look at a file with a write-ahead log, this takes the file for one process.
            connection.execute("PRAGMA locking_mode = EXCLUSIVE").close()
            connection.execute("BEGIN EXCLUSIVE").close()
            connection.execute("COMMIT").close()
        except sqlite3.OperationalError as error:
            raise MigrationRefused(
                f"{path} is open elsewhere; stop the service, and every program that has it open"
            ) from error
        yield connection


def rename_durably(path: Path, name: Path) -> None:
    """Give a file another name in its folder. Raises OSError."""
    path.rename(name)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def copy(source: sqlite3.Connection, path: Path) -> None:
    """Make a new file with what the source holds at one moment; others may read and write it meanwhile."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    with closing(sqlite3.connect(path, isolation_level=None)) as made:
        # In one step, which sees one state: between several, writers would make it begin anew.
        source.backup(made)
