"""Tokens that are wrong in every way Fulcio's users met, and what a real service answers each of them."""

import contextlib
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import psutil
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.conformance.oidc.asking import PERSON, ask, facts, issued, refused
from tests.support.openid import MockIssuer, MockServer, standard_claims
from tests.support.processes import RunningService, http, wait_until
from tests.support.scripted import ScriptedServer
from tests.support.signing import b64, bearer, key_body, new_key
from tests.unit.oidc.issuer import Provider, jwk
from tests.unit.oidc.issuer import b64 as b64url


@pytest.fixture(scope="module")
def people(mock: MockServer) -> MockIssuer:
    """An honest issuer of people."""
    return mock.issuer("people")


@pytest.fixture(scope="module")
def raw(scripted: ScriptedServer) -> Provider:
    """An issuer that signs any octets with its RSA key `first`."""
    issuer = scripted.issuer("raw")
    issuer.key, issuer.algorithm = rsa.generate_private_key(65537, 2048), "RS256"
    issuer.published = [jwk(issuer.key, "first")]
    return issuer


def unsigned(issuer: Provider, header: Mapping[str, Any], signature: bytes = b"") -> str:
    head = b64url(json.dumps(header).encode())
    return f"{head}.{b64url(json.dumps(issuer.claims()).encode())}.{b64url(signature)}"


# -- form ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "token",
    [
        "." * 3000,
        "a.b.c" + ".d" * 2900,
        "." * 60_000,
        "no-dots",
        "e30.e30",
        "e30..",
        "..",
        "!!!.???.***",
        "bnVsbA.e30.e30",
        "A" * 20_000 + ".e30.e30",
    ],
    ids=lambda token: f"{token[:6]}-{len(token)}",
)
def test_what_is_no_compact_token_is_refused_by_its_form(federation: RunningService, token: str) -> None:
    reply = ask(federation, token)
    assert reply.status_code == 400
    [info] = reply.json()["details"]
    assert info["reason"] in ("token-malformed", "token-algorithm-refused")
    assert len(reply.content) < 2000


def test_megabytes_of_token_cost_no_memory(federation: RunningService) -> None:
    """CVE-2025-66506: splitting a token at each of its dots took memory by the megabyte."""
    [worker] = federation.workers()
    before = worker.memory_info().rss
    for filling in (".", "a", "a." * 8):
        token = filling * (3_000_000 // len(filling))
        body = key_body(new_key(), "x", token)
        with http() as session:
            reply = session.post(f"{federation.url}/api/v2/signingCert", json=body, timeout=60)
        facts(reply, 413, "body-too-large")
        with http() as session, contextlib.suppress(requests.ConnectionError):
            # A server may also hang up before it has read such a header.
            reply = session.post(
                f"{federation.url}/api/v2/signingCert", json={}, headers=bearer(token[:60_000]), timeout=60
            )
            assert 400 <= reply.status_code < 500
    assert [one.pid for one in federation.workers()] == [worker.pid]
    wait_until(lambda: _grown(worker, before) < 40_000_000, 60, "the worker gave the memory back")


def _grown(worker: psutil.Process, before: int) -> int:
    return int(worker.memory_info().rss) - before


# -- signature ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE"])
@pytest.mark.parametrize("signature", [b"", b"signed"])
def test_nothing_is_no_signature(
    federation: RunningService, raw: Provider, algorithm: str, signature: bytes
) -> None:
    token = unsigned(raw, {"alg": algorithm, "kid": "first"}, signature)
    refused(federation, token, "token-algorithm-refused")


@pytest.mark.parametrize(("algorithm", "digest"), [("HS256", "sha256"), ("HS512", "sha512")])
@pytest.mark.parametrize("form", ["pem", "der", "jwk"])
def test_the_public_key_is_no_secret(
    federation: RunningService, raw: Provider, algorithm: str, digest: str, form: str
) -> None:
    public = raw.key.public_key()
    secret = {
        "pem": public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "der": public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "jwk": json.dumps(raw.published[0]).encode(),
    }[form]
    head = {"alg": algorithm, "kid": "first", "typ": "JWT"}
    message = unsigned(raw, head).rpartition(".")[0]
    signature = hmac.digest(secret, message.encode(), getattr(hashlib, digest))
    refused(federation, f"{message}.{b64url(signature)}", "token-algorithm-refused")


def test_a_key_in_the_token_itself_is_not_believed(federation: RunningService, raw: Provider) -> None:
    mine = ec.generate_private_key(ec.SECP256R1())
    forger = Provider(raw.url)
    forger.now, forger.key = raw.now, mine
    embedded = jwk(mine, "mine")
    refused(federation, forger.token({"kid": "mine", "jwk": embedded}), "token-key-unknown")
    refused(federation, forger.token({"jku": "http://127.0.0.1:1/keys"}), "token-key-refused")
    refused(federation, forger.token({"alg": "RS256"}), "token-signature-invalid")


def test_an_algorithm_off_the_issuers_list_is_refused(
    federation: RunningService, mock: MockServer, people: MockIssuer
) -> None:
    narrow = mock.issuer("narrow")
    narrow.rotate("curve", "ES256")
    issued(federation, narrow.token(kid="curve", **PERSON))
    assert refused(federation, narrow.token(**PERSON), "token-algorithm-refused")["expected"] == "ES256"
    for algorithm in ("RS384", "PS256", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"):
        people.rotate(f"key-{algorithm}", algorithm)
    for algorithm in ("RS384", "ES512", "Ed25519"):
        # The first unknown key makes the service look again, and it then finds all of them.
        issued(federation, people.token(kid=f"key-{algorithm}", **PERSON))


def test_one_key_is_not_used_with_another_keys_algorithm(
    federation: RunningService, people: MockIssuer
) -> None:
    head, payload, signature = people.token(**PERSON).split(".")
    other = b64url(json.dumps({"alg": "RS512", "kid": "first"}).encode())
    assert head != other
    found = refused(federation, f"{other}.{payload}.{signature}", "token-key-refused")
    assert (found["expected"], found["received"]) == ("RS256", "RS512")


def test_an_altered_token_is_refused(federation: RunningService, people: MockIssuer) -> None:
    head, payload, signature = people.token(**PERSON).split(".")
    theirs = {**standard_claims(people.url), "email": "other@example.com", "email_verified": True}
    altered = b64url(json.dumps(theirs).encode())
    refused(federation, f"{head}.{altered}.{signature}", "token-signature-invalid", "other@example.com")
    refused(federation, f"{head}.{payload}.{b64url(bytes(256))}", "token-signature-invalid")
    refused(federation, f"{head}.{payload}.", "token-signature-invalid")


def test_short_rsa_keys_of_an_issuer_are_not_used_and_its_others_are(
    federation: RunningService, scripted: ScriptedServer
) -> None:
    weak = scripted.issuer("weak")
    strong_key = weak.key
    for bits in (1024, 2040):
        weak.key, weak.kid, weak.algorithm = rsa.generate_private_key(65537, bits), f"short-{bits}", "RS256"
        weak.published.append(jwk(weak.key, weak.kid))
    for kid in ("short-1024", "short-2040"):
        assert refused(federation, weak.token({"kid": kid}), "token-key-refused")["keyId"] == kid
    weak.key, weak.kid, weak.algorithm = strong_key, "first", "ES256"
    issued(federation, weak.token())


def test_a_token_must_name_its_key(federation: RunningService, scripted: ScriptedServer) -> None:
    several = scripted.issuer("several")
    several.published.append(jwk(ec.generate_private_key(ec.SECP256R1()), "second"))
    issued(federation, several.token())
    refused(federation, several.token({"kid": None}), "token-key-unknown")
    refused(federation, several.token({"kid": "second"}), "token-signature-invalid")
    for odd in ("", "k" * 300, 7, ["first"]):
        refused(federation, several.token({"kid": odd}), "token-malformed")


# -- claims --------------------------------------------------------------------------------------------------


def test_strangers_in_the_audience_are_accepted_unless_the_issuer_is_strict(
    federation: RunningService, mock: MockServer, people: MockIssuer
) -> None:
    strict = mock.issuer("strict")
    both = ["stranger", "sigstore"]
    issued(federation, people.token(**PERSON, aud=both))
    issued(federation, people.token(**PERSON, aud=["sigstore"]))
    issued(federation, strict.token(**PERSON, aud=["sigstore"]))
    refused(federation, strict.token(**PERSON, aud=both), "token-audience-mismatch")
    for wrong in ("stranger", ["stranger"], "sigstore ", "SIGSTORE"):
        refused(federation, people.token(**PERSON, aud=wrong), "token-audience-mismatch")
    for odd in ({"sigstore": True}, ["sigstore", 7], 7):
        refused(federation, people.token(**PERSON, aud=odd), "token-claim-invalid")
    refused(federation, people.token(**PERSON, aud=None), "token-claim-missing")
    refused(federation, people.token(**PERSON, aud=[]), "token-claim-missing")
    refused(federation, people.token(**PERSON, aud=""), "token-audience-mismatch")


def now() -> int:
    return int(time.time())


@pytest.mark.parametrize(
    ("claim", "value", "reason"),
    [
        ("exp", lambda: None, "token-claim-missing"),
        ("exp", lambda: now() - 1, "token-expired"),
        ("exp", lambda: now() - 29, "token-expired"),
        ("exp", lambda: now() - 86_400, "token-expired"),
        ("exp", lambda: 0, "token-expired"),
        ("exp", lambda: str(now() + 600), "token-claim-invalid"),
        ("exp", lambda: now() + 11 * 366 * 86_400, "token-claim-invalid"),
        ("exp", lambda: 10**30, "token-claim-invalid"),
        ("exp", lambda: 1e300, "token-claim-invalid"),
        ("exp", lambda: -1, "token-claim-invalid"),
        ("exp", lambda: True, "token-claim-invalid"),
        ("exp", lambda: [now() + 600], "token-claim-invalid"),
        ("iat", lambda: now() + 60, "token-not-yet-valid"),
        ("nbf", lambda: now() + 60, "token-not-yet-valid"),
        ("iat", lambda: now() + 86_400, "token-not-yet-valid"),
        ("nbf", lambda: str(now()), "token-claim-invalid"),
        ("iat", dict, "token-claim-invalid"),
        ("sub", lambda: None, "token-claim-missing"),
        ("sub", lambda: 7, "token-claim-invalid"),
        ("email", lambda: None, "token-claim-missing"),
    ],
)
def test_claims_that_are_absent_absurd_or_not_now(
    federation: RunningService, people: MockIssuer, claim: str, value: Callable[[], object], reason: str
) -> None:
    good = {**standard_claims(people.url), **PERSON, claim: value()}
    token = people.sign({name: what for name, what in good.items() if what is not None})
    assert refused(federation, token, reason)["claim"] == claim


def test_an_issuers_clock_may_be_thirty_seconds_ahead_but_no_token_outlives_its_end(
    federation: RunningService, people: MockIssuer
) -> None:
    ahead = now() + 25
    issued(federation, people.token(**PERSON, iat=ahead, nbf=ahead))
    issued(federation, people.token(**PERSON, exp=now() + 5))
    issued(federation, people.token(**PERSON, exp=now() + 600.5))
    for claim in ("iat", "nbf"):
        refused(federation, people.token(**{**PERSON, claim: now() + 35}), "token-not-yet-valid")


@pytest.mark.parametrize("member", ["email", "sub", "aud", "exp", "iss"])
def test_a_member_that_occurs_twice_is_refused(
    federation: RunningService, raw: Provider, member: str
) -> None:
    good = json.dumps(raw.claims())
    twice = good[:-1] + f', "{member}": {json.dumps(raw.claims()[member])}' + "}"
    assert json.loads(twice) == json.loads(good)
    issued(federation, raw.signed(good.encode()))
    refused(federation, raw.signed(twice.encode()), "token-malformed")
    # The same name, written otherwise.
    escaped = good[:-1] + f', "\\u{ord(member[0]):04x}{member[1:]}": "other"' + "}"
    refused(federation, raw.signed(escaped.encode()), "token-malformed")


@pytest.mark.parametrize(
    "payload",
    [b"", b"[]", b"null", b'"text"', b"{", b'{"a": NaN}', b"\xff{}", b'{"a": "\\ud800"}', b"[" * 9000],
    ids=lambda payload: f"{payload[:6]!r}-{len(payload)}",
)
def test_a_payload_that_is_no_plain_json_object_is_refused(
    federation: RunningService, raw: Provider, payload: bytes
) -> None:
    refused(federation, raw.signed(payload), "token-malformed")


def test_no_answer_repeats_the_token_or_the_address(federation: RunningService, people: MockIssuer) -> None:
    token = people.token(**PERSON, exp=now() - 5)
    text = ask(federation, token).text
    assert PERSON["email"] not in text
    assert not any(part in text for part in token.split("."))
    assert b64(PERSON["email"].encode()) not in text
