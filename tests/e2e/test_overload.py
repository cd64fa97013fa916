"""Too much is asked, or what signing needs stands still: refusals that say when to come back, and status."""

import json
import re
import socket
import sqlite3
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Self

import psutil
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from tests.support.processes import RunningService, dev_service, free_port, http, running, wait_until
from tests.support.signing import bearer, issue, key_body, new_key
from tests.support.tokens import TokenDesk

EMAIL = "ada@example.com"
PATIENCE_MS = 500
PATIENCE = 60.0
SIGNERS = 40


@dataclass(frozen=True)
class Busy:
    """One worker, and the octets of a request for a certificate and of a question about one."""

    service: RunningService
    signing: bytes
    status: bytes

    def metric(self, reason: str) -> float:
        with http() as session:
            text = session.get(
                f"http://{self.service.environ['CASVC_METRICS__BIND']}/metrics", timeout=PATIENCE
            ).text
        found = re.search(rf'^casvc\w*overload\w*{{reason="{reason}"}} (\S+)$', text, re.MULTILINE)
        return float(found[1]) if found else 0.0


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Busy]:
    folder = tmp_path_factory.mktemp("overload")
    environ = {
        "CASVC_SERVER__PATIENCE_MS": str(PATIENCE_MS),
        "CASVC_METRICS__BIND": f"127.0.0.1:{free_port()}",
    }
    service = dev_service(folder / "ca", workers=1, environ=environ)
    with running(service), http() as session:
        token = TokenDesk(service).token(EMAIL)
        issued = issue(session, service.url, token, EMAIL)
        question = ocsp.OCSPRequestBuilder().add_certificate(issued.leaf, issued.issuing, hashes.SHA256())
        body = json.dumps(key_body(new_key(), EMAIL)).encode()
        yield Busy(
            service,
            wire(service, "/api/v2/signingCert", body, bearer(token)),
            wire(service, "/ocsp", question.build().public_bytes(Encoding.DER), {}),
        )


def wire(service: RunningService, path: str, body: bytes, headers: dict[str, str]) -> bytes:
    lines = [f"POST {path} HTTP/1.1", f"Host: {service.bind}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass
class Answer:
    status: int
    head: bytes
    body: bytes

    @property
    def reason(self) -> str:
        reason: str = json.loads(self.body)["details"][0]["reason"]
        return reason


class Client:
    """One connection that is kept."""

    def __init__(self, service: RunningService) -> None:
        host, _, port = service.bind.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def ask(self, request: bytes) -> Answer:
        self.socket.sendall(request)
        return self.answer()

    def answer(self) -> Answer:
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._more()
        head, _, body = received.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        assert length, head
        while len(body) < int(length[1]):
            body += self._more()
        return Answer(int(head[9:12]), head.lower(), body)

    def waited_ms(self) -> int:
        """How long ago the last octets of its request were sent, as the kernel counts it."""
        info = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 56)
        waited: int = struct.unpack("=8x36xI8x", info)[0]
        return waited

    def _more(self) -> bytes:
        octets = self.socket.recv(65536)
        assert octets, "closed without an answer"
        return octets


def refused(answer: Answer) -> bool:
    if answer.status == 200:
        return False
    assert answer.status == 503, answer
    assert re.search(rb"\r\nretry-after: [1-9]", answer.head), answer.head
    return True


def is_good(answer: Answer) -> bool:
    assert answer.status == 200, answer
    return ocsp.load_der_ocsp_response(answer.body).certificate_status is ocsp.OCSPCertStatus.GOOD


@contextmanager
def standing_still(service: RunningService) -> Iterator[None]:
    """The worker does nothing for a while, as one that has too much to do for those who wait."""
    (worker,) = service.workers()
    worker.suspend()
    try:
        yield
    finally:
        worker.resume()
        assert worker.status() != psutil.STATUS_ZOMBIE


def signs_again(busy: Busy) -> None:
    """Whoever comes back is served; on a machine that stands still itself, not at the first time."""

    def signed() -> bool:
        with Client(busy.service) as client:
            return not refused(client.ask(busy.signing))

    wait_until(signed, PATIENCE, "a certificate", pause=0.2)


def test_who_waited_too_long_is_told_when_to_come_back_and_status_is_answered(busy: Busy) -> None:
    before = busy.metric("waited")
    with ExitStack() as stack:
        signers = [stack.enter_context(Client(busy.service)) for _ in range(12)]
        verifiers = [stack.enter_context(Client(busy.service)) for _ in range(4)]
        for verifier in verifiers:
            assert is_good(verifier.ask(busy.status))
        with standing_still(busy.service):
            for signer in signers:
                signer.socket.sendall(busy.signing)
            for verifier in verifiers:
                verifier.socket.sendall(busy.status)
            for client in (*signers, *verifiers):
                wait_until(lambda: client.waited_ms() > 2 * PATIENCE_MS, PATIENCE, "a long wait")  # noqa: B023 - called at once
        for signer in signers:
            answer = signer.answer()
            assert refused(answer)
            assert answer.reason == "overloaded"
        for verifier in verifiers:
            assert is_good(verifier.answer())
    wait_until(lambda: busy.metric("waited") >= before + 12, PATIENCE, "twelve refusals counted")
    signs_again(busy)


def test_status_is_answered_while_signers_wait_for_a_database_that_stands_still(busy: Busy) -> None:
    over = threading.Event()
    reasons: list[str] = []

    def sign(number: int) -> None:
        # One after the other: those who come at once are answered at once when nothing moves, and then come
        # at once again, so that nobody ever comes while another has waited too long.
        over.wait(number * PATIENCE_MS / 1000 / 4)
        while not over.is_set():
            with http() as session:
                reply = session.post(
                    f"{busy.service.url}/api/v2/signingCert",
                    data=busy.signing.partition(b"\r\n\r\n")[2],
                    headers={"Authorization": re.search(rb"Bearer \S+", busy.signing)[0].decode()},  # type: ignore[index]
                    timeout=PATIENCE,
                )
            if reply.status_code != 200:
                assert reply.status_code == 503, reply.text
                assert int(reply.headers["Retry-After"]) >= 1
                reasons.append(reply.json()["details"][0]["reason"])

    database = sqlite3.connect(busy.service.directory / "state" / "ca.db", timeout=60, isolation_level=None)
    with ThreadPoolExecutor(SIGNERS) as pool:
        database.execute("BEGIN IMMEDIATE")
        signers = [pool.submit(sign, number) for number in range(SIGNERS)]
        try:
            wait_until(lambda: "overloaded" in reasons, PATIENCE, "a refusal because all places are taken")
            # Without threads of its own each question would wait for forty requests of seconds each.
            with http() as session:
                for _ in range(20):
                    status = busy.status.partition(b"\r\n\r\n")[2]
                    reply = session.post(f"{busy.service.url}/ocsp", data=status, timeout=PATIENCE)
                    assert is_good(Answer(reply.status_code, b"", reply.content))
                    assert session.get(f"{busy.service.url}/healthz", timeout=PATIENCE).status_code == 200
        finally:
            over.set()
            database.execute("ROLLBACK")
            database.close()
        for signer in signers:
            signer.result()
    assert busy.metric("full") > 0
    signs_again(busy)
    assert busy.service.cli("fsck").returncode == 0


def test_each_of_many_is_served_at_last(busy: Busy) -> None:
    """Many who wait a little are no overload: each is served, at the first time or when it comes back."""
    (worker,) = busy.service.workers()

    def sign(_: int) -> int:
        with Client(busy.service) as client:
            for attempt in range(100):
                answer = client.ask(busy.signing)
                if not refused(answer):
                    return attempt
                told = re.search(rb"\r\nretry-after: (\d+)", answer.head)
                assert told
                time.sleep(int(told[1]))  # as it was told to
        raise AssertionError("refused a hundred times")

    with ThreadPoolExecutor(SIGNERS) as pool:
        assert len(list(pool.map(sign, range(SIGNERS * 3)))) == SIGNERS * 3
    assert [each.pid for each in busy.service.workers()] == [worker.pid]
