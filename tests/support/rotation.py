"""Signers at work while a key or a log is replaced by the next: at each node, and at nginx."""

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from sigstore.models import Bundle, ClientTrustConfig
from sigstore.oidc import IdentityToken
from sigstore.sign import SigningContext

from tests.support.processes import wait_until
from tests.support.rekor import LocalRekor
from tests.support.signing import Issued, bearer, key_body, new_key, read_chain
from tests.support.two_nodes import OwnPlace

EMAIL = "rotation@example.com"
THREADS = 4
_PAUSE = 0.05  # in each thread: the workers and the command need the same two cores


@dataclass(frozen=True)
class Given(Issued):
    """What a request got that began then, in seconds since 1970, at this address."""

    began: float
    answered: float
    url: str


class Load:
    """Threads that get certificates until they are stopped, at each node and at nginx; keeps every answer."""

    def __init__(self, own: OwnPlace) -> None:
        self.own = own
        self.token = own.tokens.token(EMAIL)
        self.issued: list[Given] = []
        self.refused: list[requests.Response] = []
        self.failed: list[BaseException] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(THREADS)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        try:
            with self.own.service.http() as session:
                for url in itertools.cycle(self.own.urls):
                    if self._stop.wait(_PAUSE):
                        break
                    key, began = new_key(), time.time()
                    reply = session.post(
                        f"{url}/api/v2/signingCert",
                        json=key_body(key, EMAIL),
                        headers=bearer(self.token),
                        timeout=60,
                    )
                    if reply.status_code == 200:
                        self.issued.append(Given(read_chain(reply), key, began, time.time(), url))
                    else:
                        self.refused.append(reply)
        except BaseException as error:
            self.failed.append(error)
            raise

    def wait_for(self, count: int, of: Callable[[Given], bool], what: str) -> None:
        """Until so many of these were given out, some of them by each node, or all goes wrong."""

        def enough() -> bool:
            found = [given.url for given in list(self.issued) if of(given)]
            everywhere = set(found) == set(self.own.urls)
            return bool(self.failed) or (everywhere and len(found) >= count)

        wait_until(enough, 120, what)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def export(own: OwnPlace, rekor: LocalRekor, out: Path) -> ClientTrustConfig:
    key = rekor.write_key(out.with_name(out.name + "-rekor.pub"))
    folder = own.service.export_trust(out, {rekor.url: key})
    return ClientTrustConfig.from_json((folder / "client_trust_config.json").read_text())


def signed(own: OwnPlace, trust: ClientTrustConfig) -> Bundle:
    """What sigstore-python makes of an artifact."""
    token = IdentityToken(own.tokens.token(EMAIL))
    with pytest.MonkeyPatch.context() as patched:
        for name, value in own.service.trusting.items():
            patched.setenv(name, value)
        with SigningContext.from_trust_config(trust).signer(token) as signer:
            return signer.sign_artifact(b"an artifact")
