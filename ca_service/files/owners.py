"""What root makes in the folders of the service: its user must own it, or the service cannot open it."""

import os
from pathlib import Path


def give_to_owner_of(folder: Path, descriptor: int) -> None:
    """When we are root, give a file that we have just made to whoever owns the folder. Raises OSError."""
    if os.geteuid() == 0:
        owner = folder.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def make_folder(folder: Path, mode: int) -> None:
    """Make a folder, and those above it, unless they are there; `mode` whatever the umask. Raises OSError."""
    if folder.is_dir():
        return
    make_folder(folder.parent, mode)
    folder.mkdir(exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchmod(descriptor, mode)
        give_to_owner_of(folder.parent, descriptor)
    finally:
        os.close(descriptor)


def opened_lock(path: Path, mode: int = 0o600) -> int:
    """A descriptor of a lock file, which is made when it is not there. Raises OSError.

    Only a file that was made here changes its owner: a name that leads elsewhere must give nothing away.
    """
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        pass
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, mode)
    except FileExistsError:  # another process made it in the meantime
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        give_to_owner_of(path.parent, descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
