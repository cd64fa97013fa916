"""The ways past Flask: for the few calls that come so often that finding their view costs too much.

A shortcut answers what its view would, octet for octet, or None for what is unusual about a request, which
then takes the usual way. What it raises is answered by the error handlers of the view it stands for.

Where the server can come back to a request (it says so with DONE in the environment), a shortcut that waits
for the log answers Unfinished, and the thread is free for others meanwhile.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ca_service.authority.waiting import Elsewhere, Steps, WouldWait

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from ca_service.web.replies import Headers

DONE = "ca_service.done"
"""In the environment: what the server wants called, from any thread, when an Unfinished can be finished."""


@dataclass(frozen=True, slots=True)
class QuickReply:
    """A reply apart from the headers that all replies have; `status` is the line's code and phrase."""

    content_type: str
    headers: "Headers"
    body: bytes
    status: str = "200 OK"


Prepared = TypeVar("Prepared")


@dataclass(frozen=True, slots=True)
class Unfinished(Generic[Prepared]):
    """A reply that waits: steps before that, and after DONE was called, or nobody waits longer, steps to it.

    `flush` is called when nothing else is about to join it, `withdraw` when nobody waits any more.
    """

    prepare: Steps[Prepared]
    finish: Callable[[Prepared], Generator[None, None, QuickReply]]
    flush: Callable[[], None]
    withdraw: Callable[[Prepared], None]


class Pending:
    """The body of a reply that is not there yet: what a WSGI application returns to such a server.

    Many of them can be led on together, each by one step after the other: what a step needs is then in the
    processor's caches.
    """

    def __init__(
        self, unfinished: Unfinished[Any], answer: Callable[[QuickReply | Exception], Iterable[bytes]]
    ) -> None:
        """Take what is waited for, and what then calls `start_response` and gives the body."""
        self.flush = unfinished.flush
        self.failed = False
        """Whether it need not wait any more: `finish` tells why."""
        self.elsewhere: Elsewhere | None = None
        """What the next step waits for: it is not to be taken before that is over."""
        self.resume: Callable[[], None] = _nothing
        self.over: Callable[[], None] = _nothing
        self._unfinished = unfinished
        self._answer = answer
        self._prepared: Any = None
        self._finishing: Generator[None, None, QuickReply] | None = None
        self._outcome: QuickReply | Exception | None = None

    def advance(self) -> bool:
        """Take a step towards the wait, and say whether it was the last; may raise WouldWait."""
        self.resume()
        try:
            self.elsewhere = next(self._unfinished.prepare)
        except StopIteration as end:
            self._prepared = end.value
        except Exception as error:  # noqa: BLE001 - the application's handlers answer it
            self.failed, self._outcome = True, error
        else:
            return False
        return True

    def withdraw(self) -> None:
        """Wait no longer; what failed before the wait has nothing to take back."""
        if not self.failed:
            self._unfinished.withdraw(self._prepared)

    def finish(self) -> Iterable[bytes] | None:
        """Take a step towards the reply: its body, or None as long as there are others.

        May raise WouldWait, and is then to be called in a thread that may wait.
        """
        self.resume()
        if self._outcome is None:
            if self._finishing is None:
                self._finishing = self._unfinished.finish(self._prepared)
            try:
                next(self._finishing)
            except StopIteration as end:
                self._outcome = end.value
            except WouldWait:
                self._finishing = None
                raise
            except Exception as error:  # noqa: BLE001 - as above
                self._outcome = error
        if self._outcome is None:
            return None
        over, self.over = self.over, _nothing  # it may hold this reply
        over()
        return self._answer(self._outcome)

    def __iter__(self) -> Iterator[bytes]:
        """Refuse to be sent as a body."""
        raise TypeError("this reply is not there yet: finish it first")


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Shortcut:
    """One call: a `path` that ends with a slash stands for all below it; `route` is the view's pattern."""

    method: str
    path: str
    route: str
    answer: Callable[["WSGIEnvironment"], QuickReply | Unfinished[Any] | None]


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
