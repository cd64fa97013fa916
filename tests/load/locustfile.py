"""Who uses the service, and how often: signers, verifiers, those who watch the log, administrators.

`scripts/load` starts locust with this file and with two things in the environment: LOAD_MATERIAL names the
prepared requests, LOAD_TALLY where to write what came of them. LOAD_PERIOD is how many seconds pass from one
request of a user to its next, on average and however long the answer took; without it a user asks again at
once.
"""

import os
import random
import time
from pathlib import Path
from typing import Any

from locust import User, events, task

from tests.load.connection import Connection
from tests.load.material import Material
from tests.load.tally import Tally

MATERIAL = Material.read(Path(os.environ["LOAD_MATERIAL"]))
PERIOD = float(os.environ.get("LOAD_PERIOD", "0"))
TALLY = Tally()


class Somebody(User):
    """One connection, and requests of the kinds that subclasses name."""

    abstract = True

    def __init__(self, *arguments: Any) -> None:
        """Open no connection yet."""
        super().__init__(*arguments)
        self.connection = Connection(MATERIAL.host, MATERIAL.port)
        self.asks_at = 0.0

    def on_start(self) -> None:
        """Begin at a moment of one's own, or all would ask in step."""
        self.asks_at = time.monotonic() + random.random() * PERIOD
        time.sleep(max(self.asks_at - time.monotonic(), 0.0))

    def wait_time(self) -> float:
        """Seconds to the next request: half a period after the last to one and a half.

        With the same pause for all, those whom one delay held up would ask in step ever after.
        """
        now = time.monotonic()
        self.asks_at = max(self.asks_at + PERIOD * random.uniform(0.5, 1.5), now)
        return self.asks_at - now

    def on_stop(self) -> None:
        """Hang up."""
        self.connection.close()

    def ask(self, kind: str) -> None:
        """Send one request of this kind, and count its answer here and in locust's own tables."""
        began = time.time()
        try:
            reply = self.connection.ask(random.choice(MATERIAL.requests[kind]))
        except OSError as error:
            TALLY.failed(kind, error)
            self._report(kind, began, 0.0, 0, error)
            return
        wrong = TALLY.answered(kind, reply)
        failure = AssertionError(wrong) if wrong else None
        self._report(kind, began, reply.seconds, reply.octets, failure)

    def _report(
        self, kind: str, began: float, seconds: float, octets: int, failure: Exception | None
    ) -> None:
        self.environment.events.request.fire(
            request_type="HTTP",
            name=kind,
            start_time=began,
            response_time=seconds * 1000,
            response_length=octets,
            exception=failure,
            context={},
        )


class Signer(Somebody):
    """Gets a certificate for each signature."""

    weight = 20

    @task
    def sign(self) -> None:
        """A new key each time, from the service's point of view."""
        self.ask("issue")


class Verifier(Somebody):
    """Checks signatures: mostly by OCSP, sometimes by CRL."""

    weight = 60

    @task(10)
    def ask_by_get(self) -> None:
        """As browsers and openssl's newer versions do."""
        self.ask("ocsp-get")

    @task(1)
    def ask_by_post(self) -> None:
        """As the JDK does."""
        self.ask("ocsp-post")

    @task(1)
    def fetch_list(self) -> None:
        """A shard of the CRL."""
        self.ask("crl")


class Monitor(Somebody):
    """Watches the log."""

    weight = 18

    @task
    def read(self) -> None:
        """Heads, entries, proofs, and the trust files now and then."""
        self.ask("log")


class Administrator(Somebody):
    """Looks things up, and takes something back."""

    weight = 2

    @task
    def administer(self) -> None:
        """One of the calls of /admin/v1."""
        self.ask("admin")


def _write(**_: Any) -> None:
    TALLY.write(Path(os.environ["LOAD_TALLY"]))


events.quitting.add_listener(_write)  # type: ignore[no-untyped-call]  # locust leaves it untyped
