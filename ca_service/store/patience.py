"""PostgreSQL connections that wait for no answer without end: a server that hangs is as one that is away."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
import sqlalchemy
from psycopg.abc import PQGen

_PAUSE_SECONDS = 1.0
_TRY_SECONDS = 15.0
_TOGETHER = 64
"""Commands that are sent in one piece at most: an executemany may bring very many."""

_R = TypeVar("_R")


class _InOnePiece(psycopg.Pipeline):
    """A pipeline that sends what it was given together when it ends, and not each statement for itself.

    Each piece is a call into the kernel, and wakes the server for one statement. It ends with Sync, as the
    protocol wants it, and not with a Flush after it: PostgreSQL takes the Flush for the client's next word.
    If the client then hangs in the middle of a transaction, idle_in_transaction_session_timeout does not end
    that.
    """

    def _communicate_gen(self) -> PQGen[None]:
        if len(self.command_queue) >= _TOGETHER:
            yield from self._send_gen()

    def _send_gen(self) -> PQGen[None]:
        # libpq keeps what it is given until it is told to flush, which comes with the last one.
        while len(self.command_queue) > 1:
            self.command_queue.popleft()()
        yield from super()._communicate_gen()

    def _fetch_gen(self, *, flush: bool) -> PQGen[None]:
        first: psycopg.Error | None = None
        try:
            if self.command_queue:
                yield from self._send_gen()
        except psycopg.Error as error:
            first = error
        try:
            yield from super()._fetch_gen(flush=flush)  # all of it, or the pipeline cannot be left
        except psycopg.Error as error:
            first = first or error  # those after it only say that there was one
        if first is not None:
            raise first

    def _sync_gen(self) -> PQGen[None]:
        self._enqueue_sync()
        yield from self._fetch_gen(flush=False)

    def _exit_gen(self) -> PQGen[None]:
        yield from self._sync_gen()


class PatientConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that is given up when an answer takes longer than `patience` (seconds; None: never)."""

    patience: float | None = None
    when_silent: Callable[[], None] | None = None

    @contextmanager
    def pipeline(self) -> Iterator[psycopg.Pipeline]:
        """Send what is executed in the block together."""
        if self._pipeline is None:
            self._pipeline = _InOnePiece(self)
        with super().pipeline() as pipeline:
            yield pipeline

    def wait(self, gen: PQGen[_R], interval: float = 0.1, timeout: float | None = None) -> _R:
        """Wait for the server; OperationalError when it took too long."""
        if timeout is not None or self.patience is None:
            return super().wait(gen, interval, timeout)
        began = time.monotonic()
        try:
            return super().wait(gen, interval, self.patience)
        except psycopg.OperationalError as error:
            if time.monotonic() - began < self.patience:
                raise
            self.close()
            if self.when_silent is not None:
                self.when_silent()
            raise psycopg.OperationalError(
                f"the server gave no answer for {self.patience:.3g} s, and the connection was given up"
            ) from error


def wait_without_end(connection: sqlalchemy.Connection) -> None:
    """Have this connection wait for its answers however long they take."""
    driver: object = connection.connection.dbapi_connection
    if isinstance(driver, PatientConnection):
        driver.patience = None


class Reach:
    """Whether the server answers, as this process has found; while it does not, one caller tries again.

    The others are refused at once, so that a server that hangs does not take every thread with it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Believe that it does."""
        self._clock = clock
        self._lock = threading.Lock()
        self._silent_for = 0
        self._try_again = 0.0

    def silent(self) -> None:
        """Note that it did not answer in time."""
        with self._lock:
            self._silent_for = os.getpid()  # a child finds out for itself
            self._try_again = self._clock() + _PAUSE_SECONDS

    @contextmanager
    def trying(self) -> Iterator[None]:
        """Try to connect; raises OperationalError when the server was silent and it is not yet our turn."""
        with self._lock:
            if self._silent_for == os.getpid():
                if self._clock() < self._try_again:
                    raise psycopg.OperationalError("the server was silent a moment ago")
                self._try_again = self._clock() + _TRY_SECONDS  # meanwhile nobody else
        try:
            yield
        except psycopg.errors.ConnectionTimeout:
            self.silent()
            raise
        except psycopg.OperationalError:
            self._heard()  # it refused, which takes nobody's time
            raise
        self._heard()

    def _heard(self) -> None:
        with self._lock:
            self._silent_for = 0
