"""Whether the running thread may wait.

The thread that serves all of a worker's connections must never wait for one of them. While it tries whether
a request can be answered at once, whatever would have to wait, for a network, a lock or another thread,
raises WouldWait instead; the request is then begun anew on a thread that may.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Generator
from typing import TypeAlias, TypeVar

_here = threading.local()
_LOG = logging.getLogger(__name__)


class WouldWait(BaseException):
    """The running thread may not wait, and would have to."""


class _AtOnce:
    # One for all, since the thread's own mark is all it has; a generator would cost more than what it guards.

    __slots__ = ()

    def __enter__(self) -> None:
        _here.may_not_wait = True

    def __exit__(self, *_error: object) -> None:
        _here.may_not_wait = False


_AT_ONCE = _AtOnce()


def at_once() -> _AtOnce:
    """A context in which whatever would wait in this thread raises WouldWait."""
    return _AT_ONCE


def may_wait() -> bool:
    """Whether the running thread may wait."""
    return not getattr(_here, "may_not_wait", False)


def about_to_wait() -> None:
    """Called before anything that waits for others; raises WouldWait in a thread that may not."""
    if getattr(_here, "may_not_wait", False):
        raise WouldWait


class Elsewhere:
    """What one step of many waits for while the thread goes on with others: another thread finds it out.

    `flush` lets that one set to work when no other step is about to join; it calls `then` when it is done.
    """

    __slots__ = ("flush", "is_over", "then")

    def __init__(self, flush: Callable[[], None]) -> None:
        """Take how work is begun; nobody waits yet."""
        self.flush = flush
        self.is_over = False
        self.then: Callable[[], None] = _nobody

    def end(self) -> None:
        """Say, in the other thread, that it is done."""
        self.is_over = True
        then, self.then = self.then, _nobody  # it may hold whoever waits
        then()


def _nobody() -> None:
    pass


_Result = TypeVar("_Result")
Steps: TypeAlias = Generator[Elsewhere | None, None, _Result]
"""Steps that a thread takes for many at once, and what the next of them waits for, when it does."""


class Lately:
    """Something that is asked only when it went well longer than a moment ago.

    It is for what is checked again, under a lock, before anything is stored. Of threads that may not wait one
    makes way for the question each time; the others go by an answer that is somewhat older.
    """

    def __init__(
        self,
        fresh_seconds: float,
        usable_seconds: float,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take how old an answer may be, and how old while somebody asks; `elapsed` never goes back."""
        self._fresh = fresh_seconds
        self._usable = usable_seconds
        self._elapsed = elapsed
        self._well_at = float("-inf")
        self._asked_at = float("-inf")

    def is_due(self) -> bool:
        """Whether to ask now; call `went_well` once that was done."""
        now = self._elapsed()
        age = now - self._well_at
        if age < self._fresh:
            return False
        if may_wait() or age >= self._usable:
            return True
        if now - self._asked_at < self._fresh:
            return False
        self._asked_at = now
        return True

    def is_usable(self) -> bool:
        """Whether to go by the last answer while somebody asks."""
        return self._elapsed() - self._well_at < self._usable

    def went_well(self) -> None:
        """Note that the answer was asked for and is good."""
        self._well_at = self._elapsed()


class Background:
    """A thread that asks a question for threads that may not wait, whenever one of them wants it asked."""

    def __init__(self, name: str, ask: Callable[[], object]) -> None:
        """Take the question; the thread starts when it is first wanted, and survives what that raises."""
        self._name = name
        self._ask = ask
        self._pid = 0
        self._wanted = threading.Event()

    def want(self) -> None:
        """Have it asked soon; for one thread of each process."""
        if self._pid != os.getpid():
            self._pid = os.getpid()  # no thread survives a fork
            self._wanted = threading.Event()
            threading.Thread(target=self._run, args=(self._wanted,), name=self._name, daemon=True).start()
        self._wanted.set()

    def _run(self, wanted: threading.Event) -> None:
        while wanted.wait():
            wanted.clear()
            try:
                self._ask()
            except Exception:  # noqa: BLE001 - without this thread nobody would ask again
                _LOG.exception("%s failed; it is tried again when it is wanted", self._name)
