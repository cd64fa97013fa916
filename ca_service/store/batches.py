"""A thread that takes together what has gathered while it was busy: group commit without lingering."""

import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from ca_service.errors import LogUnavailable

_Item = TypeVar("_Item")


class Batches(Generic[_Item]):
    """What waits in one process, and the thread that takes it away."""

    def __init__(self, name: str, size: int, batch_size: int, handle: Callable[[list[_Item]], None]) -> None:
        """Start the thread, which calls `handle` with at most `batch_size`; `size` items may wait."""
        self.pid = os.getpid()
        self._size = size
        self._batch_size = batch_size
        self._handle = handle
        self._waiting: deque[_Item] = deque()
        self._changed = threading.Condition(threading.Lock())
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def put(self, item: _Item, *, begin: bool = True) -> bool:
        """False when as many wait as may; raises LogUnavailable after `close`.

        An idle thread sets to work at once, or without `begin` when `begin` is called.
        """
        with self._changed:
            if self._closed:
                raise LogUnavailable("the log is closed: this process is ending", retry_after=1)
            if len(self._waiting) >= self._size:
                return False
            self._waiting.append(item)
            if begin and len(self._waiting) == 1:
                self._changed.notify()
        return True

    def begin(self) -> None:
        """Let the thread set to work, if it does not already."""
        with self._changed:
            self._changed.notify()

    def withdraw(self, item: _Item) -> None:
        """Take an item back that nobody waits for any more, unless it is being handled."""
        with self._changed:
            if item in self._waiting:
                self._waiting.remove(item)

    def join(self, batch: list[_Item]) -> list[_Item]:
        """Let what has gathered since a batch was taken go with it, as far as there is room; what joined."""
        with self._changed:
            count = min(len(self._waiting), self._batch_size - len(batch))
            joining = [self._waiting.popleft() for _ in range(count)]
        batch.extend(joining)
        return joining

    def close(self) -> None:
        """Handle what waits, then end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while batch := self._take():
            self._handle(batch)

    def _take(self) -> list[_Item]:
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            count = min(len(self._waiting), self._batch_size)
            return [self._waiting.popleft() for _ in range(count)]
