"""Which requests for certificates wait for one another, so that they go to the log together, and how long."""

import time
from collections import deque

from ca_service.cli.connections import Connection

TOGETHER = 32
"""How many requests are served, and certificates prepared, before the next look at who else is there."""

HOLD_SECONDS = 0.02
"""How long requests for certificates are held at most while the log stores those before them."""

_GATHER_SECONDS = 0.006
"""How long the first of them wait, after certificates were answered together, for as many as these were."""

_MOST_CALLS = 16


class Gathering:
    """What a worker holds, of calls that it has learnt wait for the log.

    A batch of the log costs, however many are in it. So while some are with the log, those who come are held;
    and after many answers at once, which about as many requests follow, the first of these wait for the rest.
    """

    __slots__ = ("_calls", "expect_until", "expected", "held", "hold_until")

    def __init__(self) -> None:
        """Hold nothing; every call is answered at once until it is seen to wait for the log."""
        self.held: deque[Connection] = deque()
        self.hold_until = 0.0
        self.expected = 0
        self.expect_until = 0.0
        self._calls: set[bytes] = set()

    def learn(self, call: bytes) -> None:
        """Note that a call, as `METHOD /path`, waits for the log."""
        if len(self._calls) < _MOST_CALLS:
            self._calls.add(call)

    def concerns(self, connection: Connection) -> bool:
        """Whether the request that has come on a connection waits for the log; counts those in a row."""
        call = connection.gathered[: connection.gathered.find(b" HTTP/", 0, 256)]
        connection.call = call
        if call not in self._calls:
            connection.signings = 0
            return False
        connection.signings += 1
        return True

    def hold(self, connection: Connection, *, underway: bool) -> bool:
        """Hold a request if others are with the log, are held, or are about to come; whether it is held."""
        if underway or self.held or (self.expected > 1 and time.monotonic() < self.expect_until):
            self.held.append(connection)
            return True
        return False

    def patience(self, *, underway: bool) -> float:
        """Seconds until those that are held go on even if nobody else comes."""
        until = self.hold_until if underway else self.expect_until
        return max(until - time.monotonic(), 0.0)

    def are_enough(self, *, underway: bool) -> bool:
        """Whether those that are held are to go on to the log."""
        if not self.held:
            return False
        now = time.monotonic()
        if underway:
            return now >= self.hold_until
        return len(self.held) >= self.expected or now >= self.expect_until

    def sent(self) -> None:
        """Note that some went to the log now."""
        self.hold_until = time.monotonic() + HOLD_SECONDS

    def answered(self, count: int) -> None:
        """Note that so many were answered together now."""
        self.expected = min(count + len(self.held), TOGETHER)
        self.expect_until = time.monotonic() + _GATHER_SECONDS
