"""Writing files so that after a crash there is the old content or the new, never half of it."""

import os
import tempfile
from pathlib import Path

from ca_service.files.owners import give_to_owner_of


def write_file(path: Path, content: bytes, *, mode: int = 0o644, for_folder: bool = False) -> None:
    """Replace a file in one step; content and name are durable on return. Raises OSError.

    With `for_folder` what root writes belongs to the folder's owner, as a file of the service must.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            if for_folder:
                give_to_owner_of(path.parent, descriptor)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make names in a directory durable. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
