"""Exceptions in the log: where they were raised, and their words only where nobody else chose them.

A message made by a library repeats what it was given: a key that is missing, a text that is no number, a row
that is there twice. So it may hold an identity, in a form that no pattern finds.
"""

import sys
import threading
import traceback
from collections.abc import Iterator
from types import TracebackType

import structlog

from ca_service.errors import CAError

WITHHELD = "(its message is left out: it may repeat what a caller sent)"

# Ours, written to be read by callers; and those that speak of the program or the machine alone.
_PLAIN = (
    CAError,
    AttributeError,
    ImportError,
    MemoryError,
    NameError,
    NotImplementedError,
    OSError,
    RecursionError,
    SystemExit,
    TypeError,
)
_LONGEST_CHAIN = 8

ExcInfo = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]


def format_exception(error: BaseException) -> str:
    """The traceback of an exception and of those that led to it, the first one first."""
    parts: list[str] = []
    for one, joined in _chain(error):
        text = "".join(traceback.format_tb(one.__traceback__)) + f"{_name(one)}: {_message(one)}"
        parts.insert(0, text + (f"\n\n{joined}\n\n" if parts else ""))
    return "Traceback (most recent call last):\n" + "".join(parts)


def log_uncaught() -> None:
    """Let what no thread catches reach the log, and not standard error as it is; for a server's process."""
    log = structlog.get_logger("ca_service.fault")

    def of_thread(hook: threading.ExceptHookArgs) -> None:
        name = hook.thread.name if hook.thread is not None else ""
        log.error("a thread ended by an exception", thread=name, exc_info=hook.exc_value)

    def ignored(hook: "sys.UnraisableHookArgs") -> None:
        log.error("an exception that could not be raised", exc_info=hook.exc_value)

    def of_process(_kind: object, error: BaseException, _trace: object) -> None:
        log.critical("the process ended by an exception", exc_info=error)

    threading.excepthook = of_thread
    sys.unraisablehook = ignored
    sys.excepthook = of_process


def _chain(error: BaseException) -> Iterator[tuple[BaseException, str]]:
    """The exception and what it follows from, each with the words that join it to the one after it."""
    joined, seen = "", set[int]()
    following: BaseException | None = error
    while following is not None and id(following) not in seen and len(seen) < _LONGEST_CHAIN:
        seen.add(id(following))
        yield following, joined
        if following.__cause__ is not None:
            following, joined = following.__cause__, "This led to:"
        elif following.__suppress_context__:
            return
        else:
            following, joined = following.__context__, "While this was handled:"


def _name(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _message(error: BaseException) -> str:
    if not isinstance(error, _PLAIN):
        return WITHHELD
    if isinstance(error, OSError):
        # Without the file that it names, which may have its name from a request.
        return error.strerror or type(error).__name__
    return str(error)
