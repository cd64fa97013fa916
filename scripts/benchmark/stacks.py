"""Stacks as py-spy writes them, and what they say when they are counted."""

import linecache
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_FRAME = re.compile(r"(?P<function>.*) \((?P<file>.*?)(?::(?P<line>\d+))?\)$")
_THREAD = re.compile(r"thread \(\w+\): ?(?P<name>.*)$")
_WAITING_ROOMS = {"threading", "selectors", "queue", "concurrent"}
_WAITS = re.compile(r"\.(acquire|get|poll|wait|select)\(|time\.sleep\(|flock\(")
"""Lines that wait: a thread that was woken and has no core yet is seen in one of these."""

Counted = Mapping[tuple[str, str], Mapping[tuple[str, bool], int]]
"""By name and note: how often it was seen, by thread and by whether it was at a line that waits."""


@dataclass(frozen=True)
class Stack:
    """One stack: the thread's purpose, its frames from the outermost, and how often it was seen."""

    thread: str
    frames: Sequence[str]
    count: int
    waiting: bool


def read_stacks(file: Path, purpose: Callable[[str], str]) -> Iterator[Stack]:
    """Read py-spy's raw format with threads: `thread (1): name;frame;frame count` a line."""
    for line in file.read_text().splitlines():
        frames, _, count = line.rpartition(" ")
        first, *others = frames.split(";")
        named = _THREAD.match(first)
        if named and others:
            _, source, number = _parts(others[-1])
            waiting = _WAITS.search(_text(source, number)) is not None
            yield Stack(purpose(named["name"]), others, int(count), waiting)


def by_room(stacks: Sequence[Stack]) -> Counted:
    """Own time: the innermost frame's room of the house, or library."""
    return _counted(stacks, lambda stack: [(room(_parts(stack.frames[-1])[1]), "")])


def by_function(stacks: Sequence[Stack]) -> Counted:
    """A function with all that it calls: once for each stack that it is in; of the service and its server."""

    def functions(stack: Stack) -> Iterator[tuple[str, str]]:
        for frame in set(stack.frames):
            function, file, _ = _parts(frame)
            if file.startswith(("ca_service/", "gunicorn/", "flask/", "authlib/", "joserfc/", "limits/")):
                yield f"{function} ({_short(file)})"[:45], ""

    return _counted(stacks, lambda stack: list(dict.fromkeys(functions(stack))))


def by_line(stacks: Sequence[Stack]) -> Counted:
    """Own time of single lines, with their text."""

    def lines(stack: Stack) -> list[tuple[str, str]]:
        _, file, line = _parts(stack.frames[-1])
        return [(f"{_short(file)}:{line}"[-45:], _text(file, line))]

    return _counted(stacks, lines)


def room(file: str) -> str:
    """The room of the house, the library, or the part of Python's library that a file belongs to."""
    parts = Path(file).parts
    if "ca_service" in parts[:1]:
        return ".".join(parts[:3]).removesuffix(".py")
    first = parts[0].removesuffix(".py") if parts else ""
    if first in _WAITING_ROOMS:
        return "waiting and waking (threading, selectors)"
    if first in sys.stdlib_module_names or first.startswith("<"):
        return "Python's library"
    return first


def _counted(stacks: Sequence[Stack], names: Callable[[Stack], Sequence[tuple[str, str]]]) -> Counted:
    found: dict[tuple[str, str], Counter[tuple[str, bool]]] = defaultdict(Counter)
    for stack in stacks:
        for name in names(stack):
            found[name][stack.thread, stack.waiting] += stack.count
    return found


def _parts(frame: str) -> tuple[str, str, int]:
    matched = _FRAME.match(frame)
    if matched is None:
        return frame, frame, 0
    return matched["function"], matched["file"], int(matched["line"] or 0)


def _short(file: str) -> str:
    return file.removeprefix("ca_service/")


@cache
def _text(file: str, line: int) -> str:
    """The line itself; py-spy names files by the end of their paths."""
    for folder in (*sys.path, str(Path(linecache.__file__).parent)):
        place = Path(folder) / file
        if place.is_file():
            return linecache.getline(str(place), line).strip()[:70]
    return ""
