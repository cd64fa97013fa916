"""The batching sequencer: many threads wait, one thread of the process writes them into the log together.

While one transaction is being made durable, the next batch gathers, and goes on to until the log's lock is
held. Where a strict high-water mark has to
rise before anything is released, a second thread lets it rise, for all batches that were stored meanwhile.
"""

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

from ca_service.authority.log import LogIdentity, SignTreeHead
from ca_service.authority.log_ports import PendingCertificate, Sequenced, TreeHead
from ca_service.authority.ports import Clock, Observer
from ca_service.authority.rollback import RollbackGuard
from ca_service.errors import CAError, LogBusy, LogUnavailable, StoreUnavailable
from ca_service.store.append import LogAppender, Outcome, Prepared, Stored
from ca_service.store.batches import Batches
from ca_service.store.database import Database
from ca_service.store.entry_kinds import EntryKind
from ca_service.store.faults import DiskUntrusted

HOUR_MS = 3_600_000

_Entry = TypeVar("_Entry")


class _Waiting(Generic[_Entry]):
    """An entry on its way: an adapter of log_ports.Ticket. `done` is called when its outcome is known.

    With `after` it is called by the one before it, since a thread sleeps until then.
    """

    __slots__ = ("after", "batch", "done", "entry", "gone", "outcome", "queue")

    def __init__(
        self,
        entry: Prepared[_Entry],
        queue: "Batches[_Waiting[_Entry]]",
        done: Callable[[], object],
        *,
        after: bool,
    ) -> None:
        self.entry = entry
        self.queue = queue
        self.done = done
        self.after = after
        self.outcome: Outcome | None = None
        self.gone = False
        self.batch: deque[_Waiting[Any]] | None = None

    def result(self) -> Sequenced:
        if isinstance(self.outcome, Sequenced):
            return self.outcome
        raise self.outcome or LogUnavailable(
            "the log did not store the entry in time; no certificate was released", retry_after=2
        )

    def withdraw(self) -> None:
        self.queue.withdraw(self)


_Batch = list[_Waiting[_Entry]]


class _Threads(Generic[_Entry]):
    """What writes in this process, and what releases after it."""

    def __init__(self, writing: Batches[_Waiting[_Entry]], releasing: Batches[Any] | None) -> None:
        self.writing = writing
        self.releasing = releasing

    def close(self) -> None:
        """Write and release what waits, then end the threads."""
        self.writing.close()
        if self.releasing is not None:
            self.releasing.close()


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
    ) -> None:
        """Join the collaborators; the thread starts with the first entry.

        `timeout` (seconds) bounds each `append`. `when_disk_lies` is called when the disk did not confirm a
        write: the operating system may then show what it never stored, so by default the process ends.
        A `guard` refuses a database that was rolled back, and notes how far the log has come.
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
        self._starting = threading.Lock()
        self._threads: _Threads[_Entry] | None = None

    def append(self, entry: _Entry, within: float | None = None) -> Sequenced:
        """Return only after entry, issued row and new tree head are durable in one transaction.

        `within` (seconds) is how long the caller can wait, if that is less than the sequencer would.
        Raises IdentityBlocked, TokenReused, IdentityRefused (a name that cannot be stored), LogBusy,
        LogUnavailable, ClockBehind, RolledBack, MarkUnavailable, and ConfigurationError when the database has
        not this log.
        """
        stored = threading.Lock()
        stored.acquire()
        waiting = self._put(entry, stored.release, after=True)
        waiting.queue.begin()
        patience = self._timeout if within is None else min(within, self._timeout)
        woken = False
        try:
            woken = stored.acquire(timeout=patience)
        finally:
            waiting.gone = not woken
            if waiting.batch is not None:
                _wake_next(waiting.batch)
        if not woken:
            waiting.withdraw()
            raise LogUnavailable(
                f"the log did not store the entry within {patience:.3g} s; no certificate was released",
                retry_after=2,
            )
        return waiting.result()

    def submit(self, entry: _Entry, done: Callable[[], object]) -> _Waiting[_Entry]:
        """Hand an entry over without waiting; see log_ports.Sequencer. Nothing begins before `begin`."""
        return self._put(entry, done, after=False)

    def begin(self) -> None:
        """Let the thread set to work, unless it does already."""
        self._here().begin()

    def _put(self, entry: _Entry, done: Callable[[], object], *, after: bool) -> _Waiting[_Entry]:
        self._entries.refuse_unstorable(entry)
        prepared = Prepared(entry, self._entries.beside_leaf(entry))
        queue = self._here()
        waiting = _Waiting(prepared, queue, done, after=after)
        if not queue.put(waiting, begin=False):
            self._observer.count("log_busy")
            raise LogBusy(
                f"{self._queue_size} entries are waiting to be logged, which is all that may wait",
                retry_after=1,
            )
        return waiting

    def republish(self, older_than_ms: int = HOUR_MS) -> TreeHead | None:
        """Sign the newest head anew when it is older than this; None when it is not.

        Raises ClockBehind, StoreUnavailable, ConfigurationError.
        """
        return self._appender().republish(older_than_ms)

    def close(self) -> None:
        """Write what waits and end this process's threads; later calls of `append` start others."""
        with self._starting:
            threads, self._threads = self._threads, None
        if threads is not None and threads.writing.pid == os.getpid():
            threads.close()

    def _here(self) -> Batches[_Waiting[_Entry]]:
        threads = self._threads
        if threads is not None and threads.writing.pid == os.getpid():
            return threads.writing
        with self._starting:
            threads = self._threads
            if threads is None or threads.writing.pid != os.getpid():
                threads = self._threads = self._start()
        return threads.writing

    def _start(self) -> _Threads[_Entry]:
        appender = self._appender()
        releasing: Batches[tuple[_Batch[_Entry], Stored]] | None = None
        release: Callable[[_Batch[_Entry], Stored], object] = _release
        if self._guard is not None and self._guard.strict:
            releasing = Batches(
                "log-release", sys.maxsize, sys.maxsize, partial(self._release_marked, appender)
            )
            put = releasing.put
            release = lambda batch, stored: put((batch, stored))  # noqa: E731 - one line of one use
        writing: Batches[_Waiting[_Entry]] = Batches(
            "log-sequencer",
            self._queue_size,
            self._batch_size,
            lambda batch: self._write(appender, writing, release, batch),
        )
        return _Threads(writing, releasing)

    def _appender(self) -> LogAppender[_Entry]:
        return LogAppender(
            self._database, self._log, self._sign_tree_head, self._clock, self._entries, self._guard
        )

    def _write(
        self,
        appender: LogAppender[_Entry],
        queue: Batches[_Waiting[_Entry]],
        release: Callable[[_Batch[_Entry], Stored], object],
        batch: _Batch[_Entry],
    ) -> None:
        began = time.perf_counter()
        self._observer.level("log_queue", len(batch) + self._queued())
        try:
            stored = appender.store(
                [waiting.entry for waiting in batch],
                lambda: [waiting.entry for waiting in queue.join(batch)],
            )
        except Exception as error:  # noqa: BLE001 - handed to every caller that waits for this batch
            if isinstance(error, DiskUntrusted):
                self._when_disk_lies()
            _release(batch, self._failed(batch, error))
        else:
            release(batch, stored)
        self._observer.duration("log_batch", time.perf_counter() - began)
        self._observer.size("log_batch", len(batch))
        self._observer.level("log_queue", self._queued())

    def _queued(self) -> int:
        threads = self._threads
        return 0 if threads is None else len(threads.writing)

    def _release_marked(
        self, appender: LogAppender[_Entry], waiting: Sequence[tuple[_Batch[_Entry], Stored]]
    ) -> None:
        """Release batches once the mark covers the newest of their heads, and so all of them."""
        heads = [stored.head for _, stored in waiting if stored.head is not None]
        try:
            if heads:
                appender.record(heads[-1])
        except Exception as error:  # noqa: BLE001 - handed to every caller that waits for these batches
            for batch, _ in waiting:
                _release(batch, self._failed(batch, error))
        else:
            for batch, stored in waiting:
                _release(batch, stored)

    def _failed(self, batch: _Batch[_Entry], error: Exception) -> Stored:
        self._observer.count("log_batch_failed", reason=type(error).__name__)
        return Stored([_told(error) for _ in batch], None)


BatchingSequencer = EntrySequencer[PendingCertificate]
"""The sequencer of a certificate log: an adapter of log_ports.Sequencer."""


def _release(batch: _Batch[_Entry], stored: Stored) -> None:
    """Tell each caller what became of its entry."""
    sleeping = deque[_Waiting[Any]](waiting for waiting in batch if waiting.after)
    for waiting, outcome in zip(batch, stored.outcomes, strict=True):
        waiting.outcome = outcome
        waiting.batch = sleeping
    for waiting in batch:
        if not waiting.after:
            waiting.done()
    _wake_next(sleeping)


def _wake_next(sleeping: deque[_Waiting[Any]]) -> None:
    """Wake the first of those who wait for the same batch; it wakes the next once it runs.

    Python runs one thread at a time: woken together, all but one would only be put to sleep again. Who is
    gone wakes nobody, so it is passed over; who goes at this moment finds the queue and wakes the next.
    """
    while sleeping:
        try:
            waiting = sleeping.popleft()
        except IndexError:  # another one took it
            return
        if not waiting.gone:
            waiting.done()
            return


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
