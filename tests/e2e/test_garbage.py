"""Whatever is sent to whatever endpoint: an answer soon, never a 5xx, never a worker that hangs."""

import base64
import json
import os
import random
import socket
import urllib.parse
from collections.abc import Collection, Iterator

import pytest
import requests

from tests.e2e.conftest import ONE_NODE, TWO_NODES
from tests.support.cluster import somebody
from tests.support.processes import RunningService
from tests.support.signing import b64, bearer, csr_pem, issue, key_body, new_key
from tests.support.tokens import Tokens
from tests.support.verifier import openssl

EMAIL = "garbage@example.com"
NOT_THERE = {ONE_NODE: (404,), TWO_NODES: (400, 404)}
"""What is said of paths that are nothing: nginx itself refuses what climbs out of the tree."""
JSON_CALLS = ("/api/v2/signingCert", "/api/v1/signingCert")

BODIES: dict[str, bytes] = {
    "empty": b"",
    "not JSON": b"{not json",
    "not UTF-8": b'{"a": "\xff\xfe"}',
    "a list": b"[]",
    "null": b"null",
    "a number": b"1e400",
    "deep": b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    "deep lists": b"[" * 60_000,
    "numbers for messages": b'{"credentials": 1, "publicKeyRequest": 2}',
    "lists for text": b'{"publicKeyRequest": {"publicKey": {"content": []}, "proofOfPossession": {}}}',
    "text for messages": b'{"credentials": "x", "publicKeyRequest": "y", "publicKey": "z"}',
    "bytes that are no base64": b'{"certificateSigningRequest": "\\u0000\\ud800***"}',
    "lone surrogate": b'{"credentials": {"oidcIdentityToken": "\\ud800"}, "publicKeyRequest": {}}',
    "NUL in the token": b'{"credentials": {"oidcIdentityToken": "a.b.c\\u0000"}, "publicKeyRequest": {}}',
    "repeated members": b'{"publicKeyRequest": {}, "publicKeyRequest": {}}',
    "huge integer": b'{"publicKeyRequest": ' + b"9" * 5000 + b"}",
}


def answered(reply: requests.Response, *, allowed: Collection[int] = range(400, 500)) -> None:
    assert reply.status_code in allowed, f"{reply.status_code} {reply.reason} {reply.text[:300]}"


@pytest.fixture(autouse=True)
def _still_serving(service: RunningService) -> Iterator[None]:
    """No garbage may cost a worker: the same processes serve after each test as before."""
    before = {process.pid for process in service.workers()}
    yield
    # More may have come: the service is ready before its last worker has started.
    assert {process.pid for process in service.workers()} >= before, service.tail()


@pytest.mark.parametrize("path", JSON_CALLS)
@pytest.mark.parametrize("name", sorted(BODIES))
@pytest.mark.parametrize("authorized", [True, False])
def test_malformed_bodies_are_refused(
    service: RunningService,
    tokens: Tokens,
    session: requests.Session,
    path: str,
    name: str,
    authorized: bool,
) -> None:
    headers = {"Content-Type": "application/json"}
    if authorized:
        headers |= bearer(tokens.token(somebody()))
    answered(session.post(f"{service.url}{path}", data=BODIES[name], headers=headers, timeout=60))


TOKENS = {
    "thousands of dots": "." * 7000,
    "dots between": "a." * 3000,
    "three empty parts": "..",
    "no dots": "a" * 7000,
    "header is no JSON": "AAAA.AAAA.AAAA",
    "header is a list": b64(b"[]").rstrip("=") + ".e30.AAAA",
    "header is deep": b64(b"[" * 3000).rstrip("=") + ".e30.AAAA",
    "algorithm none": "eyJhbGciOiJub25lIn0.e30.",
    "algorithm a number": b64(b'{"alg": 5}').rstrip("=") + ".e30.AAAA",
    "kid an object": b64(b'{"alg": "RS256", "kid": {}}').rstrip("=") + ".e30.AAAA",
    "critical header": b64(b'{"alg": "RS256", "crit": ["exp"]}').rstrip("=") + ".e30.AAAA",
    "encrypted": "a.b.c.d.e",
    "payload is text": "eyJhbGciOiJSUzI1NiJ9.ImEi.AAAA",
    "issuer a number": "eyJhbGciOiJSUzI1NiJ9." + b64(b'{"iss": 5}').rstrip("=") + ".AAAA",
    "issuer is us": "eyJhbGciOiJSUzI1NiJ9." + b64(b'{"iss": "http://127.0.0.1:1/"}').rstrip("=") + ".AAAA",
}


@pytest.mark.parametrize("name", sorted(TOKENS))
@pytest.mark.parametrize("where", ["header", "body"])
def test_malformed_tokens_are_refused(
    service: RunningService, session: requests.Session, name: str, where: str
) -> None:
    body = key_body(new_key(), EMAIL, TOKENS[name] if where == "body" else None)
    headers = bearer(TOKENS[name]) if where == "header" else {}
    answered(session.post(f"{service.url}/api/v2/signingCert", json=body, headers=headers, timeout=60))


def test_a_token_of_many_dots_in_a_full_body_costs_little(
    service: RunningService, session: requests.Session
) -> None:
    """CVE-2025-66506: splitting such a token at every dot took memory for each."""
    body = key_body(new_key(), EMAIL, "." * 60_000)
    before = max(process.memory_info().rss for process in service.workers())
    for _ in range(20):
        answered(session.post(f"{service.url}/api/v2/signingCert", json=body, timeout=60))
    assert max(process.memory_info().rss for process in service.workers()) < before + 64 * 2**20


def test_garbage_keys_requests_and_proofs_are_refused(
    service: RunningService, tokens: Tokens, session: requests.Session
) -> None:
    chance = random.Random(2026)
    good = csr_pem(new_key())
    body_of_pem = base64.b64decode(b"".join(good.splitlines()[1:-1]))
    garbage = [
        b"\x30\x80" + b"\x30" * 400,
        b"\x30\x84\xff\xff\xff\xff",
        b"\x30\x82\xff\xff" + os.urandom(64),
        good[:-40],
        good.replace(b"CERTIFICATE REQUEST", b"CERTIFICATE"),
        *(chance.randbytes(size) for size in (1, 32, 500, 5000)),
        *(
            body_of_pem[:place] + bytes([chance.randrange(256)]) + body_of_pem[place + 1 :]
            for place in (0, 1, 4, 5, 9, 20, 40, len(body_of_pem) - 1)
        ),
    ]
    for octets in garbage:
        token = tokens.token(somebody())
        pem = b"-----BEGIN PUBLIC KEY-----\n" + base64.encodebytes(octets) + b"-----END PUBLIC KEY-----\n"
        proof = {"proofOfPossession": b64(octets)}
        public_key = {"content": pem.decode()}
        for path, body in (
            ("/api/v2/signingCert", {"certificateSigningRequest": b64(octets)}),
            ("/api/v2/signingCert", {"publicKeyRequest": {"publicKey": public_key, **proof}}),
            (
                "/api/v2/signingCert",
                {"publicKeyRequest": {**key_body(new_key(), EMAIL)["publicKeyRequest"], **proof}},
            ),
            ("/api/v1/signingCert", {"publicKey": {"content": b64(octets)}, "signedEmailAddress": b64(b"x")}),
        ):
            answered(session.post(f"{service.url}{path}", json=body, headers=bearer(token), timeout=60))


def test_garbage_ocsp_gets_an_ocsp_error_answer(
    service: RunningService, session: requests.Session, place: str
) -> None:
    """RFC 6960 §2.3: not HTTP errors but OCSP responses malformedRequest (1), never 'good', never cached."""
    chance = random.Random(6960)
    octets = [
        b"",
        b"\x30\x00",
        b"\x30\x80",
        b"\x30\x84\xff\xff\xff\xff",
        *(chance.randbytes(n) for n in (5, 90)),
    ]
    for request in octets:
        path = base64.urlsafe_b64encode(request).decode() or "%20"
        for reply in (
            session.post(
                f"{service.status_url}/ocsp",
                data=request,
                headers={"Content-Type": "application/ocsp-request"},
                timeout=60,
            ),
            session.get(f"{service.status_url}/ocsp/{path}", timeout=60),
        ):
            assert reply.status_code == 200
            assert reply.headers["Content-Type"] == "application/ocsp-response"
            assert reply.content == bytes.fromhex("30030a0101"), reply.content.hex()
            assert "no-store" in reply.headers["Cache-Control"]
    for path in ("/ocsp/***", "/ocsp/%00", "/ocsp//", "/ocsp/%2F%2F", "/ocsp/" + "A" * 4000):
        reply = session.get(f"{service.status_url}{path}", timeout=60)
        assert reply.status_code in (200, *NOT_THERE[place]), (path, reply.status_code)


def test_changed_octets_of_a_real_ocsp_request_never_break_the_responder(
    service: RunningService,
    tokens: Tokens,
    session: requests.Session,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    email = somebody()
    folder = issue(session, service.url, tokens.token(email), email).write(tmp_path_factory.mktemp("ocsp"))
    openssl(*("ocsp", "-issuer", "issuing.pem", "-cert", "leaf.pem", "-reqout", "request.der"), folder=folder)
    request = (folder / "request.der").read_bytes()
    chance = random.Random(1)
    for place in range(len(request)):
        changed = request[:place] + bytes([chance.randrange(256)]) + request[place + 1 :]
        reply = session.post(f"{service.status_url}/ocsp", data=changed, timeout=60)
        assert reply.status_code == 200, (place, reply.status_code)
        assert reply.content[:1] == b"\x30"


QUERIES = (
    "",
    "?",
    "?start=0",
    "?start=-1&end=1",
    "?start=1_0&end=2",
    "?start=%D9%A1&end=2",
    "?start=5&end=1",
)
MORE_QUERIES = (
    "?start=99999999999999999999&end=99999999999999999999",
    "?start=9223372036854775807&end=9223372036854775807",
    "?first=2&second=1",
    "?first=0&second=99999999",
    "?first=x&second=%00",
    "?hash=AAAA&tree_size=1",
    "?hash=%ff&tree_size=1",
    "?hash=&tree_size=0",
    "?leaf_index=1&tree_size=1",
    "?leaf_index=9223372036854775807&tree_size=9223372036854775807",
)


@pytest.mark.parametrize(
    "call", ["get-entries", "get-sth-consistency", "get-proof-by-hash", "get-entry-and-proof"]
)
def test_garbage_log_queries_are_refused(
    service: RunningService, session: requests.Session, call: str
) -> None:
    for query in (*QUERIES, *MORE_QUERIES):
        reply = session.get(f"{service.url}/ctlog/{service.shard()}/ct/v1/{call}{query}", timeout=60)
        answered(reply)


@pytest.mark.parametrize(
    "path",
    [
        "/ctlog/nowhere/ct/v1/get-sth",
        "/ctlog/%00/checkpoint",
        "/ctlog/..%2f..%2fetc/checkpoint",
        "/crl/../ca.toml",
        "/crl/%2e%2e/%2e%2e.crl",
        "/crl/0000/2026-11-0a.crl",
        "/crl/" + "0" * 40 + "/9999-99-zz.crl",
        "/ca/" + "0" * 40 + ".crt",
        "/ca/..%2fprivate%2fissuing.key.crt",
        "/trust/../private/issuing.key",
        "/trust/nothing.pem",
        "//evil.example/",
        "/\u00fc",
        "/" + "a" * 3000,
    ],
)
def test_paths_that_are_nothing_are_404(
    service: RunningService, session: requests.Session, path: str, place: str
) -> None:
    prepared = requests.Request("GET", service.url).prepare()
    prepared.url = service.url + urllib.parse.quote(path, safe="/%:=?&.+~")
    reply = session.send(prepared, timeout=60, allow_redirects=False)
    answered(reply, allowed=NOT_THERE[place])


def raw(service: RunningService, octets: bytes) -> socket.socket:
    connection = service.connect()
    connection.sendall(octets)
    return connection


@pytest.mark.parametrize("path", [*JSON_CALLS, "/ocsp"])
def test_an_endless_chunked_body_is_cut_off(service: RunningService, path: str, place: str) -> None:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {service.bind}\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    chunk = b"1000\r\n" + b" " * 4096 + b"\r\n"
    answer = b""
    with raw(service, head.encode()) as connection:
        try:
            for _ in range(4096):  # 16 MiB, if the server were to read it
                connection.sendall(chunk)
        except OSError:
            pass  # cut off: what this test asks for
        else:
            # nginx has refused it long ago, and throws away what still comes.
            assert place == TWO_NODES, "16 MiB of chunks were taken"
        try:
            answer = connection.recv(65536)
        except OSError:
            return  # the answer was lost with the connection, which is fine for such a client
    assert answer == b"" or answer.split(b" ")[1] in (b"400", b"413"), answer[:200]


def test_clients_that_stop_in_the_middle_do_not_stop_the_others(
    service: RunningService, session: requests.Session
) -> None:
    """More of them than there are threads: they are given up after ten seconds, and the next is answered."""
    head = f"POST /api/v2/signingCert HTTP/1.1\r\nHost: {service.bind}\r\nContent-Length: 100\r\n"
    silent = [raw(service, (head if number % 2 else head + "\r\n").encode()) for number in range(40)]
    try:
        assert session.get(f"{service.url}/healthz", timeout=60).status_code == 200
    finally:
        for connection in silent:
            connection.close()


@pytest.mark.parametrize("path", [*JSON_CALLS, "/ocsp", "/admin/v1/certificates/search"])
@pytest.mark.parametrize(
    "chunks", [b"zz\r\n", b"2\r\n{}!!0\r\n\r\n", b"-1\r\n\r\n", b"2;\r\n{}\r\n", b"5\r\n{}"]
)
def test_chunks_that_are_none_are_refused(
    service: RunningService, path: str, chunks: bytes, place: str
) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: {service.bind}\r\nTransfer-Encoding: chunked\r\n\r\n"
    with raw(service, head.encode() + chunks) as connection:
        socket.socket.shutdown(connection, socket.SHUT_WR)  # past the TLS, which has no such thing
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    # A body that breaks off may have its connection closed without a word; what is answered is a refusal.
    broken_off = {b"5\r\n{}"} if place == ONE_NODE else {b"5\r\n{}", b"2;\r\n{}\r\n"}
    assert answer.startswith(b"HTTP/1.1 4") or (answer == b"" and chunks in broken_off), answer[:200]


def test_a_body_shorter_than_it_claims_does_not_hold_a_worker(
    service: RunningService, session: requests.Session
) -> None:
    head = f"POST /ocsp HTTP/1.1\r\nHost: {service.bind}\r\nContent-Length: 1000\r\n\r\nabc"
    raw(service, head.encode()).close()
    answered(session.get(f"{service.url}/healthz", timeout=60), allowed=range(200, 201))


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "OPTIONS", "HEAD"])
def test_other_methods_never_break_anything(
    service: RunningService, session: requests.Session, method: str
) -> None:
    for path in ("/", "/api/v2/signingCert", "/ocsp", "/healthz", f"/ctlog/{service.shard()}/checkpoint"):
        reply = session.request(method, f"{service.url}{path}", timeout=60)
        answered(reply, allowed=range(200, 500))


def test_a_document_of_all_calls_is_valid_json(service: RunningService, session: requests.Session) -> None:
    document = json.loads(session.get(f"{service.url}/openapi.json", timeout=60).content)
    assert document["openapi"].startswith("3.")
