"""The ways past Flask: for the few calls that come so often that finding their view costs too much.

A shortcut answers what its view would, octet for octet, or None for what is unusual about a request, which
then takes the usual way. What it raises is answered by the error handlers of the view it stands for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from ca_service.web.replies import Headers


@dataclass(frozen=True, slots=True)
class QuickReply:
    """A reply with status 200, apart from the headers that all replies have."""

    content_type: str
    headers: "Headers"
    body: bytes


@dataclass(frozen=True, slots=True)
class Shortcut:
    """One call: a `path` that ends with a slash stands for all below it; `route` is the view's pattern."""

    method: str
    path: str
    route: str
    answer: Callable[["WSGIEnvironment"], QuickReply | None]


class Shortcuts:
    """Finds a request's shortcut."""

    def __init__(self, shortcuts: Sequence[Shortcut]) -> None:
        """Take them all."""
        self._by_place = {(each.method, each.path): each for each in shortcuts}

    def find(self, environ: "WSGIEnvironment") -> Shortcut | None:
        """The shortcut of a request, if it has one."""
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        end = path.find("/", 1) + 1
        if end == len(path) and end:
            return None  # a folder itself is another call than what is below it
        return self._by_place.get((method, path)) or self._by_place.get((method, path[:end]))
