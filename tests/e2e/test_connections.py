"""Connections of all kinds at the server whose threads take turns: slow, hasty, and such as close early."""

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests.support.processes import RunningService, dev_service, http, running, succeed
from tests.support.signing import issue

MANY = 60
PATIENCE = 60.0


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """One worker, so that whatever holds its threads holds all there are; they take turns."""
    folder = tmp_path_factory.mktemp("connections") / "ca"
    environ = {"CASVC_SERVER__SCHEDULING": "turns"}
    with running(dev_service(folder, workers=1, environ=environ)) as started:
        yield started


def connect(service: RunningService) -> socket.socket:
    host, _, port = service.bind.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE)


def request(service: RunningService, path: str, *headers: str, version: str = "1.1") -> bytes:
    return "\r\n".join([f"GET {path} HTTP/{version}", f"Host: {service.bind}", *headers, "", ""]).encode()


def answers(connection: socket.socket, count: int) -> bytes:
    """What comes until so many status lines did, and what belongs to the last as far as it came."""
    received = b""
    while received.count(b"HTTP/1.1 ") < count:
        octets = connection.recv(65536)
        assert octets, received
        received += octets
    return received


def test_clients_that_stop_in_the_middle_hold_no_thread(service: RunningService) -> None:
    begun = request(service, "/healthz")
    with ExitStack() as stack:
        slow = [stack.enter_context(connect(service)) for _ in range(MANY)]
        for number, connection in enumerate(slow):
            connection.sendall(begun[: number % (len(begun) - 1)])
        with http() as session:
            for _ in range(5):
                assert session.get(f"{service.url}/healthz", timeout=PATIENCE).status_code == 200
        for number, connection in enumerate(slow):
            connection.sendall(begun[number % (len(begun) - 1) :])
            assert answers(connection, 1).startswith(b"HTTP/1.1 200 ")


def test_a_request_in_single_octets_is_one_request(service: RunningService) -> None:
    body = b'{"credentials": {}}'
    head = f"POST /api/v2/signingCert HTTP/1.1\r\nHost: {service.bind}\r\nContent-Length: {len(body)}\r\n\r\n"
    with connect(service) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for octet in head.encode() + body:
            connection.sendall(bytes((octet,)))
        assert answers(connection, 1).startswith(b"HTTP/1.1 4")


def test_requests_sent_together_are_answered_in_order(service: RunningService) -> None:
    with connect(service) as connection:
        connection.sendall(
            request(service, "/healthz") + request(service, "/nothing-here") + request(service, "/healthz")
        )
        received = answers(connection, 3)
        statuses = [part[:3] for part in received.split(b"HTTP/1.1 ")[1:]]
        assert statuses == [b"200", b"404", b"200"]


@pytest.mark.parametrize("chunked", [True, False])
def test_a_body_is_read_however_its_end_is_told(service: RunningService, *, chunked: bool) -> None:
    body = b'{"credentials": {"oidcIdentityToken": "x"}}'
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    sent = b"%X\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked else body
    head = f"POST /api/v2/signingCert HTTP/1.1\r\nHost: {service.bind}\r\n{framing}\r\n\r\n".encode()
    with connect(service) as connection:
        connection.sendall(head + sent)
        received = answers(connection, 1)
        assert received.startswith(b"HTTP/1.1 400 "), received
        assert b"publicKeyRequest" in received, "the body was read, and lacks this"


def test_a_client_that_wants_no_more_gets_its_answer_and_the_end(service: RunningService) -> None:
    for asked in (
        request(service, "/healthz", "Connection: close"),
        request(service, "/healthz", version="1.0"),
    ):
        with connect(service) as connection:
            connection.sendall(asked)
            received = b""
            while octets := connection.recv(65536):
                received += octets
            assert received.startswith((b"HTTP/1.1 200 ", b"HTTP/1.0 200 "))
            assert b"\r\nConnection: close\r\n" in received


def test_what_is_no_http_is_refused_and_others_are_served(service: RunningService) -> None:
    with connect(service) as connection:
        connection.sendall(b"\x16\x03\x01 this is no request\r\n\r\n")
        assert b" 400 " in connection.recv(65536)
    with http() as session:
        assert session.get(f"{service.url}/healthz", timeout=PATIENCE).status_code == 200


def test_many_signers_at_once_get_logged_certificates(service: RunningService) -> None:
    token = succeed("dev-token", "--dir", service.directory, "--email", "ada@example.com").strip()

    def sign(_: int) -> int:
        with http() as session:
            return issue(session, service.url, token, "ada@example.com").leaf.serial_number

    with ThreadPoolExecutor(16) as pool:
        serials = list(pool.map(sign, range(96)))
    assert len(set(serials)) == len(serials)
    found = service.admin("find", "--identity", "ada@example.com", "--json")
    assert {int(each["serial"], 16) for each in json.loads(found)} == set(serials)
    assert service.cli("fsck").returncode == 0
