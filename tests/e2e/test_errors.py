"""Every refusal names the failed check in body and reason phrase, with a stable slug and the request id."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import requests
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.support.processes import RunningService
from tests.support.signing import b64, bearer, csr_pem, key_body, new_key, prove, public_pem
from tests.support.tokens import TokenDesk

EMAIL = "errors@example.com"

Refused = tuple[dict[str, Any], str]


def with_key(token: str, key: Any = None) -> Refused:
    return key_body(key or new_key(), EMAIL), token


def wrong_proof(desk: TokenDesk) -> Refused:
    key = new_key()
    body = key_body(key, EMAIL)
    body["publicKeyRequest"]["proofOfPossession"] = b64(prove(key, "somebody-else@example.com"))
    return body, desk.token(EMAIL)


def broken_csr(desk: TokenDesk) -> Refused:
    return {"certificateSigningRequest": b64(b"not a request")}, desk.token(EMAIL)


def forged_csr(desk: TokenDesk) -> Refused:
    lines = csr_pem(new_key()).decode().splitlines()
    swap = "B" if lines[-2][0] != "B" else "C"
    lines[-2] = swap + lines[-2][1:]
    return {"certificateSigningRequest": b64("\n".join(lines).encode())}, desk.token(EMAIL)


def short_rsa(desk: TokenDesk) -> Refused:
    weak = rsa.generate_private_key(65537, 1024)  # noqa: S505 - its weakness is what is tested
    return with_key(desk.token(EMAIL), weak)


def odd_curve(desk: TokenDesk) -> Refused:
    key = ec.generate_private_key(ec.SECP256K1())
    body = {
        "publicKeyRequest": {
            "publicKey": {"algorithm": "ECDSA", "content": public_pem(key)},
            "proofOfPossession": b64(key.sign(EMAIL.encode(), ec.ECDSA(hashes.SHA256()))),
        }
    }
    return body, desk.token(EMAIL)


def broken_key(desk: TokenDesk) -> Refused:
    body, token = with_key(desk.token(EMAIL))
    body["publicKeyRequest"]["publicKey"]["content"] = (
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"
    )
    return body, token


def altered(token: str) -> str:
    """The token with another payload under its old signature."""
    head, payload, signature = token.split(".")
    return f"{head}.{payload[:-2]}{'AA' if payload[-2:] != 'AA' else 'BB'}.{signature}"


@dataclass(frozen=True)
class Case:
    make: Callable[[TokenDesk], Refused]
    slug: str
    says: str
    """A word the sentence must have: what a person needs to mend it."""


CASES = {
    "another audience": Case(
        lambda desk: with_key(desk.mint(EMAIL, audience="another")), "token-audience-mismatch", "another"
    ),
    "expired": Case(lambda desk: with_key(desk.mint(EMAIL, expires_in=-60)), "token-expired", "exp"),
    "from the future": Case(
        lambda desk: with_key(desk.mint(EMAIL, claims={"nbf": 4102444800})), "token-not-yet-valid", "nbf"
    ),
    "address not verified": Case(
        lambda desk: with_key(desk.mint(EMAIL, claims={"email_verified": False})),
        "email-not-verified",
        "email_verified",
    ),
    "no address": Case(
        lambda desk: with_key(desk.mint(EMAIL, claims={"email": None})), "token-claim-missing", "email"
    ),
    "unknown issuer": Case(
        lambda desk: with_key(desk.mint(EMAIL, claims={"iss": "https://unknown.example"})),
        "token-issuer-unknown",
        "issuer",
    ),
    "altered": Case(lambda desk: with_key(altered(desk.token(EMAIL))), "token-", "token"),
    "no token": Case(lambda _: with_key(""), "token-missing", "token"),
    "not a token": Case(lambda _: with_key("abc"), "token-malformed", "dots"),
    "wrong proof": Case(wrong_proof, "proof-invalid", "email"),
    "broken csr": Case(broken_csr, "csr-malformed", "PEM"),
    "forged csr": Case(forged_csr, "proof-invalid", "not signed"),
    "RSA of 1024 bits": Case(short_rsa, "public-key-refused", "1024"),
    "a curve that is not listed": Case(odd_curve, "public-key-refused", "ecdsa-p256"),
    "broken key": Case(broken_key, "public-key-malformed", "key"),
    "nothing to certify": Case(lambda desk: ({}, desk.token(EMAIL)), "malformed-request", "publicKeyRequest"),
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
    service: RunningService, tokens: TokenDesk, session: requests.Session, name: str, path: str
) -> None:
    case = CASES[name]
    body, token = case.make(tokens)
    headers = bearer(token) if token else {}
    reply = session.post(f"{service.url}{path}", json=body, headers=headers, timeout=30)
    assert reply.status_code == 400
    info = check_shape(reply)
    assert info["code"] == 3
    assert info["reason"].startswith(case.slug), info
    assert case.says.lower() in info["message"].lower(), info
    assert reply.reason[:60] == info["message"][:60].encode("ascii", "replace").decode()
    assert info["metadata"]["remedy"]
    if token.count(".") == 2:
        assert token not in reply.text
    assert EMAIL not in reply.text


def test_the_request_id_of_the_caller_is_kept(service: RunningService, session: requests.Session) -> None:
    reply = session.get(f"{service.url}/nowhere", headers={"X-Request-Id": "caller-0123"}, timeout=10)
    assert reply.status_code == 404
    assert check_shape(reply)["metadata"]["requestId"] == "caller-0123"


def test_a_body_that_is_too_long_is_refused(
    service: RunningService, tokens: TokenDesk, session: requests.Session
) -> None:
    body, token = with_key(tokens.token(EMAIL))
    body["padding"] = "x" * 70_000
    reply = session.post(f"{service.url}/api/v2/signingCert", json=body, headers=bearer(token), timeout=10)
    assert reply.status_code == 413
    assert check_shape(reply)["reason"] == "body-too-large"


def test_the_log_takes_no_submissions(service: RunningService, session: requests.Session) -> None:
    for call in ("add-chain", "add-pre-chain"):
        url = f"{service.url}/ctlog/{service.shard()}/ct/v1/{call}"
        reply = session.post(url, json={"chain": []}, timeout=10)
        assert reply.status_code == 403
        assert check_shape(reply)["reason"] == "submission-refused"


def test_a_wrong_method_is_answered_in_the_same_shape(
    service: RunningService, session: requests.Session
) -> None:
    reply = session.get(f"{service.url}/api/v2/signingCert", timeout=10)
    assert reply.status_code == 405
    assert "POST" in reply.headers["Allow"]
    check_shape(reply)
