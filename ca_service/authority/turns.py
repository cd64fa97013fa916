"""Turns: of a server's threads one runs at a time, and says when it waits.

Python runs one thread at a time anyway; threads that compete for it pay with a change of thread at every
short system call, and in a certificate's twenty milliseconds there were thirty. Threads that take turns
change only where one has to wait. A turn is good manners and no lock: nothing relies on being alone, and
`watch` takes the turn from a thread that keeps it too long.
"""

import threading
from collections import deque
from collections.abc import Callable

Work = Callable[[], object]


class Pause:
    """What one thread waits for; made before it waits, ended by another thread with `Turns.wake`."""

    __slots__ = ("lock", "over", "returns", "waits")

    def __init__(self) -> None:
        """Begin a pause that has not ended."""
        self.lock = threading.Lock()
        self.lock.acquire()
        self.waits = self.returns = self.over = False


class Turns:
    """Who runs in this process. Threads that never took a turn may wait and wake as well, without one."""

    def __init__(self) -> None:
        """Begin with nobody running; nothing here outlives a fork in use."""
        self._mutex = threading.Lock()
        self._mine = threading.local()
        self._running: object | None = None
        self._seen: tuple[object | None, int] | None = None
        self._returning: deque[threading.Lock] = deque()
        self._resting: list[threading.Lock] = []
        self._deferred: dict[Work, None] = {}
        self._more: Callable[[], bool] = _nothing
        self.awaited = True
        """Whether a thread without a turn sleeps until a request comes; the server sets it."""
        self.served = 0
        """Requests so far; the server counts them."""

    # -- for whoever must wait ---------------------------------------------------------------------

    def wait(self, pause: Pause, seconds: float, work: Work) -> bool:
        """Let others run until the pause is over; False when it is not after so many seconds.

        `work` is what brings the end about for many at once: it is called, by whichever thread that is, once
        nobody else is ready to join. It must be short, and may be called once too often.
        """
        with self._mutex:
            if pause.over:
                return True
            pause.waits = True
            pause.returns = self._running is not None and self._has_turn()
        if pause.returns:
            self._deferred[work] = None
            self._let_others()
        else:
            work()
        if pause.lock.acquire(timeout=seconds):
            if pause.returns:
                self._mine.turn = pause.lock
            return True
        return self._give_up(pause)

    def wake(self, pause: Pause) -> None:
        """End a pause; its thread runs again as soon as a turn is free."""
        with self._mutex:
            pause.over = True
            if not pause.waits:
                return
            if pause.returns and self._running is not None:
                self._returning.append(pause.lock)
                return
            if pause.returns:
                self._running = pause.lock
        pause.lock.release()

    def _give_up(self, pause: Pause) -> bool:
        with self._mutex:
            over = pause.over
            if not over:
                pause.waits = False
        if over:
            # Its end came in the same moment, and with it a turn, now or soon.
            pause.lock.acquire()
            if pause.returns:
                self._mine.turn = pause.lock
        elif pause.returns:
            self.take()
        return over

    # -- for the server's threads ------------------------------------------------------------------

    def serve(self, more: Callable[[], bool]) -> None:
        """Say how to find out, without waiting, whether a request is ready for another thread."""
        self._more = more

    def take(self) -> None:
        """Wait for a turn."""
        lock = threading.Lock()
        with self._mutex:
            if self._running is None:
                self._running = lock
                self._mine.turn = lock
                return
            lock.acquire()
            self._returning.append(lock)
        lock.acquire()
        self._mine.turn = lock

    def leave(self) -> None:
        """End one's turn; who wants one back has it next, else it is free."""
        with self._mutex:
            if self._has_turn():
                self._pass_on()

    def rest(self) -> None:
        """Wait, without a turn, until somebody is needed who has one."""
        lock = threading.Lock()
        lock.acquire()
        with self._mutex:
            self._resting.append(lock)
            if self._running is None and not self.awaited:
                self._running = self._resting.pop()
                self._mine.turn = self._running = lock
                return
        lock.acquire()
        self._mine.turn = lock

    def give_way(self) -> bool:
        """End one's turn if others want theirs back, and say whether that was so; or if it was taken away."""
        with self._mutex:
            if not self._has_turn():
                return True
            if not self._returning:
                return False
            self._pass_on()
            return True

    def finish_deferred(self) -> None:
        """Do what was put off until nobody else is ready."""
        while self._deferred:
            try:
                work, _ = self._deferred.popitem()
            except KeyError:
                return
            work()

    def watch(self) -> None:
        """Called every few hundredths of a second: take the turn from a thread that did nothing since."""
        with self._mutex:
            state = (self._running, self.served)
            if self._running is not None and state == self._seen:
                self._pass_on()
            self._seen = state
        self.finish_deferred()

    # -- with the mutex ----------------------------------------------------------------------------

    def _has_turn(self) -> bool:
        return self._running is not None and getattr(self._mine, "turn", None) is self._running

    def _pass_on(self) -> None:
        if self._returning:
            self._running = lock = self._returning.popleft()
            lock.release()
        else:
            self._running = None
            if not self.awaited and self._resting:
                self._call_one()

    def _call_one(self) -> None:
        self._running = lock = self._resting.pop()
        lock.release()

    def _let_others(self) -> None:
        """End one's turn before a wait: to who wants it, or to a thread for the next request, or to none."""
        if not self._returning and not (self._resting and self._more()):
            self.finish_deferred()
            with self._mutex:
                if self._has_turn():
                    self._pass_on()
            return
        with self._mutex:
            if not self._has_turn():
                return
            if self._returning or not self._resting:
                self._pass_on()
            else:
                self._call_one()


def _nothing() -> bool:
    return False
