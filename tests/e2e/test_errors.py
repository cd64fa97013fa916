"""Every refusal names the failed check in body and reason phrase, with a stable slug and the request id."""

import base64
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import requests
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.support.issuer import b64url
from tests.support.processes import RunningService
from tests.support.signing import b64, bearer, csr_pem, key_body, new_key, prove, public_pem
from tests.support.tokens import Tokens

EMAIL = "errors@example.com"

Refused = tuple[dict[str, Any], str]


def with_key(token: str, key: Any = None) -> Refused:
    return key_body(key or new_key(), EMAIL), token


def wrong_proof(desk: Tokens) -> Refused:
    key = new_key()
    body = key_body(key, EMAIL)
    body["publicKeyRequest"]["proofOfPossession"] = b64(prove(key, "somebody-else@example.com"))
    return body, desk.token(EMAIL)


def broken_csr(desk: Tokens) -> Refused:
    return {"certificateSigningRequest": b64(b"not a request")}, desk.token(EMAIL)


def forged_csr(desk: Tokens) -> Refused:
    lines = csr_pem(new_key()).decode().splitlines()
    swap = "B" if lines[-2][0] != "B" else "C"
    lines[-2] = swap + lines[-2][1:]
    return {"certificateSigningRequest": b64("\n".join(lines).encode())}, desk.token(EMAIL)


def short_rsa(desk: Tokens) -> Refused:
    weak = rsa.generate_private_key(65537, 1024)  # noqa: S505 - its weakness is what is tested
    return with_key(desk.token(EMAIL), weak)


def odd_curve(desk: Tokens) -> Refused:
    key = ec.generate_private_key(ec.SECP256K1())
    body = {
        "publicKeyRequest": {
            "publicKey": {"algorithm": "ECDSA", "content": public_pem(key)},
            "proofOfPossession": b64(key.sign(EMAIL.encode(), ec.ECDSA(hashes.SHA256()))),
        }
    }
    return body, desk.token(EMAIL)


def broken_key(desk: Tokens) -> Refused:
    body, token = with_key(desk.token(EMAIL))
    body["publicKeyRequest"]["publicKey"]["content"] = (
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"
    )
    return body, token


def altered(token: str) -> str:
    """The token with another payload under its old signature."""
    head, payload, signature = token.split(".")
    return f"{head}.{payload[:-2]}{'AA' if payload[-2:] != 'AA' else 'BB'}.{signature}"


def handmade(**header: object) -> Callable[[Tokens], Refused]:
    """A good token under another header; its signature is never reached."""

    def make(desk: Tokens) -> Refused:
        head, payload, signature = desk.token(EMAIL).split(".")
        known = json.loads(base64.urlsafe_b64decode(head + "=="))
        changed = {name: value for name, value in {**known, **header}.items() if value is not None}
        return with_key(f"{b64url(json.dumps(changed).encode())}.{payload}.{signature}")

    return make


def minted(**order: Any) -> Callable[[Tokens], Refused]:
    return lambda desk: with_key(desk.mint(EMAIL, **order))


@dataclass(frozen=True)
class Case:
    make: Callable[[Tokens], Refused]
    slug: str
    says: str
    expected: str
    received: str
    claim: str | None = None
    """What the sentence, and the metadata of the same names, must be like: patterns."""


TIME = r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ"
ALL_KEYS = "ecdsa-p256, ecdsa-p384, ecdsa-p521, ed25519, rsa"

CASES = {
    "another audience": Case(
        minted(audience="another"),
        "token-audience-mismatch",
        '"another"; expected "sigstore"',
        "sigstore",
        "another",
        "aud",
    ),
    "several audiences": Case(
        minted(claims={"aud": ["a", "b"]}),
        "token-audience-mismatch",
        r'\["a", "b"\]; expected "sigstore"',
        "sigstore",
        r'\["a", "b"\]',
        "aud",
    ),
    "no audience": Case(
        minted(claims={"aud": None}),
        "token-claim-missing",
        "no claim 'aud'; expected",
        "sigstore",
        "no such claim",
        "aud",
    ),
    "expired": Case(
        minted(expires_in=-60),
        "token-expired",
        f"expired at {TIME}; it is now {TIME}",
        f"later than {TIME}",
        TIME,
        "exp",
    ),
    "no expiry": Case(
        minted(claims={"exp": None}), "token-claim-missing", "no claim 'exp'", ".+", "no such claim", "exp"
    ),
    "expiry a text": Case(
        minted(claims={"exp": "soon"}),
        "token-claim-invalid",
        "'exp' must be a number of seconds, not a string",
        "a number",
        "a string",
        "exp",
    ),
    "valid in the future": Case(
        minted(claims={"nbf": 4102444800}),
        "token-not-yet-valid",
        f"'nbf' says 2100-01-01T00:00:00Z, but it is now {TIME}",
        f"no later than {TIME}",
        "2100-01-01T00:00:00Z",
        "nbf",
    ),
    "issued in the future": Case(
        minted(claims={"iat": 4102444800}),
        "token-not-yet-valid",
        f"'iat' says 2100-01-01T00:00:00Z, but it is now {TIME}",
        f"no later than {TIME}",
        "2100-01-01T00:00:00Z",
        "iat",
    ),
    "address not verified": Case(
        minted(claims={"email_verified": False}),
        "email-not-verified",
        "'email_verified' is not true; expected true",
        "true",
        "not true",
        "email_verified",
    ),
    "nothing on whether the address is verified": Case(
        minted(claims={"email_verified": None}),
        "email-not-verified",
        "'email_verified' is absent; expected true",
        "true",
        "absent",
        "email_verified",
    ),
    "no address": Case(
        minted(claims={"email": None}),
        "token-claim-missing",
        "no claim 'email'",
        "a string",
        "no such claim",
        "email",
    ),
    "two addresses": Case(
        minted(claims={"email": [EMAIL, EMAIL]}),
        "token-claim-invalid",
        "'email' must be a string, not a list",
        "a string",
        "a list",
        "email",
    ),
    "an address of no domain": Case(
        minted(claims={"email": "errors@secret"}),
        "token-claim-invalid",
        "'email' is not an e-mail address",
        "an e-mail address that a certificate can hold",
        ".*domain name of at least two labels",
        "email",
    ),
    "no subject": Case(
        minted(claims={"sub": None}),
        "token-claim-missing",
        "no claim 'sub'",
        "a string",
        "no such claim",
        "sub",
    ),
    "no issuer": Case(
        minted(claims={"iss": None}),
        "token-claim-missing",
        "no claim 'iss'",
        "an issuer URL",
        "no such claim",
        "iss",
    ),
    "unknown issuer": Case(
        minted(claims={"iss": "https://unknown.example"}),
        "token-issuer-unknown",
        'issuer "https://unknown.example" is not in',
        "an issuer that GET /api/v2/configuration lists",
        "https://unknown.example",
        "iss",
    ),
    "another algorithm": Case(
        handmade(alg="HS256"),
        "token-algorithm-refused",
        "signed with HS256; expected one of RS256",
        "RS256.*",
        "HS256",
    ),
    "not signed": Case(
        handmade(alg="none"),
        "token-algorithm-refused",
        "signed with none; expected one of RS256",
        "RS256.*",
        "none",
    ),
    "an algorithm nobody knows": Case(
        handmade(alg="secret"),
        "token-algorithm-refused",
        "an unknown algorithm; expected one of RS256",
        "RS256.*",
        "an unknown algorithm",
    ),
    "a key nobody knows": Case(
        handmade(kid="secret"),
        "token-key-unknown",
        "does not publish; expected one of the 1 keys",
        "one of the 1 keys .*",
        "another 'kid'",
    ),
    "no key": Case(handmade(kid=None), "token-key-unknown", "names no key", "'kid'", "none"),
    "altered": Case(
        lambda desk: with_key(altered(desk.token(EMAIL))), "token-", "the token|identity token", ".+", ".+"
    ),
    "no token": Case(
        lambda _: with_key(""),
        "token-missing",
        "no identity token; expected",
        "credentials.* or Authorization: Bearer",
        "none",
    ),
    "not a token": Case(
        lambda _: with_key("abc"), "token-malformed", "0 dots; expected .* 2 between", "2 dots", "0 dots"
    ),
    "wrong proof": Case(
        wrong_proof,
        "proof-invalid",
        "does not verify .* expected",
        "a signature of the public key .*",
        "another signature",
    ),
    "broken csr": Case(
        broken_csr,
        "csr-malformed",
        "Expected a PEM CERTIFICATE REQUEST",
        "a PEM CERTIFICATE REQUEST .*",
        ".+",
    ),
    "forged csr": Case(
        forged_csr,
        "proof-invalid",
        "not signed by the key it holds",
        "a signature of the request's own key",
        "another signature",
    ),
    "RSA of 1024 bits": Case(short_rsa, "public-key-refused", "1024 bits, expected 2048", ALL_KEYS, "rsa"),
    "a curve that is not listed": Case(
        odd_curve,
        "public-key-refused",
        "ecdsa on curve 1.3.132.0.10.*ecdsa-p256",
        ALL_KEYS,
        "ecdsa on curve 1.3.132.0.10",
    ),
    "broken key": Case(
        broken_key, "public-key-malformed", "expected the DER", ".*SubjectPublicKeyInfo", ".+"
    ),
    "nothing to certify": Case(
        lambda desk: ({}, desk.token(EMAIL)),
        "malformed-request",
        "must have certificateSigningRequest or publicKeyRequest",
        "certificateSigningRequest or publicKeyRequest",
        "neither",
    ),
}


def check_shape(reply: requests.Response) -> dict[str, Any]:
    """Check what every error answer has and return its ErrorInfo."""
    assert reply.headers["Content-Type"].split(";")[0] == "application/json"
    body = reply.json()
    assert set(body) == {"code", "message", "details"}
    (info,) = body["details"]
    assert info["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
    assert re.fullmatch(r"[a-z][a-z-]+", info["reason"])
    assert info["metadata"]["requestId"] == reply.headers["X-Request-Id"]
    assert len(reply.reason) <= 200
    assert re.fullmatch(r"[\x20-\x7e]+", reply.reason)
    return {**info, "code": body["code"], "message": body["message"]}


@pytest.mark.parametrize("name", sorted(CASES))
@pytest.mark.parametrize("path", ["/api/v2/signingCert"])
def test_a_refusal_says_which_check_failed(
    service: RunningService, tokens: Tokens, session: requests.Session, name: str, path: str
) -> None:
    case = CASES[name]
    body, token = case.make(tokens)
    headers = bearer(token) if token else {}
    reply = session.post(f"{service.url}{path}", json=body, headers=headers, timeout=60)
    assert reply.status_code == 400
    info = check_shape(reply)
    assert info["code"] == 3
    assert info["reason"].startswith(case.slug), info
    assert re.search(case.says, info["message"]), info
    told = info["metadata"]
    assert re.fullmatch(case.expected, told["expected"]), info
    assert re.fullmatch(case.received, told["received"]), info
    assert told.get("claim") == case.claim
    assert reply.reason[:60] == info["message"][:60].encode("ascii", "replace").decode()
    assert info["metadata"]["remedy"]
    if token.count(".") == 2:
        assert token not in reply.text
    for private in (EMAIL, "errors@", "secret"):
        assert private not in reply.text
        assert private not in reply.reason


def test_the_request_id_of_the_caller_is_kept(one_node: RunningService, session: requests.Session) -> None:
    reply = session.get(f"{one_node.url}/nowhere", headers={"X-Request-Id": "caller-0123"}, timeout=60)
    assert reply.status_code == 404
    assert check_shape(reply)["metadata"]["requestId"] == "caller-0123"


def test_a_body_that_is_too_long_is_refused(
    service: RunningService, tokens: Tokens, session: requests.Session
) -> None:
    body, token = with_key(tokens.token(EMAIL))
    body["padding"] = "x" * 70_000
    reply = session.post(f"{service.url}/api/v2/signingCert", json=body, headers=bearer(token), timeout=60)
    assert reply.status_code == 413
    assert check_shape(reply)["reason"] == "body-too-large"


def test_the_log_takes_no_submissions(service: RunningService, session: requests.Session) -> None:
    for call in ("add-chain", "add-pre-chain"):
        url = f"{service.url}/ctlog/{service.shard()}/ct/v1/{call}"
        reply = session.post(url, json={"chain": []}, timeout=60)
        assert reply.status_code == 403
        assert check_shape(reply)["reason"] == "submission-refused"


def test_a_wrong_method_is_answered_in_the_same_shape(
    service: RunningService, session: requests.Session
) -> None:
    reply = session.get(f"{service.url}/api/v2/signingCert", timeout=60)
    assert reply.status_code == 405
    assert "POST" in reply.headers["Allow"]
    check_shape(reply)
