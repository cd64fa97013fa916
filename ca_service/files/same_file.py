"""Noticing that a file was moved away or replaced while it is open, and its path names another or nothing."""

from pathlib import Path

from ca_service.errors import StoreUnavailable


class SameFile:
    """A path that must go on naming the file that it named when it was looked at first."""

    def __init__(self, path: Path) -> None:
        """Take the path; nothing is looked at yet."""
        self.path = path
        self._known: tuple[int, int] | None = None

    def check(self) -> None:
        """Raise StoreUnavailable when the file is gone or another one is in its place; costs one stat.

        While there was none yet, nothing is said: whoever opens it says that better.
        """
        try:
            found = self.path.stat()
        except OSError as error:
            if self._known is None:
                return
            raise StoreUnavailable(
                f"{self.path.name} cannot be found any more ({error.strerror}); put it back where it was"
            ) from error
        place = (found.st_dev, found.st_ino)
        # No lock: whoever comes first in several threads has seen the same file, and no fork can inherit one.
        self._known = self._known or place
        if place != self._known:
            raise StoreUnavailable(
                f"{self.path.name} was replaced while it was in use; stop the service before a database is "
                "put in its place, and start it again"
            )
