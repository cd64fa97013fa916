"""A copy of all that an authority needs to go on elsewhere: database, keys, settings; never the mark."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ca_service.authority.mark import Mark
from ca_service.errors import AlreadyExists, ConfigurationError
from ca_service.files.durable import sync_directory
from ca_service.settings import Settings
from ca_service.settings.reading import setting_names, value_of, written
from ca_service.store.database import Database
from ca_service.store.position import SqlPosition
from ca_service.store.sqlite_files import MOVED
from ca_service.store.urls import file_name

OFFLINE = "offline"
"""Where `init` puts the root key, which has no business on this machine, let alone in its backups."""

_LOCKS = (".lock", "-lock", ".turnstile")

_ELSEWHERE = frozenset({"high_water_mark.path", "log.export_dir", "keys.passphrase_file"})
"""Settings whose files are left out wherever they are."""


@dataclass(frozen=True, slots=True)
class BackedUp:
    """What is in a backup: how far its database had come (None: not in it), files, and what is not in it."""

    position: Mark | None
    files: int
    left_out: tuple[str, ...]


def back_up(settings: Settings, folder: Path, *, database_only: bool = False) -> BackedUp:
    """Make a folder with the copy; the service may go on meanwhile.

    SQLite's database is copied as it is at one moment. PostgreSQL's is not copied. Afterwards the folder is
    there whole, or not at all. Raises AlreadyExists, ConfigurationError (a folder within the settings'; only
    the database of PostgreSQL), StoreUnavailable, OSError.
    """
    folder = folder.absolute()
    if folder.exists():
        raise AlreadyExists(f"{folder} exists; each backup gets a folder of its own")
    if folder.is_relative_to(settings.folder):
        raise ConfigurationError(f"{folder} is in the folder that is to be backed up; choose another disk")
    making = folder.with_name(f".{folder.name}.new")
    making.mkdir(mode=0o700, parents=True)
    try:
        # The database first: a shard of the log that is opened meanwhile has its key file before its row.
        position = _copy_database(settings, making, database_only=database_only)
        copied = 0 if database_only else sum(_copy_files(settings, making))
        for place in (making, *(each for each in making.rglob("*") if each.is_dir())):
            sync_directory(place)
        making.rename(folder)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise
    sync_directory(folder.parent)
    return BackedUp(position, copied, () if database_only else tuple(_left_out(settings)))


def _copy_database(settings: Settings, making: Path, *, database_only: bool) -> Mark | None:
    url = settings.database.url
    if not url.startswith("sqlite"):
        if database_only:
            raise ConfigurationError("PostgreSQL has its own: pg_dump, or base backups with the archived log")
        return None
    name = file_name(url)
    copy = making / (Path(name).name if Path(name).is_absolute() else name)
    copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = Database(url, folder=settings.folder)
    try:
        database.check()
        database.copy_to(copy)
    finally:
        database.close()
    found = Database(f"sqlite:///{copy}", folder=making)
    try:
        position = SqlPosition(found).whole()
    finally:
        found.close()
    for beside in copy.parent.glob(f"{copy.name}?*"):
        beside.unlink()
    return position


def _copy_files(settings: Settings, making: Path) -> Iterator[int]:
    """Copy what is in the settings' folder, with the modes it has; 1 for each file."""
    left_out = _paths_left_out(settings)
    for path in sorted(settings.folder.rglob("*")):
        if not path.is_file() or any(one in left_out for one in (path, *path.parents)):
            continue
        inside = path.relative_to(settings.folder)
        if path.name.endswith(_LOCKS) or any(part.startswith(".") for part in inside.parts):
            continue  # locks, and what is not finished
        target = making / inside
        for folder in (*reversed(inside.parent.parents), inside.parent):
            if not (making / folder).is_dir():
                (making / folder).mkdir(mode=0o700)
                shutil.copymode(settings.folder / folder, making / folder)
        shutil.copy2(path, target)
        with target.open("rb") as file:
            os.fsync(file.fileno())
        yield 1


def _paths_left_out(settings: Settings) -> set[Path]:
    paths = {settings.folder / OFFLINE}
    for name in _ELSEWHERE:
        value = value_of(settings, name)
        if isinstance(value, Path):
            paths.add(value)
    paths.update(settings.ocsp.delegates_dir.glob("ocsp-*.pem"))  # made anew when they are needed
    if settings.database.url.startswith("sqlite"):
        file = settings.folder / file_name(settings.database.url)
        paths.update(file.parent.glob(f"{file.name}*"))
    else:  # what a move to PostgreSQL left: nothing can be signed from it, and it names everybody
        paths.update(settings.folder.rglob(f"*{MOVED}"))
    return paths


def _left_out(settings: Settings) -> Iterator[str]:
    """What somebody who restores would miss, each as a sentence."""
    if (settings.folder / OFFLINE).exists():
        yield f"{settings.folder / OFFLINE}: the root key belongs on a medium of its own, off this machine"
    if settings.keys.passphrase_file is not None:
        yield f"{settings.keys.passphrase_file}: keep the passphrase apart from the keys that it opens"
    elif settings.keys.passphrase is not None:
        yield "the passphrase, which is in the environment: keep it apart from the keys that it opens"
    for name in setting_names():
        value = value_of(settings, name)
        if (
            isinstance(value, Path)
            and name not in _ELSEWHERE
            and not value.is_relative_to(settings.folder)
            and value.exists()
        ):
            yield f"{value}, which {written(name)} names: it is not in the folder of the settings"
    if not settings.database.url.startswith("sqlite"):
        yield "the database: back it up with PostgreSQL's own programs, before this"
