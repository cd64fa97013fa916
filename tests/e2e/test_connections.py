"""Connections of all kinds at the server: slow, hasty, and such as close early."""

import json
import re
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest

from tests.support.processes import RunningService, dev_service, http, running, succeed, wait_until
from tests.support.signing import issue

MANY = 60
MORE_THAN_A_WORKER_TAKES = 2100
PATIENCE = 60.0


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """One worker, so that whatever holds its threads holds all there are."""
    with running(dev_service(tmp_path_factory.mktemp("connections") / "ca", workers=1)) as started:
        yield started


def is_served(service: RunningService) -> bool:
    with http() as session:
        return session.get(f"{service.url}/healthz", timeout=PATIENCE).status_code == 200


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
        for _ in range(5):
            assert is_served(service)
        for number, connection in enumerate(slow):
            connection.sendall(begun[number % (len(begun) - 1) :])
            assert answers(connection, 1).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("chunked", [True, False])
def test_bodies_that_come_slowly_keep_nobody_from_being_served(
    service: RunningService, *, chunked: bool
) -> None:
    body = b'{"credentials": {"oidcIdentityToken": "x"}}'
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    sent = b"%X\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked else body
    head = f"POST /api/v2/signingCert HTTP/1.1\r\nHost: {service.bind}\r\n{framing}\r\n\r\n".encode()
    with ExitStack() as stack:
        slow = [stack.enter_context(connect(service)) for _ in range(MANY)]
        for connection in slow:
            connection.sendall(head)
        for octet in sent[:5]:
            for connection in slow:
                # Who holds a thread meanwhile may have been let go.
                with suppress(ConnectionError):
                    connection.sendall(bytes((octet,)))
            assert is_served(service)


def test_more_silent_connections_than_a_worker_takes_keep_nobody_out(service: RunningService) -> None:
    with ExitStack() as stack:
        for _ in range(MORE_THAN_A_WORKER_TAKES):
            stack.enter_context(connect(service))
        for _ in range(5):
            assert is_served(service)


def test_more_kept_connections_than_a_worker_takes_keep_nobody_out(service: RunningService) -> None:
    asked = request(service, "/healthz")
    with ExitStack() as stack:
        for _ in range(MORE_THAN_A_WORKER_TAKES):
            connection = stack.enter_context(connect(service))
            connection.sendall(asked)
            assert answers(connection, 1).startswith(b"HTTP/1.1 200 ")
        for _ in range(5):
            assert is_served(service)


@pytest.mark.parametrize("reset", [True, False])
def test_clients_that_are_gone_in_the_middle_leave_nothing_behind(
    service: RunningService, *, reset: bool
) -> None:
    asked = request(service, "/healthz")
    for number in range(MANY * 5):
        with connect(service) as connection:
            if reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(asked[: number % (len(asked) + 1)])
    assert is_served(service)
    (worker,) = service.workers()

    def few() -> bool:
        return len(worker.net_connections("tcp")) < MANY

    wait_until(few, PATIENCE, "their connections are closed")


def test_clients_that_take_no_answer_hold_their_threads_for_a_while_only(service: RunningService) -> None:
    asked = request(service, "/openapi.json") * 200
    with ExitStack() as stack:
        deaf = [stack.enter_context(connect(service)) for _ in range(20)]
        for connection in deaf:
            connection.sendall(asked)
        assert is_served(service)


@pytest.mark.parametrize(
    "head",
    [
        pytest.param("X-Long: " + "a" * 1_000_000 + "\r\n\r\n", id="one header of a megabyte"),
        pytest.param("".join(f"X-{number}: a\r\n" for number in range(1000)) + "\r\n", id="a thousand"),
        pytest.param("Content-Length: 99999999999\r\n\r\n", id="a body of 100 GB"),
        pytest.param("Content-Length: 65537\r\n\r\n" + "a" * 65537, id="a body beyond the limit"),
    ],
)
def test_what_is_huge_is_refused(service: RunningService, head: str) -> None:
    begun = f"POST /api/v2/signingCert HTTP/1.1\r\nHost: {service.bind}\r\n{head}"
    with connect(service) as connection:
        # Cut off while it is sent, or answered, or both: then the answer may be lost.
        with suppress(ConnectionError):
            connection.sendall(begun.encode())
        with suppress(ConnectionError):
            assert re.match(rb"HTTP/1.1 4\d\d |$", connection.recv(65536))


def test_headers_that_do_not_end_keep_nobody_from_being_served(service: RunningService) -> None:
    begun = f"GET /healthz HTTP/1.1\r\nHost: {service.bind}\r\nX-Long: " + "a" * 1_000_000
    with ExitStack() as stack:
        for _ in range(MANY):
            with suppress(ConnectionError):
                stack.enter_context(connect(service)).sendall(begun.encode())
        for _ in range(5):
            assert is_served(service)


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


def test_a_client_that_asks_first_is_told_to_send_its_body(service: RunningService) -> None:
    body = b'{"credentials": {"oidcIdentityToken": "x"}}'
    head = (
        f"POST /api/v2/signingCert HTTP/1.1\r\nHost: {service.bind}\r\n"
        f"Expect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with connect(service) as connection:
        connection.sendall(head.encode())
        assert answers(connection, 1).startswith(b"HTTP/1.1 100 ")
        connection.sendall(body)
        assert answers(connection, 1).startswith(b"HTTP/1.1 400 ")


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


def test_clients_that_do_not_hang_up_when_told_so_keep_nobody_waiting(service: RunningService) -> None:
    asked = request(service, "/healthz", "Connection: close")
    with ExitStack() as stack:
        for _ in range(MANY):
            connection = stack.enter_context(connect(service))
            connection.sendall(asked)
            assert answers(connection, 1).startswith(b"HTTP/1.1 200 ")
        for _ in range(5):
            assert is_served(service)


def test_what_is_no_http_is_refused_and_others_are_served(service: RunningService) -> None:
    with connect(service) as connection:
        connection.sendall(b"\x16\x03\x01 this is no request\r\n\r\n")
        assert b" 400 " in connection.recv(65536)


@pytest.mark.parametrize(
    ("line", "status", "reason"),
    [
        ("Transfer-Encoding: gzip, chunked", "501 Not Implemented", "unimplemented"),
        ("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", "501 Not Implemented", "unimplemented"),
        ("Transfer-Encoding: br", "501 Not Implemented", "unimplemented"),
        # Nobody can tell where this body ends.
        ("Transfer-Encoding: gzip", "400 Bad Request", "malformed-request"),
        ("Transfer-Encoding: chunked, gzip", "400 Bad Request", "malformed-request"),
        ("X-Long: " + "x" * 60_000, "431 Request Header Fields Too Large", "body-too-large"),
    ],
)
def test_what_the_server_does_not_read_is_refused_in_the_words_of_http(
    service: RunningService, line: str, status: str, reason: str
) -> None:
    head = f"POST /api/v2/signingCert HTTP/1.1\r\nHost: {service.bind}\r\n{line}\r\n\r\n"
    with connect(service) as connection:
        connection.sendall(head.encode())
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    answered_head, _, body = answer.partition(b"\r\n\r\n")
    assert answered_head.startswith(f"HTTP/1.1 {status}\r\n".encode()), answered_head[:200]
    assert b"Content-Type: application/json" in answered_head
    assert json.loads(body)["details"][0]["reason"] == reason


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
