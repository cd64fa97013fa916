"""The outbound client against real servers on loopback: TLS, redirects, slow, huge and hostile answers."""

import datetime as dt
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from ca_service.errors import ConfigurationError, IssuerUnavailable
from ca_service.outbound.addresses import AddressRules
from ca_service.outbound.client import MAX_BODY, OutboundClient
from tests.support.processes import free_port

LOOPBACK = ["127.0.0.0/8"]
DOCUMENT = b'{"issuer": "x"}'

Respond = Callable[[BaseHTTPRequestHandler], None]


def send(handler: BaseHTTPRequestHandler, status: int = 200, body: bytes = DOCUMENT, **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    if "Content_Length" not in headers:
        handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def drip(handler: BaseHTTPRequestHandler) -> None:
    """A body that arrives one octet at a time, for longer than anybody should wait."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(200):
        handler.wfile.write(b"{")
        handler.wfile.flush()
        time.sleep(0.05)


def drip_headers(handler: BaseHTTPRequestHandler) -> None:
    for _ in range(200):
        handler.wfile.write(b"H")
        handler.wfile.flush()
        time.sleep(0.05)


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(4 * MAX_BODY // 65536):
        handler.wfile.write(b"{" * 65536)


PATHS: dict[str, Respond] = {
    "/good": send,
    "/kubernetes": lambda handler: send(handler, Content_Type="application/jwk-set+json"),
    "/missing": lambda handler: send(handler, 404),
    "/broken": lambda handler: send(handler, 500),
    "/html": lambda handler: send(handler, body=b"<html>"),
    "/gzip": lambda handler: send(handler, Content_Encoding="gzip"),
    "/short": lambda handler: send(handler, Content_Length="1000"),
    "/large": lambda handler: send(handler, body=b"{" + b" " * MAX_BODY),
    "/endless": endless,
    "/drip": drip,
    "/drip-headers": drip_headers,
    "/moved": lambda handler: send(handler, 302, Location="/good"),
    "/circle": lambda handler: send(handler, 307, Location="/circle"),
    "/moved-host": lambda handler: send(handler, 302, Location="http://localhost:1/good"),
    "/moved-scheme": lambda handler: send(handler, 302, Location="file:///etc/passwd"),
    "/moved-metadata": lambda handler: send(handler, 301, Location="http://169.254.169.254/latest/"),
    "/moved-nowhere": lambda handler: send(handler, 302),
}


class Answer(BaseHTTPRequestHandler):
    """Answers by path, and remembers what was asked."""

    server: "WebServer"

    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers)))
        try:
            PATHS[self.path](self)
        except OSError:
            self.close_connection = True  # the client hung up, as it should

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        pass


class WebServer(ThreadingHTTPServer):
    """Serves in threads that end with the test; `asked` are the requests that came in."""

    daemon_threads = True
    asked: list[tuple[str, dict[str, str]]]


class Server:
    """A web server on loopback; `asked` are the requests that reached it."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.server = WebServer(("127.0.0.1", 0), Answer)
        self.asked = self.server.asked = []
        if context is not None:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as started:
        yield started


def why(url: str, *, networks: list[str] = LOOPBACK, ca_cert: str | None = None, timeout: float = 60) -> str:
    """The cause for which a document is not to be had."""
    with pytest.raises(IssuerUnavailable) as raised:
        OutboundClient(networks).get(url, ca_cert, timeout)
    assert raised.value.retry_after
    assert raised.value.message.startswith(url.split("/circle")[0][:20])
    return raised.value.facts["cause"]


@pytest.mark.parametrize("path", ["/good", "/kubernetes", "/moved"])
def test_a_document_is_read(server: Server, path: str) -> None:
    assert OutboundClient(LOOPBACK).get(server.url + path, None, 60) == DOCUMENT
    _, headers = server.asked[0]
    assert headers["Accept-Encoding"] == "identity"
    assert {"Cookie", "Authorization"}.isdisjoint(headers)


@pytest.mark.parametrize(
    ("path", "cause"),
    [
        ("/missing", "status"),
        ("/broken", "status"),
        ("/html", "malformed"),
        ("/gzip", "malformed"),
        ("/short", "unreachable"),
        ("/large", "too-large"),
        ("/endless", "too-large"),
        ("/circle", "redirect"),
        ("/moved-host", "redirect"),
        ("/moved-scheme", "redirect"),
        ("/moved-metadata", "redirect"),
        ("/moved-nowhere", "redirect"),
    ],
)
def test_other_answers_are_refused(server: Server, path: str, cause: str) -> None:
    assert why(server.url + path) == cause


@pytest.mark.parametrize("path", ["/drip", "/drip-headers"])
def test_a_server_that_drips_is_cut_off(server: Server, path: str) -> None:
    assert why(server.url + path, timeout=0.4) == "timeout"


def test_a_server_that_accepts_and_says_nothing_is_cut_off() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        port = silent.getsockname()[1]
        for scheme in ("http", "https"):
            assert why(f"{scheme}://127.0.0.1:{port}/", timeout=0.3) == "timeout"


def test_a_closed_port_is_unreachable_and_its_address_stays_out_of_the_message() -> None:
    with pytest.raises(IssuerUnavailable) as raised:
        OutboundClient(LOOPBACK).get(f"http://localhost:{free_port()}/", None, 60)
    assert raised.value.facts["cause"] == "unreachable"
    assert "127.0.0.1" not in raised.value.message


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "127.1", "2130706433"]
)
def test_loopback_is_refused_unless_listed_however_it_is_written(server: Server, host: str) -> None:
    assert why(f"https://{host}:{server.port}/good", networks=[]) == "address-refused"
    assert why(f"http://{host}:{server.port}/good", networks=[]) == "address-refused"
    assert server.asked == []


@pytest.mark.parametrize(
    "url",
    [
        "https://169.254.169.254/latest/meta-data/",
        "https://[fd00:ec2::254]/latest/",
        "https://10.0.0.1/",
        "https://172.16.0.1/",
        "https://192.168.1.1/",
        "https://100.64.0.1/",
        "https://0.0.0.0/",
        "https://224.0.0.1/",
        "https://255.255.255.255/",
        "https://[fe80::1]/",
        "https://[ff02::1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://[2002:7f00:1::]/",
        "http://8.8.8.8/",
    ],
)
def test_addresses_that_no_issuer_has_are_not_connected_to(url: str) -> None:
    assert why(url, networks=[]) == "address-refused"


@pytest.mark.parametrize(
    "url",
    ["ftp://127.0.0.1/", "file:///etc/passwd", "https:///x", "https://me@127.0.0.1/", "//127.0.0.1/", "x"],
)
def test_only_urls_of_hosts_are_followed(url: str) -> None:
    with pytest.raises(IssuerUnavailable):
        OutboundClient(LOOPBACK).get(url, None, 60)


def test_a_name_that_changes_its_address_gains_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: the first answer is allowed, every later one is not. There must be no later one."""
    asked: list[str] = []

    def rebinding(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        address = "127.0.0.2" if len(asked) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    assert why(f"http://rebound.example:{server.port}/good", networks=["127.0.0.2/32"]) == "unreachable"
    assert asked == ["rebound.example"]
    assert server.asked == []


def test_of_several_addresses_only_allowed_ones_are_tried(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def both(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in ("10.9.8.7", "127.0.0.1")
        ]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    assert OutboundClient(LOOPBACK).get(f"http://two.example:{server.port}/good", None, 60) == DOCUMENT


def test_a_name_that_nobody_has_is_unavailable() -> None:
    assert why("https://does-not-exist.invalid/") in ("name", "timeout")


def test_proxies_and_other_settings_of_the_environment_are_not_used(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert OutboundClient(LOOPBACK).get(server.url + "/good", None, 60) == DOCUMENT
    assert "Authorization" not in server.asked[0][1]


def certificate(host: str) -> tuple[str, str]:
    """A self-signed certificate for an address, and its key, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "issuer")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + dt.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return made.public_bytes(Encoding.PEM).decode(), private.decode()


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[tuple[Server, str]]:
    pem, key = certificate("127.0.0.1")
    (tmp_path / "tls.pem").write_text(pem + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls.pem")
    with Server(context) as started:
        yield started, pem


def test_tls_needs_a_trusted_certificate_and_an_issuers_own_may_be_listed(
    tls_server: tuple[Server, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server, pem = tls_server
    assert OutboundClient(LOOPBACK).get(server.url + "/good", pem, 60) == DOCUMENT
    assert why(server.url + "/good") == "tls"
    other, _ = certificate("127.0.0.1")
    assert why(server.url + "/good", ca_cert=other) == "tls"
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(pem)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    assert why(server.url + "/good") == "tls"


def test_tls_checks_the_name(tmp_path: Path) -> None:
    pem, key = certificate("127.0.0.2")
    (tmp_path / "tls.pem").write_text(pem + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls.pem")
    with Server(context) as server:
        assert why(server.url + "/good", ca_cert=pem) == "tls"


def test_tls_that_drips_is_cut_off(tls_server: tuple[Server, str]) -> None:
    server, pem = tls_server
    assert why(server.url + "/drip", ca_cert=pem, timeout=0.5) == "timeout"


def test_private_networks_are_checked_at_start() -> None:
    with pytest.raises(ConfigurationError, match="private_networks"):
        OutboundClient(["127.0.0.1/8/9"])


def test_a_listed_network_is_allowed_in_both_families() -> None:
    rules = AddressRules(["10.0.0.0/8", "fd00::/8"])
    assert rules.is_allowed("10.1.2.3")
    assert rules.is_allowed("::ffff:10.1.2.3")
    assert rules.is_allowed("fd00::1")
    assert rules.is_allowed("8.8.8.8")
    assert not rules.is_allowed("127.0.0.1")
    assert not rules.is_listed("8.8.8.8")
