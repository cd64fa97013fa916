"""Moving a directory's history from SQLite to PostgreSQL, and retiring the file that it was in."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ca_service.app.rollback import guard_of
from ca_service.authority.mark import Mark, discrepancies
from ca_service.authority.ports import Actor, Clock
from ca_service.errors import ConfigurationError, MigrationRefused
from ca_service.settings import Settings, load_settings
from ca_service.settings.reading import environment_name, with_values
from ca_service.store.database import Database
from ca_service.store.moving import Moved, Tell, is_empty, move, not_empty
from ca_service.store.position import SqlPosition, stands_at
from ca_service.store.sqlite_files import MOVED
from ca_service.store.urls import file_name

VARIABLE = environment_name("database.url")


@dataclass(frozen=True)
class Move:
    """Works on one directory: `source` are its settings with SQLite, `target` the same with PostgreSQL."""

    source: Settings
    target: Settings
    clock: Clock
    actor: Actor

    @classmethod
    def planned(
        cls, file: Path, to: str | None, environ: Mapping[str, str], clock: Clock, actor: Actor
    ) -> "Move":
        """Find both databases: SQLite in the settings file, PostgreSQL in `to` or in the environment.

        Raises ConfigurationError when one of them is not named, or is not what it must be.
        """
        named = environ.get(VARIABLE, "")
        elsewhere = named.startswith("postgresql")
        source = load_settings(
            file, {name: value for name, value in environ.items() if name != VARIABLE or not elsewhere}
        )
        url = to or (named if elsewhere else "")
        if not url:
            raise ConfigurationError(
                f"where to? Name an empty PostgreSQL database in {VARIABLE} (like"
                " postgresql+psycopg://ca@db.example.com/ca), or without a password in --to"
            )
        if not source.database.url.startswith("sqlite"):
            raise ConfigurationError(
                f"[database] url in {file} names PostgreSQL; it must still name the SQLite file to move from"
            )
        target = with_values(source, {"database.url": url}, "--to" if to else f"environment {VARIABLE}")
        if not target.database.url.startswith("postgresql"):
            raise ConfigurationError("the target must be PostgreSQL: postgresql+psycopg://USER@HOST/NAME")
        return cls(source, target, clock, actor)

    @property
    def retired(self) -> Path:
        """Where the old file is afterwards."""
        return self.source.folder / f"{file_name(self.source.database.url)}{MOVED}"

    def run(self, tell: Tell) -> Moved | None:
        """Move everything, let the mark rise to it and rename the old file; None when only that was left.

        Raises ConfigurationError (the source's schema is another, the target is not empty), RolledBack,
        MarkUnavailable, MigrationRefused (a service has the source open), and StoreUnavailable.
        """
        source = Database(self.source.database.url, folder=self.source.folder)
        target = Database(self.target.database.url, folder=self.target.folder)
        try:
            source.check()
            found, quickly = SqlPosition(source).whole(), SqlPosition(source).quick()
            target.migrate()
            with target.reading() as connection:
                empty = is_empty(connection)
            if empty:
                guard_of(self.source, source).check()
            elif not _holds(target, found):
                raise not_empty()
            moved = None
            with source.taken_away(MOVED) as file:
                if stands_at(file) != quickly:
                    raise MigrationRefused("the service wrote into the database meanwhile; stop it first")
                if empty:
                    moved = move(file, target, clock=self.clock, actor=self.actor, tell=tell)
                # From here on the old file is behind the mark, wherever it is put back.
                guard_of(self.target, target).catch_up()
        finally:
            source.close()
            target.close()
        return moved


def _holds(target: Database, found: Mark) -> bool:
    """Whether a database went through all that another one says of itself: an earlier move has ended."""
    position = SqlPosition(target)
    return not discrepancies(found, position.whole(), position.root_at, position.audit_hash_at)
