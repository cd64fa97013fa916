"""Issuers that misbehave, and addresses made to look like issuers: not believed, and some not even asked."""

import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec

from tests.conformance.oidc.asking import PERSON, issued, refused, unavailable
from tests.conformance.oidc.conftest import FAULTY
from tests.support.openid import MockServer
from tests.support.processes import RunningService, free_port, production_service, running
from tests.support.scripted import Page, ScriptedServer, document, redirect, send
from tests.unit.oidc.issuer import Provider, jwk

DISCOVERY = ".well-known/openid-configuration"
KEYS = "keys"

REDIRECTS = (
    "http://localhost:{port}/aside/{page}",
    "http://127.0.0.2:{port}/aside/{page}",
    "http://127.0.0.1:{other}/aside/{page}",
    "https://127.0.0.1:{port}/aside/{page}",
    "http://169.254.169.254/latest/meta-data/",
    "//metadata.google.internal/{page}",
    "file:///etc/passwd",
)


def drip(handler: BaseHTTPRequestHandler) -> None:
    """Octet by octet, for longer than anybody should wait."""
    handler.send_response(200)
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b" ")
        time.sleep(0.1)


def answers(body: bytes, status: int = 200) -> Callable[[Provider], Page]:
    return lambda _issuer: lambda handler: send(handler, status, body)


def differs(**members: object) -> Callable[[Provider], Page]:
    """A discovery document with other members than it should have."""
    return lambda issuer: document({**issuer.discovery, **members})


def renamed(change: Callable[[str], object]) -> Callable[[Provider], Page]:
    return lambda issuer: document({**issuer.discovery, "issuer": change(issuer.url)})


def moved(target: str, page: str) -> Callable[[Provider], Page]:
    """A page that is at `target`, which names the port of the server itself or a closed one."""

    def to(issuer: Provider) -> Page:
        port = urlsplit(issuer.url).port
        return redirect(target.format(port=port, other=free_port(), page=page))

    return to


FAULTS: tuple[tuple[str, str, Callable[[Provider], Page], str], ...] = (
    ("another issuer", DISCOVERY, differs(issuer="https://accounts.google.com"), "issuer-differs"),
    ("a slash more", DISCOVERY, renamed(lambda url: url + "/"), "issuer-differs"),
    ("a slash less", DISCOVERY, renamed(lambda url: url[:-1]), "issuer-differs"),
    ("in capitals", DISCOVERY, renamed(str.upper), "issuer-differs"),
    ("a list of issuers", DISCOVERY, renamed(lambda url: [url]), "issuer-differs"),
    ("no issuer", DISCOVERY, differs(issuer=None), "issuer-differs"),
    ("no keys", DISCOVERY, differs(jwks_uri=None), "jwks-uri"),
    ("keys in a file", DISCOVERY, differs(jwks_uri="file:///etc/passwd"), "jwks-uri"),
    (
        "keys at the metadata service",
        DISCOVERY,
        differs(jwks_uri="http://169.254.169.254/k"),
        "address-refused",
    ),
    ("keys in the network", DISCOVERY, differs(jwks_uri="http://10.0.0.1/keys"), "address-refused"),
    ("gone", DISCOVERY, answers(b"", 404), "status"),
    ("broken", DISCOVERY, answers(b"{}", 500), "status"),
    ("a page for people", DISCOVERY, answers(b"<html>"), "malformed"),
    ("a list", DISCOVERY, answers(b"[]"), "malformed"),
    ("a member twice", DISCOVERY, answers(b'{"issuer": "a", "issuer": "b"}'), "malformed"),
    ("deep", DISCOVERY, answers(b'{"a":' + b"[" * 100_000), "malformed"),
    ("endless", DISCOVERY, answers(b"{" + b" " * 4_000_000), "too-large"),
    ("keys gone", KEYS, answers(b"", 404), "status"),
    ("keys that are none", KEYS, answers(b'{"keys": {}}'), "jwks-malformed"),
    ("keys without end", KEYS, answers(b"{" + b" " * 4_000_000), "too-large"),
    ("dripping", DISCOVERY, lambda _issuer: drip, "timeout"),
    ("keys dripping", KEYS, lambda _issuer: drip, "timeout"),
    *((f"moved to {target}", DISCOVERY, moved(target, DISCOVERY), "redirect") for target in REDIRECTS),
    *((f"keys moved to {target}", KEYS, moved(target, KEYS), "redirect") for target in REDIRECTS),
)


@pytest.mark.parametrize(
    ("number", "page", "fault", "cause"),
    [(number, page, fault, cause) for number, (_, page, fault, cause) in enumerate(FAULTS)],
    ids=[name for name, *_ in FAULTS],
)
def test_an_issuer_whose_answer_is_wrong_is_unavailable(
    federation: RunningService,
    scripted: ScriptedServer,
    number: int,
    page: str,
    fault: Callable[[Provider], Page],
    cause: str,
) -> None:
    issuer = scripted.issuer(FAULTY[number])
    scripted.pages[f"/{FAULTY[number]}/{page}"] = fault(issuer)
    found = unavailable(federation, issuer.token(), cause)
    assert found["issuer"] == issuer.url
    asked = len(scripted.paths(FAULTY[number]))
    assert asked == (1 if page == DISCOVERY else 2)
    # What failed is not asked again at once, and nobody was led aside.
    unavailable(federation, issuer.token(), cause)
    assert len(scripted.paths(FAULTY[number])) == asked
    assert scripted.paths("aside") == []


@pytest.mark.parametrize(
    "issuer",
    [
        "{evil}?{meta}/x",
        "{evil}#{meta}/x",
        "{evil}/{meta}/x",
        "{evil}?https://meta-issuer/x",
        "{meta}/x/y",
        "{meta}/x?y=z",
        "{meta}/x#y",
        "{meta}/x.evil.example",
        "{meta}/",
        "{meta}",
        "{meta}/x/",
        "{meta}/x\n",
        "{meta}/ü",
        "{meta}/../aside",
        "{meta}/%2e%2e",
        " {meta}/x",
        "http://me@127.0.0.1/meta/x",
    ],
)
def test_a_wildcard_is_anchored_and_its_star_stays_within_a_segment(
    federation: RunningService, scripted: ScriptedServer, issuer: str
) -> None:
    """GHSA-59jp-pj84-45mr: `http://localhost?https://meta-issuer/*` led to the attacker's own host."""
    named = issuer.format(evil=f"{scripted.url}/aside", meta=f"{scripted.url}/meta")
    forger = scripted.issuer("forger")
    before = len(scripted.asked)
    refused(federation, forger.token(iss=named), "token-issuer-unknown")
    assert scripted.asked[before:] == []


def test_an_issuer_by_wildcard_is_believed_for_itself_alone(
    federation: RunningService, scripted: ScriptedServer
) -> None:
    one, other = scripted.issuer("meta/one-1_A"), scripted.issuer("meta/other")
    issued(federation, one.token(), "someone@example.com")
    issued(federation, other.token(), "someone@example.com")
    refused(federation, one.token(iss=other.url), "token-signature-invalid")


def test_unfit_keys_of_an_issuer_do_not_spoil_its_good_one(
    federation: RunningService, scripted: ScriptedServer
) -> None:
    issuer = scripted.issuer(FAULTY[-1])
    issuer.published = [
        {"kty": "oct", "kid": "secret", "k": "c2VjcmV0"},
        {"kty": "EC", "kid": "curve", "crv": "secp256k1", "x": "AA", "y": "AA"},
        {"kty": "RSA", "kid": "empty", "n": "", "e": ""},
        {"kty": "RSA", "kid": "list", "n": [], "e": {}},
        jwk(ec.generate_private_key(ec.SECP256R1()), "secrets", use="enc"),
        {**jwk(ec.generate_private_key(ec.SECP256R1()), "private"), "d": "AA"},
        {"kid": "nothing"},
        *issuer.published,
    ]
    issued(federation, issuer.token())
    refused(federation, issuer.token({"kid": "secrets"}), "token-key-unknown")
    refused(federation, issuer.token({"kid": "private"}), "token-key-refused")


def test_without_leave_no_private_address_is_asked(
    mock: MockServer, scripted: ScriptedServer, tmp_path: Path
) -> None:
    people = mock.issuer("people")
    named = [people.url, scripted.issuer("aside").url, f"http://localhost:{scripted.port}/aside"]
    issuers = {url: {"client-id": "sigstore", "type": "email"} for url in named}
    service = production_service(
        tmp_path / "ca",
        issuers=yaml.safe_dump({"oidc-issuers": issuers}),
        workers=1,
        environ={"CASVC_OIDC__PRIVATE_NETWORKS": "[]"},
    )
    before = mock.asked("people")
    with running(service):
        unavailable(service, people.token(**PERSON), "address-refused")
        for url in named[1:]:
            unavailable(service, scripted.issuer("aside").token(iss=url), "address-refused")
    assert mock.asked("people") == before
    assert scripted.paths("aside") == []
