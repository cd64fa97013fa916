"""kill -9 under load: what was acknowledged is in the log, which stays whole, and the service comes back."""

import base64
import contextlib
import functools
import hashlib
import random
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support import merkle
from tests.support.issuer import LocalIssuer
from tests.support.processes import (
    UNLIMITED,
    RunningService,
    http,
    production_service,
    running,
    suspend,
    wait_until,
)
from tests.support.signing import bearer, key_body, new_key, read_chain
from tests.support.verifier import ask_ocsp, ocsp_url

CLIENTS = 8
EMAIL = "kill@example.com"


@pytest.fixture(scope="module")
def issuer() -> Iterator[LocalIssuer]:
    with LocalIssuer() as started:
        yield started


class Load:
    """Clients that ask for certificates until told to stop, and keep every acknowledged one."""

    def __init__(self, url: str, token: str, *, kept: bool = True) -> None:
        self.url = url
        self.body = key_body(new_key(), EMAIL)
        # Connections that are not kept come to every worker in time.
        self.headers = bearer(token) | ({} if kept else {"Connection": "close"})
        self.acknowledged: list[list[x509.Certificate]] = []
        self.refused: list[int] = []
        self.stopping = threading.Event()

    def _client(self, _: int) -> None:
        while not self.stopping.is_set():
            with http() as session, contextlib.suppress(requests.RequestException):
                while not self.stopping.is_set():
                    reply = session.post(
                        f"{self.url}/api/v2/signingCert", json=self.body, headers=self.headers, timeout=60
                    )
                    if reply.status_code == 200:
                        self.acknowledged.append(read_chain(reply))
                    else:
                        self.refused.append(reply.status_code)
            time.sleep(0.01)  # the connection broke: try again, not as fast as the machine can

    @contextlib.contextmanager
    def running(self) -> Iterator["Load"]:
        with ThreadPoolExecutor(CLIENTS) as pool:
            done = [pool.submit(self._client, number) for number in range(CLIENTS)]
            try:
                yield self
            finally:
                self.stopping.set()
                for each in done:
                    each.result(240)

    def wait_for(self, count: int) -> None:
        """Return once so many more were acknowledged than are now."""
        goal = len(self.acknowledged) + count
        wait_until(lambda: len(self.acknowledged) >= goal, 60, f"{count} more certificates under load")


def audit(
    service: RunningService, session: requests.Session, acknowledged: list[list[x509.Certificate]]
) -> int:
    """Read the whole log as a monitor, recompute its root, and find every certificate in it; its size."""
    base = f"{service.url}/ctlog/{service.shard()}/ct/v1"
    sth = session.get(f"{base}/get-sth", timeout=60).json()
    size, root = int(sth["tree_size"]), base64.b64decode(sth["sha256_root_hash"])
    (key_file,) = (service.directory / "private").glob("log-*.key")
    key = serialization.load_pem_private_key(key_file.read_bytes(), None).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    signed = struct.pack(">BBQQ", 0, 1, sth["timestamp"], size) + root
    key.verify(base64.b64decode(sth["tree_head_signature"])[4:], signed, ec.ECDSA(hashes.SHA256()))

    leaves: list[bytes] = []
    while len(leaves) < size:
        query = {"start": len(leaves), "end": size - 1}
        entries = session.get(f"{base}/get-entries", params=query, timeout=60).json()["entries"]
        leaves += [base64.b64decode(entry["leaf_input"]) for entry in entries]
    assert merkle.root_of([merkle.leaf_hash(leaf) for leaf in leaves]) == root
    assert len({hashlib.sha256(leaf).digest() for leaf in leaves}) == size, "an entry is there twice"

    indexes = set()
    for leaf_certificate, *_ in acknowledged:
        (sct,) = leaf_certificate.extensions.get_extension_for_class(
            x509.PrecertificateSignedCertificateTimestamps
        ).value
        index = int.from_bytes(sct.extension_bytes[3:])
        assert leaf_certificate.tbs_precertificate_bytes in leaves[index]
        key.verify(sct.signature, leaves[index], ec.ECDSA(hashes.SHA256()))
        indexes.add(index)
    assert len(indexes) == len(acknowledged), "an index was given twice"
    for index, leaf in enumerate(leaves):
        length = int.from_bytes(leaf[44:47])
        assert int.from_bytes(leaf[47 + length + 2 + 3 : 47 + length + 2 + 8]) == index
    return size


def replaced(service: RunningService, pid: int) -> bool:
    """Whether the killed worker is gone and there are three again."""
    workers = [process.pid for process in service.workers()]
    return pid not in workers and len(workers) == 3


def test_killing_workers_loses_nothing_acknowledged(
    issuer: LocalIssuer, session: requests.Session, tmp_path: Path
) -> None:
    service = production_service(tmp_path / "ca", issuers=issuer.issuer_file(), workers=3, environ=UNLIMITED)
    chance = random.Random(9)
    with running(service):
        load = Load(service.url, issuer.token(EMAIL))
        with load.running():
            for _ in range(3):
                load.wait_for(40)
                victim = chance.choice(service.workers())
                victim.kill()
                wait_until(functools.partial(replaced, service, victim.pid), 60, "a new worker")
            load.wait_for(40)
        assert set(load.refused) <= {503}, load.refused
        size = audit(service, session, load.acknowledged)
        assert size >= len(load.acknowledged)
        # Whoever holds a certificate also gets an answer about it.
        for chain in chance.sample(load.acknowledged, 5):
            folder = tmp_path / f"{chain[0].serial_number:x}"
            folder.mkdir()
            pems = [certificate.public_bytes(serialization.Encoding.PEM) for certificate in chain]
            for name, pem in zip(("leaf.pem", "issuing.pem", "root.pem"), pems, strict=True):
                (folder / name).write_bytes(pem)
            (folder / "chain.pem").write_bytes(b"".join(pems[1:]))
            assert ask_ocsp(folder, ocsp_url(chain[0])).status == "good"


def test_killing_everything_at_once_loses_nothing_acknowledged(
    issuer: LocalIssuer, session: requests.Session, tmp_path: Path
) -> None:
    service = production_service(tmp_path / "ca", issuers=issuer.issuer_file(), workers=2, environ=UNLIMITED)
    load = Load(service.url, issuer.token(EMAIL))
    try:
        service.start()
        with load.running():
            for _ in range(2):
                load.wait_for(60)
                service.kill()
                service.start()
            load.wait_for(20)
        audit(service, session, load.acknowledged)
    finally:
        service.stop()


def test_a_stopped_worker_delays_nobody_for_long(
    issuer: LocalIssuer, session: requests.Session, tmp_path: Path
) -> None:
    """A worker that hangs (SIGSTOP) may hold the write lock: the others answer, if only with 503, in time."""
    service = production_service(tmp_path / "ca", issuers=issuer.issuer_file(), workers=2, environ=UNLIMITED)
    with running(service):
        load = Load(service.url, issuer.token(EMAIL), kept=False)
        with load.running():
            load.wait_for(40)
            wait_until(lambda: len(service.workers()) == 2, 60, "both workers")
            stopped = service.workers()[0]
            suspend(stopped)
            try:
                # All of the first clients may be waiting for the one that hangs; who comes now is not.
                late = Load(service.url, issuer.token(EMAIL), kept=False)
                with late.running():
                    wait_until(
                        lambda: len(late.acknowledged) + len(late.refused) >= 5, 60, "answers of the other"
                    )
            finally:
                with contextlib.suppress(psutil.NoSuchProcess):
                    stopped.resume()
            load.wait_for(20)
        audit(service, session, load.acknowledged + late.acknowledged)
