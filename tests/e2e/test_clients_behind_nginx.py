"""Slow, silent, huge and hasty clients in front of the shipped nginx: the service hears nothing of most."""

import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest
import requests

from tests.support.nginx import ShippedNginx, configured, serving
from tests.support.processes import RunningService, dev_service, free_port, http, running, wait_until

MANY = 40
"""More than the service has threads, fewer than nginx lets in from one address."""
PATIENCE = 60.0


@dataclass(frozen=True)
class Proxied:
    """One worker behind nginx."""

    service: RunningService
    nginx: ShippedNginx
    session: requests.Session

    def is_served(self) -> bool:
        return self.session.get(f"{self.nginx.url}/healthz", timeout=PATIENCE).status_code == 200

    def connections(self) -> int:
        """How many the service has at this moment, kept ones included."""
        (worker,) = self.service.workers()
        return sum(each.status == "ESTABLISHED" for each in worker.net_connections("tcp"))

    def connect(self) -> socket.socket:
        """A connection to nginx, through TLS."""
        port = urlsplit(self.nginx.url).port
        context = ssl.create_default_context(cafile=str(self.nginx.certificates))
        plain = socket.create_connection(("127.0.0.1", port or 443), timeout=PATIENCE)
        return context.wrap_socket(plain, server_hostname="127.0.0.1")

    def head(self, method: str, path: str, *headers: str) -> bytes:
        host = self.nginx.url.partition("://")[2]
        return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", *headers, ""]).encode()


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    folder = tmp_path_factory.mktemp("behind")
    node = f"127.0.0.1:{free_port()}"
    # However slow the machine is, who asks one after the other asks too often.
    nginx = configured(folder / "nginx", [node], requests_a_second=1)
    made = dev_service(folder / "ca", workers=1)
    command = [*made.command]
    command[command.index("--bind") + 1] = node
    service = RunningService(made.directory, f"http://{node}", command, made.environ)
    with running(service), serving(nginx), http() as session:
        session.verify = str(nginx.certificates)
        session.headers["Connection"] = "close"
        yield Proxied(service, nginx, session)


@pytest.fixture(autouse=True)
def _same_worker(proxied: Proxied) -> Iterator[None]:
    before = [process.pid for process in proxied.service.workers()]
    yield
    assert proxied.is_served()
    assert [process.pid for process in proxied.service.workers()] == before, proxied.service.tail()


def test_the_service_hears_of_no_request_that_is_not_whole(proxied: Proxied) -> None:
    whole = proxied.head("POST", "/api/v2/signingCert", "Content-Length: 100", "") + b"{"
    proxied.is_served()
    before = proxied.connections()
    with ExitStack() as stack:
        slow = [stack.enter_context(proxied.connect()) for _ in range(MANY)]
        for number, connection in enumerate(slow):
            connection.sendall(whole[: len(whole) - number % 3 * 20])  # body, head, head
        for _ in range(5):
            assert proxied.is_served()
        assert proxied.connections() <= before + 5, "one for each that was whole, at most"
        for connection in slow:
            # After ten seconds of silence nginx gives up, and says so or not; or they were too many at once.
            with suppress(ConnectionError):
                assert re.match(rb"HTTP/1.1 4(08|29) |$", connection.recv(65536))


def test_the_service_waits_for_nobody_who_does_not_read(proxied: Proxied) -> None:
    asked = proxied.head("GET", "/openapi.json", "") * 100
    proxied.is_served()
    before = proxied.connections()
    with ExitStack() as stack:
        for _ in range(MANY):
            stack.enter_context(proxied.connect()).sendall(asked)
        for _ in range(5):
            assert proxied.is_served()
    # What nginx asked for them it has taken; it keeps 32 of its own at most, and closes others.
    wait_until(lambda: proxied.connections() <= before + 32, 60, "connections of clients that have gone end")


@pytest.mark.parametrize(
    ("headers", "statuses"),
    [
        pytest.param("X-Long: " + "a" * 1_000_000, b"4(00|31)", id="one header of a megabyte"),
        pytest.param("\r\n".join(f"X-{number}: a" for number in range(1000)), b"4(00|31)", id="a thousand"),
        pytest.param("Content-Length: 99999999999", b"413", id="a body of 100 GB"),
    ],
)
def test_what_is_huge_is_refused(proxied: Proxied, headers: str, statuses: bytes) -> None:
    with proxied.connect() as connection:
        with suppress(ConnectionError, ssl.SSLError):
            connection.sendall(proxied.head("POST", "/api/v2/signingCert", headers, ""))
        with suppress(ConnectionError):
            assert re.match(rb"HTTP/1.1 " + statuses + rb" |$", connection.recv(65536))


def test_one_address_that_asks_too_often_is_told_when_to_come_back(proxied: Proxied) -> None:
    asked = proxied.head("POST", "/api/v2/signingCert", "Content-Length: 2", "") + b"{}"
    with proxied.connect() as connection:
        for _ in range(1000):
            connection.sendall(asked)
            head, _, body = connection.recv(65536).partition(b"\r\n\r\n")
            assert re.match(rb"HTTP/1.1 (400|429) ", head), head
            if b" 429 " in head:
                break
        else:
            pytest.fail("a thousand at once were let in")
    assert re.search(rb"(?i)\r\nretry-after: [1-9]", head), head
    assert b'"message"' in body
    assert proxied.is_served(), "other calls are not counted"
