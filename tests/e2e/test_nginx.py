"""Through the nginx that deploy/ configures: https for signers, plain http for status, caches that forget."""

import base64
import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from tests.e2e.conftest import TWO_NODES
from tests.support.cluster import Cluster, somebody
from tests.support.issuer import LocalIssuer
from tests.support.nginx import ShippedNginx, configured, serving
from tests.support.processes import RunningService, free_port, http, production_service, running, wait_until
from tests.support.signing import Issued, issue
from tests.support.verifier import ca_issuers_url, crl_url, fetch_crl, ocsp_get_url, ocsp_url


@dataclass(frozen=True)
class Proxied:
    service: RunningService
    nginx: ShippedNginx
    issuer: LocalIssuer
    session: requests.Session

    def issue(self) -> Issued:
        email = somebody()
        return issue(self.session, self.nginx.url, self.issuer.token(email), email)


@pytest.fixture(scope="module")
def proxied(
    place: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxied]:
    """One node behind nginx, or two."""
    if place == TWO_NODES:
        cluster: Cluster = request.getfixturevalue("cluster")
        with cluster.session() as session:
            yield Proxied(request.getfixturevalue("two_nodes"), cluster.nginx, cluster.signers, session)
        return
    folder = tmp_path_factory.mktemp("proxied")
    node = f"127.0.0.1:{free_port()}"
    nginx = configured(folder / "nginx", [node])
    with LocalIssuer() as issuer, http() as session:
        made = production_service(
            folder / "ca",
            issuers=issuer.issuer_file(),
            init_options=["--url", nginx.url, "--status-url", nginx.status_url],
            environ={"CASVC_SERVER__TRUSTED_PROXIES": "127.0.0.0/8"},
        )
        command = [*made.command]
        command[command.index("--bind") + 1] = node
        service = RunningService(made.directory, f"http://{node}", command, made.environ)
        session.verify = str(nginx.certificates)
        with running(service), serving(nginx):
            yield Proxied(service, nginx, issuer, session)


def question(issued: Issued) -> bytes:
    asked = ocsp.OCSPRequestBuilder().add_certificate(issued.leaf, issued.issuing, hashes.SHA256()).build()
    return asked.public_bytes(Encoding.DER)


def status_of(proxied: Proxied, issued: Issued) -> ocsp.OCSPCertStatus:
    reply = proxied.session.get(ocsp_get_url(issued.leaf, question(issued)), timeout=60)
    assert reply.status_code == 200, reply.text
    assert reply.headers["X-Cache"] in ("MISS", "HIT", "EXPIRED")
    assert "max-age" in reply.headers["Cache-Control"]
    return ocsp.load_der_ocsp_response(reply.content).certificate_status


def test_a_certificate_names_addresses_that_answer_through_the_proxy(proxied: Proxied) -> None:
    issued = proxied.issue()
    assert crl_url(issued.leaf).startswith(proxied.nginx.status_url)
    assert fetch_crl(proxied.session, issued.leaf)
    assert proxied.session.get(ca_issuers_url(issued.leaf), timeout=60).status_code == 200
    assert status_of(proxied, issued) is ocsp.OCSPCertStatus.GOOD
    posted = proxied.session.post(
        ocsp_url(issued.leaf),
        data=question(issued),
        headers={"Content-Type": "application/ocsp-request"},
        timeout=60,
    )
    assert ocsp.load_der_ocsp_response(posted.content).certificate_status is ocsp.OCSPCertStatus.GOOD


def cached(proxied: Proxied, url: str) -> str:
    return proxied.session.get(url, timeout=60).headers["X-Cache"]


def test_no_answer_begun_after_a_revocation_was_seen_says_good(proxied: Proxied) -> None:
    issued = proxied.issue()
    url = ocsp_get_url(issued.leaf, question(issued))
    wait_until(lambda: cached(proxied, url) == "HIT", 60, "an answer out of the cache", pause=0)
    answers: list[tuple[float, ocsp.OCSPCertStatus]] = []
    enough = threading.Event()

    def ask() -> None:
        with http() as session:
            while not enough.is_set():
                begun = time.monotonic()
                reply = session.get(url, timeout=60)
                answers.append((begun, ocsp.load_der_ocsp_response(reply.content).certificate_status))

    def asked_since(moment: float) -> bool:
        return any(begun > moment for begun, _ in list(answers))

    askers = [threading.Thread(target=ask) for _ in range(3)]
    for asker in askers:
        asker.start()
    try:
        wait_until(lambda: len(answers) > 50, 60, "questions are answered", pause=0)
        proxied.service.admin("revoke", "certificate", issued.serial, "--reason", "keyCompromise")
        revoked = time.monotonic()
        wait_until(lambda: asked_since(revoked + 3), 60, "questions three seconds later")
    finally:
        enough.set()
        for asker in askers:
            asker.join()
    assert any(status is ocsp.OCSPCertStatus.GOOD for begun, status in answers if begun < revoked)
    late = [begun - revoked for begun, status in answers if status is not ocsp.OCSPCertStatus.REVOKED]
    # Half a second in nginx, one for each worker to see it.
    assert max(late) <= 1.5, "an answer that was asked for too late said good"


def test_only_good_answers_are_kept(proxied: Proxied) -> None:
    good, revoked = proxied.issue(), proxied.issue()
    proxied.service.admin("revoke", "certificate", revoked.serial)
    unknown = ocsp.OCSPRequestBuilder().add_certificate(good.issuing, good.issuing, hashes.SHA256()).build()
    not_kept = [
        ocsp_get_url(good.leaf, question(revoked)),
        ocsp_get_url(good.leaf, unknown.public_bytes(Encoding.DER)),
        f"{proxied.nginx.status_url}/ocsp/nonsense",
    ]
    kept = ocsp_get_url(good.leaf, question(good))
    wait_until(lambda: cached(proxied, kept) == "HIT", 60, "a good answer out of the cache", pause=0)
    for url in not_kept:
        assert [cached(proxied, url) for _ in range(5)] == ["MISS"] * 5
        assert "X-Accel-Expires" not in proxied.session.get(url, timeout=60).headers
    posted = proxied.session.post(ocsp_url(good.leaf), data=question(good), timeout=60)
    assert "X-Cache" not in posted.headers


def test_a_list_is_kept_and_asked_about_each_time(proxied: Proxied) -> None:
    issued = proxied.issue()
    url = crl_url(issued.leaf)

    def kept() -> bool:
        before, again = (proxied.session.get(url, timeout=60) for _ in range(2))
        return again.headers["X-Cache"] == "REVALIDATED" and again.content == before.content

    # A list that somebody else's revocation has changed may be signed between the two.
    wait_until(kept, 60, "the list out of the cache, which the service says is the newest")
    proxied.service.admin("revoke", "certificate", issued.serial)

    def listed() -> bool:
        crl = x509.load_der_x509_crl(fetch_crl(proxied.session, issued.leaf))
        return crl.get_revoked_certificate_by_serial_number(issued.leaf.serial_number) is not None

    wait_until(listed, 60, "revoked by CRL")


def test_what_is_signed_for_long_outlives_the_nodes_and_answers_do_not(proxied: Proxied) -> None:
    issued = proxied.issue()
    log = f"{proxied.nginx.url}/ctlog/{proxied.service.shard()}"
    issuer_path = hashlib.sha256(issued.issuing.public_bytes(Encoding.DER)).hexdigest()
    lasting = [crl_url(issued.leaf), f"{log}/issuer/{issuer_path}", f"{log}/log.v3.json"]
    before = [proxied.session.get(url, timeout=60) for url in lasting]
    assert status_of(proxied, issued) is ocsp.OCSPCertStatus.GOOD
    proxied.service.stop()
    try:
        for url, had in zip(lasting, before, strict=True):
            reply = proxied.session.get(url, timeout=60)
            assert (reply.status_code, reply.content) == (200, had.content), url
        asked = ocsp_get_url(issued.leaf, question(issued))
        wait_until(
            lambda: proxied.session.get(asked, timeout=60).status_code == 502, 60, "the old answer is gone"
        )
    finally:
        proxied.service.start()
    wait_until(
        lambda: proxied.session.get(asked, timeout=60).status_code == 200, 60, "nginx finds the node again"
    )


def test_slow_clients_keep_nobody_waiting(proxied: Proxied) -> None:
    host, _, port = proxied.nginx.status_url.removeprefix("http://").rpartition(":")
    with ExitStack() as stack:
        for _ in range(40):
            slow = stack.enter_context(socket.create_connection((host, int(port)), timeout=60))
            slow.sendall(b"POST /ocsp HTTP/1.1\r\nHost: status\r\nContent-Length: 1000\r\n\r\nslow")
        for _ in range(5):
            assert status_of(proxied, proxied.issue()) is ocsp.OCSPCertStatus.GOOD


def test_two_slashes_in_a_request_reach_the_responder(proxied: Proxied) -> None:
    issued = proxied.issue()
    encoded = base64.b64encode(question(issued)).decode()
    # As clients send it that put a slash between a base and what begins with one.
    reply = proxied.session.get(f"{proxied.nginx.status_url}/ocsp//{encoded}", timeout=60)
    answer = ocsp.load_der_ocsp_response(reply.content)
    assert answer.certificate_status is ocsp.OCSPCertStatus.GOOD


def test_the_plain_address_serves_nothing_else(proxied: Proxied) -> None:
    for path in ("/", "/api/v2/configuration", "/readyz", "/trust/trusted_root.json"):
        assert proxied.session.get(f"{proxied.nginx.status_url}{path}", timeout=60).status_code == 404
    assert proxied.session.get(f"{proxied.nginx.url}/readyz", timeout=60).status_code == 404
    assert proxied.session.get(f"{proxied.nginx.url}/api/v2/configuration", timeout=60).status_code == 200


def test_a_long_token_passes_and_a_long_body_does_not(proxied: Proxied) -> None:
    email = somebody()
    token = proxied.issuer.token(email, claims={"groups": [f"group-{number:04}" for number in range(750)]})
    issue(proxied.session, proxied.nginx.url, token, email)
    refused = proxied.session.post(f"{proxied.nginx.url}/api/v2/signingCert", data=b"x" * 70_000, timeout=60)
    assert refused.status_code == 413


def test_the_access_log_names_no_certificate_and_no_address(proxied: Proxied) -> None:
    issued = proxied.issue()
    status_of(proxied, issued)
    encoded = base64.b64encode(question(issued)).decode()

    def logged() -> str:
        return (proxied.nginx.folder / "access.log").read_text()

    text = wait_until(logged, 30, "a line in the access log")
    assert encoded[:20] not in text
    assert "127.0.0.1" not in text
