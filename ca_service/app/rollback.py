"""The guard against databases that were rolled back, as the settings want it."""

from pathlib import Path

from ca_service.authority.mark import Mark
from ca_service.authority.ports import Observer
from ca_service.authority.rollback import RollbackGuard
from ca_service.files.high_water_mark import MarkFile
from ca_service.files.same_file import SameFile
from ca_service.settings import Settings
from ca_service.store.database import Database
from ca_service.store.position import SqlPosition


class MarkOfFile(MarkFile):
    """The mark of a database in a file, which nobody reads once that file is no longer in its place.

    Whoever has a file open can go on writing into it after it was moved or replaced: certificates and
    revocations would be lost, and those that others store in its place not be seen.
    """

    def __init__(self, path: Path, database: Path) -> None:
        """Take the mark's path and the database's."""
        super().__init__(path)
        self._database = SameFile(database)

    def read(self) -> Mark:
        """As MarkFile does; raises StoreUnavailable too."""
        self._database.check()
        return super().read()


def guard_of(settings: Settings, database: Database, observer: Observer | None = None) -> RollbackGuard:
    """Watch a directory's database with its high-water mark; nothing is read yet."""
    mark = settings.high_water_mark
    file = _sqlite_file(settings)
    return RollbackGuard(
        MarkFile(mark.path) if file is None else MarkOfFile(mark.path, file),
        SqlPosition(database),
        observer,
        strict=mark.strict,
    )


def _sqlite_file(settings: Settings) -> Path | None:
    """The database's file, when it is one."""
    kind, _, rest = settings.database.url.partition(":///")
    return settings.folder / rest.partition("?")[0] if kind.startswith("sqlite") and rest else None
