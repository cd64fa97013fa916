"""The guard against databases that were rolled back, as the settings want it."""

from ca_service.authority.ports import Observer
from ca_service.authority.rollback import RollbackGuard
from ca_service.files.high_water_mark import MarkFile
from ca_service.settings import Settings
from ca_service.store.database import Database
from ca_service.store.position import SqlPosition


def guard_of(settings: Settings, database: Database, observer: Observer | None = None) -> RollbackGuard:
    """Watch a directory's database with its high-water mark; nothing is read yet."""
    return RollbackGuard(
        MarkFile(settings.high_water_mark.path),
        SqlPosition(database),
        observer,
        strict=settings.high_water_mark.strict,
    )
