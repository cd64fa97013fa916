"""The ways past Flask: for the few calls that come so often that finding their view costs too much.

A shortcut answers what its view would, octet for octet, or None for what is unusual about a request, which
then takes the usual way. What it raises is answered by the error handlers of the view it stands for.

Where the server can come back to a request (it says so with DONE in the environment), a shortcut that waits
for the log answers Unfinished, and the thread is free for others meanwhile.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from ca_service.web.replies import Headers

DONE = "ca_service.done"
"""In the environment: what the server wants called, from any thread, when an Unfinished can be finished."""


@dataclass(frozen=True, slots=True)
class QuickReply:
    """A reply with status 200, apart from the headers that all replies have."""

    content_type: str
    headers: "Headers"
    body: bytes


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A reply that waits: `finish` gives it after DONE was called, or an error when it was not.

    `flush` is called when nothing else is about to join it, `withdraw` when nobody waits any more.
    """

    finish: Callable[[], QuickReply]
    flush: Callable[[], None]
    withdraw: Callable[[], None]


class Pending:
    """The body of a reply that is not there yet: what a WSGI application returns to such a server."""

    def __init__(self, unfinished: Unfinished, answer: Callable[[], Iterable[bytes]]) -> None:
        """Take what is waited for, and what then calls `start_response` and gives the body."""
        self.flush = unfinished.flush
        self.withdraw = unfinished.withdraw
        self._answer = answer
        self.resume: Callable[[], None] | None = None
        self.over: Callable[[], None] | None = None

    def finish(self) -> Iterable[bytes]:
        """Begin the reply and return its body; it raises what an application may raise."""
        if self.resume is not None:
            self.resume()
        try:
            return self._answer()
        finally:
            if self.over is not None:
                self.over()

    def __iter__(self) -> Iterator[bytes]:
        """Refuse to be sent as a body."""
        raise TypeError("this reply is not there yet: finish it first")


@dataclass(frozen=True, slots=True)
class Shortcut:
    """One call: a `path` that ends with a slash stands for all below it; `route` is the view's pattern."""

    method: str
    path: str
    route: str
    answer: Callable[["WSGIEnvironment"], QuickReply | Unfinished | None]


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
