"""Malformed OCSP requests over real HTTP: an OCSP error or a 4xx for each, never a 5xx, and soon."""

import base64
import http.client
import io
import urllib.parse

import pytest
import requests
from cryptography.x509 import ocsp

from tests.e2e.conftest import TWO_NODES
from tests.support.malformed_ocsp import ANSWERED, BODIES, PATHS, REFUSED, Asked
from tests.support.processes import RunningService
from tests.support.signing import issue
from tests.support.tokens import Tokens

# One that hangs fails here; how fast it is otherwise, no test of ours judges.
SECONDS = 60
_STATUS = {
    ocsp.OCSPResponseStatus.MALFORMED_REQUEST: "malformedRequest",
    ocsp.OCSPResponseStatus.UNAUTHORIZED: "unauthorized",
    ocsp.OCSPResponseStatus.SUCCESSFUL: ANSWERED,
}


REFUSED_BY_NGINX = {
    *("dots", "encoded dots", "a percent sign alone", "half an escape", "an escape that is no hex"),
    "an encoded zero octet",
}
"""Paths that nginx calls none, before anybody is asked."""


class _Wire(io.BytesIO):
    """What came from a socket, as http.client wants to read it."""

    def makefile(self, *_: object) -> "_Wire":
        return self


def exchange(service: RunningService, message: bytes) -> tuple[int, bytes]:
    """Send octets as they stand, and return the status and body of the answer."""
    with service.connect(service.status_url) as connection:
        connection.sendall(message)
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    reply = http.client.HTTPResponse(_Wire(received))  # type: ignore[arg-type]  # it has what is used
    reply.begin()
    return reply.status, reply.read()


def get(service: RunningService, path: str) -> tuple[int, bytes]:
    head = f"GET /ocsp/{path} HTTP/1.1\r\nHost: {service.bind}\r\nConnection: close\r\n\r\n"
    return exchange(service, head.encode("latin-1"))


def verdict(status: int, body: bytes) -> str:
    """The answer in the words of the lists; anything that is in none of them fails."""
    if 400 <= status < 500:
        return REFUSED
    assert status == 200, f"{status}: {body[:200]!r}"
    return _STATUS[ocsp.load_der_ocsp_response(body).response_status]


@pytest.fixture(scope="module")
def asked(service: RunningService, tokens: Tokens) -> Asked:
    email = "malformed@example.com"
    with service.http() as session:
        issued = issue(session, service.url, tokens.token(email), email)
    return Asked(issued.leaf, issued.issuing)


def test_the_lists_are_long_enough_to_mean_something() -> None:
    wrong = [name for name, (_, answer) in BODIES.items() if answer != ANSWERED]
    assert len(wrong) >= 50
    assert len(PATHS) >= 25


@pytest.mark.parametrize("name", BODIES)
def test_a_body_by_post(service: RunningService, session: requests.Session, asked: Asked, name: str) -> None:
    make, expected = BODIES[name]
    content_type = {"Content-Type": "application/ocsp-request"}
    reply = session.post(
        f"{service.status_url}/ocsp", data=make(asked), headers=content_type, timeout=SECONDS
    )
    assert verdict(reply.status_code, reply.content) == expected
    if expected not in (REFUSED, ANSWERED):
        assert reply.headers["Content-Type"] == "application/ocsp-response"
        assert reply.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("name", BODIES)
def test_the_same_by_get(service: RunningService, asked: Asked, name: str) -> None:
    make, expected = BODIES[name]
    path = urllib.parse.quote(base64.b64encode(make(asked)).decode(), safe="")
    # The path of an empty request is none; one of many kilobytes is longer than a request line may be.
    expected = REFUSED if not path or len(path) > 8000 else expected
    assert verdict(*get(service, path)) == expected


@pytest.mark.parametrize("name", PATHS)
def test_a_path_that_is_no_request(service: RunningService, place: str, name: str) -> None:
    path, expected = PATHS[name]
    expected = REFUSED if place == TWO_NODES and name in REFUSED_BY_NGINX else expected
    assert verdict(*get(service, path)) == expected


def test_bodies_that_end_early_or_lie_about_their_length(service: RunningService, asked: Asked) -> None:
    body = asked.request()
    for length, sent in (("0", b""), (str(len(body) - 1), body[:-1]), ("-1", body), ("many", body)):
        head = f"POST /ocsp HTTP/1.1\r\nHost: {service.bind}\r\nConnection: close\r\n"
        message = f"{head}Content-Length: {length}\r\n\r\n".encode() + sent
        assert verdict(*exchange(service, message)) != ANSWERED


def test_after_all_that_it_still_answers(
    service: RunningService, session: requests.Session, asked: Asked
) -> None:
    reply = session.post(f"{service.status_url}/ocsp", data=asked.request(), timeout=SECONDS)
    assert verdict(reply.status_code, reply.content) == ANSWERED
    service.wait_ready()
