"""The batching sequencer: many threads wait, one thread of the process writes them into the log together.

Group commit without lingering: while one transaction is being made durable, the next batch gathers.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from ca_service.authority.log import LogIdentity, SignTreeHead
from ca_service.authority.ports import Clock, Observer, PendingCertificate, Sequenced, TreeHead
from ca_service.authority.rollback import RollbackGuard
from ca_service.authority.turns import Pause, Turns
from ca_service.errors import CAError, LogBusy, LogUnavailable, StoreUnavailable
from ca_service.store.append import LogAppender, Outcome
from ca_service.store.database import Database
from ca_service.store.entry_kinds import EntryKind
from ca_service.store.faults import DiskUntrusted

HOUR_MS = 3_600_000

_Entry = TypeVar("_Entry")


class _Waiting(Generic[_Entry]):
    """An entry on its way, and the pause in which its caller sleeps."""

    __slots__ = ("done", "entry", "outcome")

    def __init__(self, entry: _Entry) -> None:
        self.entry = entry
        self.outcome: Outcome | None = None
        self.done = Pause()


class _Queue(Generic[_Entry]):
    """What waits in one process, and the thread that takes it away."""

    def __init__(
        self, size: int, batch_size: int, write: Callable[[Sequence[_Waiting[_Entry]]], None]
    ) -> None:
        self.pid = os.getpid()
        self._size = size
        self._batch_size = batch_size
        self._write = write
        self._waiting: deque[_Waiting[_Entry]] = deque()
        self._changed = threading.Condition(threading.Lock())
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="log-sequencer", daemon=True)
        self._thread.start()

    def put(self, waiting: _Waiting[_Entry]) -> bool:
        """False when the queue is full."""
        with self._changed:
            if self._closed:
                raise LogUnavailable("the log is closed: this process is ending", retry_after=1)
            if len(self._waiting) >= self._size:
                return False
            self._waiting.append(waiting)
        return True

    def begin(self) -> None:
        """Let what waits be written, unless that is under way: then it is written next."""
        with self._changed:
            self._changed.notify()

    def withdraw(self, waiting: _Waiting[_Entry]) -> None:
        """Take an entry back that nobody waits for any more, unless it is being written."""
        with self._changed:
            if waiting in self._waiting:
                self._waiting.remove(waiting)

    def close(self) -> None:
        """Write what waits, then end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while batch := self._take():
            self._write(batch)

    def _take(self) -> list[_Waiting[_Entry]]:
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            count = min(len(self._waiting), self._batch_size)
            return [self._waiting.popleft() for _ in range(count)]


def _leave() -> None:
    os._exit(70)  # EX_SOFTWARE; the service's supervisor starts a process that reads the disk afresh


class EntrySequencer(Generic[_Entry]):
    """Puts entries of one kind into one log; made before a fork, it works in each process after it."""

    def __init__(
        self,
        database: Database,
        log: LogIdentity,
        sign_tree_head: SignTreeHead,
        clock: Clock,
        observer: Observer,
        *,
        entries: EntryKind[_Entry],
        queue_size: int = 1024,
        batch_size: int = 256,
        timeout: float = 10.0,
        when_disk_lies: Callable[[], None] = _leave,
        guard: RollbackGuard | None = None,
        turns: Turns | None = None,
    ) -> None:
        """Join the collaborators; the thread starts with the first entry.

        `timeout` (seconds) bounds each `append`. `when_disk_lies` is called when the disk did not confirm a
        write: the operating system may then show what it never stored, so by default the process ends.
        A `guard` refuses a database that was rolled back, and notes how far the log has come. With the
        server's `turns` a batch begins when no thread has another entry ready, without them at once.
        """
        self._database = database
        self._log = log
        self._sign_tree_head = sign_tree_head
        self._clock = clock
        self._observer = observer
        self._entries = entries
        self._queue_size = queue_size
        self._batch_size = batch_size
        self._timeout = timeout
        self._when_disk_lies = when_disk_lies
        self._guard = guard
        self._turns = turns or Turns()
        self._starting = threading.Lock()
        self._queue: _Queue[_Entry] | None = None

    def append(self, entry: _Entry, within: float | None = None) -> Sequenced:
        """Return only after entry, issued row and new tree head are durable in one transaction.

        `within` (seconds) is how long the caller can wait, if that is less than the sequencer would.
        Raises IdentityBlocked, TokenReused, IdentityRefused (a name that cannot be stored), LogBusy,
        LogUnavailable, ClockBehind, RolledBack, MarkUnavailable, and ConfigurationError when the database has
        not this log.
        """
        self._entries.refuse_unstorable(entry)
        queue, waiting = self._here(), _Waiting(entry)
        if not queue.put(waiting):
            self._observer.count("log_busy")
            raise LogBusy(
                f"{self._queue_size} entries are waiting to be logged, which is all that may wait",
                retry_after=1,
            )
        patience = self._timeout if within is None else min(within, self._timeout)
        if not self._turns.wait(waiting.done, patience, queue.begin):
            queue.withdraw(waiting)
            raise LogUnavailable(
                f"the log did not store the entry within {patience:.3g} s; no certificate was released",
                retry_after=2,
            )
        if isinstance(waiting.outcome, Sequenced):
            return waiting.outcome
        raise waiting.outcome or LogUnavailable("the log gave no answer", retry_after=2)

    def republish(self, older_than_ms: int = HOUR_MS) -> TreeHead | None:
        """Sign the newest head anew when it is older than this; None when it is not.

        Raises ClockBehind, StoreUnavailable, ConfigurationError.
        """
        return self._appender().republish(older_than_ms)

    def close(self) -> None:
        """Write what waits and end this process's thread; later calls of `append` start another."""
        with self._starting:
            queue, self._queue = self._queue, None
        if queue is not None and queue.pid == os.getpid():
            queue.close()

    def _here(self) -> _Queue[_Entry]:
        queue = self._queue
        if queue is not None and queue.pid == os.getpid():
            return queue
        with self._starting:
            queue = self._queue
            if queue is None or queue.pid != os.getpid():
                appender = self._appender()
                queue = self._queue = _Queue(
                    self._queue_size, self._batch_size, lambda batch: self._write(appender, batch)
                )
        return queue

    def _appender(self) -> LogAppender[_Entry]:
        return LogAppender(
            self._database, self._log, self._sign_tree_head, self._clock, self._entries, self._guard
        )

    def _write(self, appender: LogAppender[_Entry], batch: Sequence[_Waiting[_Entry]]) -> None:
        began = time.perf_counter()
        try:
            outcomes: Sequence[Outcome] = appender.append([waiting.entry for waiting in batch])
        except Exception as error:  # noqa: BLE001 - handed to every caller that waits for this batch
            if isinstance(error, DiskUntrusted):
                self._when_disk_lies()
            self._observer.count("log_batch_failed", reason=type(error).__name__)
            outcomes = [_told(error) for _ in batch]
        for waiting, outcome in zip(batch, outcomes, strict=True):
            waiting.outcome = outcome
            self._turns.wake(waiting.done)
        self._observer.duration("log_batch", time.perf_counter() - began)


BatchingSequencer = EntrySequencer[PendingCertificate]
"""The sequencer of a certificate log: an adapter of ports.Sequencer."""


def _told(error: Exception) -> CAError:
    """An exception of its own for each caller: they are raised in different threads."""
    if isinstance(error, CAError) and not isinstance(error, StoreUnavailable):
        told: CAError = type(error)(error.message, retry_after=error.retry_after, **error.facts)
    elif isinstance(error, StoreUnavailable):
        told = LogUnavailable(f"the log stored nothing: {error.message}", retry_after=error.retry_after)
    else:
        told = LogUnavailable(
            f"the log stored nothing, for an internal {type(error).__name__}", retry_after=2
        )
    told.__cause__ = error
    return told
