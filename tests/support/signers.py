"""Signers that ask without a pause while something is done to the service."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from tests.support.issuer import LocalIssuer
from tests.support.processes import http, wait_until
from tests.support.signing import bearer, key_body, new_key


class Signers:
    """Threads that ask without a pause, each on a connection that it keeps, and what came of it."""

    def __init__(
        self, url: str, issuer: LocalIssuer, email: str, *, certificates: Path | None = None
    ) -> None:
        """`certificates`: who vouches for an https server, PEM."""
        self.url = url
        self.headers = bearer(issuer.token(email))
        self.body = key_body(new_key(), email)
        self.verify: str | bool = str(certificates) if certificates else True
        self.stop = threading.Event()
        self.failed: list[str] = []
        self.refused = 0
        """How often nobody listened any more."""
        self.good = 0
        self._counting = threading.Lock()

    def ask(self) -> None:
        with http() as session:
            session.verify = self.verify
            while not self.stop.is_set():
                try:
                    reply = session.post(
                        f"{self.url}/api/v2/signingCert", json=self.body, headers=self.headers, timeout=60
                    )
                except requests.RequestException as error:
                    with self._counting:
                        if "Connection refused" in str(error):
                            self.refused += 1
                        else:
                            self.failed.append(repr(error))
                else:
                    with self._counting:
                        if reply.status_code == 200:
                            self.good += 1
                        else:
                            self.failed.append(f"{reply.status_code} {reply.text}")

    def wait_for_more(self, count: int = 10) -> None:
        """Return once so many more requests were answered well, or one was not."""
        before = self.good
        wait_until(lambda: self.good > before + count or self.failed, 60, "requests are answered")

    @contextmanager
    def asking(self, threads: int = 4) -> Iterator[None]:
        running = [threading.Thread(target=self.ask) for _ in range(threads)]
        for thread in running:
            thread.start()
        try:
            self.wait_for_more()
            yield
        finally:
            self.stop.set()
            for thread in running:
                thread.join()
