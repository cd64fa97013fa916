"""An identity is revoked while two workers issue for it: whoever holds a certificate holds a revoked one."""

import contextlib
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from ca_service.vocabulary import format_serial
from tests.support.issuer import LocalIssuer
from tests.support.processes import UNLIMITED, http, production_service, running, wait_until
from tests.support.signing import bearer, key_body, new_key, read_chain
from tests.support.verifier import ask_ocsp, fetch_crl, ocsp_url

CLIENTS = 16
EMAIL, OTHER = "Stolen@Example.com", "honest@example.com"


@pytest.fixture(scope="module")
def issuer() -> Iterator[LocalIssuer]:
    with LocalIssuer() as started:
        yield started


class Signers:
    """Clients of one identity that ask until they are refused for good, and keep what they were given."""

    def __init__(self, url: str, token: str, name: str) -> None:
        self.url = f"{url}/api/v2/signingCert"
        self.body, self.headers = key_body(new_key(), name), bearer(token)
        self.released: list[list[x509.Certificate]] = []
        self.refused: list[str] = []
        self.given_up = threading.Event()

    def ask(self, session: requests.Session) -> str:
        """Ask once: "" for a certificate, else the reason of the refusal."""
        reply = session.post(self.url, json=self.body, headers=self.headers, timeout=120)
        if reply.status_code == 200:
            self.released.append(read_chain(reply))
            return ""
        (info,) = reply.json()["details"]
        self.refused.append(info["reason"])
        assert EMAIL.lower() not in reply.text.lower()
        return str(info["reason"])

    def client(self) -> None:
        with http() as session:
            while self.ask(session) != "identity-blocked" and not self.given_up.is_set():
                pass


def test_no_certificate_is_released_after_the_block_that_is_not_revoked(
    issuer: LocalIssuer, session: requests.Session, tmp_path: Path
) -> None:
    service = production_service(tmp_path / "ca", issuers=issuer.issuer_file(), workers=2, environ=UNLIMITED)
    with running(service):
        stolen = Signers(service.url, issuer.token(EMAIL), EMAIL)
        honest = Signers(service.url, issuer.token(OTHER), OTHER)
        with ThreadPoolExecutor(CLIENTS) as clients:
            working = [clients.submit(stolen.client) for _ in range(CLIENTS)]
            with contextlib.ExitStack() as whatever_happens:
                whatever_happens.callback(stolen.given_up.set)
                wait_until(lambda: len(stolen.released) >= 100, 300, "a hundred certificates")
                selector = ("--identity", EMAIL.lower(), "--reason", "keyCompromise", "--json")
                done = json.loads(service.admin("revoke", "identity", *selector))
                for each in working:
                    each.result(300)
        assert stolen.refused.count("identity-blocked") == CLIENTS
        released = {format_serial(chain[0].serial_number) for chain in stolen.released}
        assert len(released) == len(stolen.released) >= 100
        assert released <= set(done["serials"]), "a certificate was released that is not revoked"
        assert done["revoked"] == sum(done["by_shard"].values())

        # What the verbs find agrees, the lists show it, and others go on.
        found = json.loads(service.admin("find", "--identity", EMAIL, "--limit", "100000", "--json"))
        assert all(one["revocation"] for one in found)
        assert {one["serial"] for one in found} == set(done["serials"])
        for chain in stolen.released[:3] + stolen.released[-3:]:
            entry = x509.load_der_x509_crl(
                fetch_crl(session, chain[0])
            ).get_revoked_certificate_by_serial_number(chain[0].serial_number)
            assert entry is not None
        folder = tmp_path / "last"
        folder.mkdir()
        pems = [one.public_bytes(serialization.Encoding.PEM) for one in stolen.released[-1]]
        for name, pem in zip(("leaf.pem", "issuing.pem", "root.pem"), pems, strict=True):
            (folder / name).write_bytes(pem)
        (folder / "chain.pem").write_bytes(b"".join(pems[1:]))
        assert ask_ocsp(folder, ocsp_url(stolen.released[-1][0])).status == "revoked"
        assert honest.ask(session) == ""
        assert json.loads(service.admin("audit", "--verify", "--json"))["intact"] is True
    assert json.loads(service.admin("fsck", "--json"))["findings"] == []
