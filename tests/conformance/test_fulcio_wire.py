"""The byte shapes that Go clients send: cosign v2 and gitsign by the legacy call, cosign v3 by v2."""

import itertools
import re
from typing import Any

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from tests.support.processes import RunningService
from tests.support.signing import (
    KINDS,
    PrivateKey,
    b64,
    bearer,
    csr_pem,
    issue,
    new_key,
    prove,
    public_der,
    public_pem,
    read_chain,
)
from tests.support.tokens import TokenDesk

EMAIL = "wire@example.com"
SHA2 = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}
ISSUER_RAW = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
ISSUER_DER = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.8")


def legacy(
    session: requests.Session, service: RunningService, token: str, body: dict[str, Any]
) -> requests.Response:
    return session.post(f"{service.url}/api/v1/signingCert", json=body, headers=bearer(token), timeout=60)


def accepted(reply: requests.Response, key: PrivateKey) -> list[x509.Certificate]:
    """What cosign v2 and gitsign demand of the reply."""
    assert reply.status_code == 201, f"{reply.status_code} {reply.reason}"
    assert reply.headers["Content-Type"].startswith("application/pem-certificate-chain")
    assert not reply.headers.get("SCT")
    chain = x509.load_pem_x509_certificates(reply.content)
    assert len(chain) >= 2
    assert chain[0].public_key() == key.public_key()
    for signed, by in itertools.pairwise(chain):
        signed.verify_directly_issued_by(by)
    return chain


@pytest.mark.parametrize("kind", KINDS)
def test_cosign_v2_sends_pem_content(
    service: RunningService, tokens: TokenDesk, session: requests.Session, kind: str
) -> None:
    key = new_key(kind)
    body = {
        "publicKey": {"content": b64(public_pem(key).encode()), "algorithm": "ecdsa"},
        "signedEmailAddress": b64(prove(key, EMAIL)),
        "certificateSigningRequest": None,
    }
    accepted(legacy(session, service, tokens.token(EMAIL), body), key)


@pytest.mark.parametrize("kind", ["ecdsa-p256", "ecdsa-p384", "ecdsa-p521"])
def test_gitsign_sends_der_content_and_signs_sha256_whatever_the_curve(
    service: RunningService, tokens: TokenDesk, session: requests.Session, kind: str
) -> None:
    key = new_key(kind)
    body = {
        "publicKey": {"content": b64(public_der(key))},
        "signedEmailAddress": b64(prove(key, EMAIL, hashes.SHA256())),
        "certificateSigningRequest": None,
    }
    accepted(legacy(session, service, tokens.token(EMAIL), body), key)


def test_the_legacy_call_takes_a_signing_request(
    service: RunningService, tokens: TokenDesk, session: requests.Session
) -> None:
    key = new_key()
    reply = legacy(session, service, tokens.token(EMAIL), {"certificateSigningRequest": b64(csr_pem(key))})
    accepted(reply, key)


def test_the_legacy_root_call_gives_the_chain_that_the_leaf_has(
    service: RunningService, tokens: TokenDesk, session: requests.Session
) -> None:
    issued = issue(session, service.url, tokens.token(EMAIL), EMAIL)
    reply = session.get(f"{service.url}/api/v1/rootCert", timeout=60)
    assert reply.status_code == 200
    assert x509.load_pem_x509_certificates(reply.content) == list(issued.chain[1:])
    bundle = session.get(f"{service.url}/api/v2/trustBundle", timeout=60).json()
    pems = bundle["chains"][0]["certificates"]
    assert [x509.load_pem_x509_certificate(pem.encode()) for pem in pems] == list(issued.chain[1:])


@pytest.mark.parametrize("kind", KINDS)
def test_v2_takes_a_public_key_of_every_kind(
    service: RunningService, tokens: TokenDesk, session: requests.Session, kind: str
) -> None:
    key = new_key(kind)
    issued = issue(session, service.url, tokens.token(EMAIL), EMAIL, key)
    assert issued.leaf.public_key() == key.public_key()


CSRS = [
    *[(kind, name) for kind in KINDS if kind != "ed25519" for name in SHA2],
    ("ed25519", "none"),
]


@pytest.mark.parametrize(("kind", "hash_name"), CSRS)
def test_v2_takes_a_signing_request_of_every_kind_and_hash(
    service: RunningService, tokens: TokenDesk, session: requests.Session, kind: str, hash_name: str
) -> None:
    key = new_key(kind)
    reply = session.post(
        f"{service.url}/api/v2/signingCert",
        json={"certificateSigningRequest": b64(csr_pem(key, SHA2.get(hash_name)))},
        headers={**bearer(tokens.token(EMAIL)), "Accept": "application/pem-certificate-chain"},
        timeout=60,
    )
    assert read_chain(reply)[0].public_key() == key.public_key()


def snake(name: str) -> str:
    return re.sub(r"[A-Z]", lambda letter: "_" + letter.group().lower(), name)


def snake_members(value: Any) -> Any:
    if isinstance(value, dict):
        return {snake(name): snake_members(member) for name, member in value.items()}
    return value


@pytest.mark.parametrize("spelling", ["lowerCamel", "snake_case"])
@pytest.mark.parametrize("padded", [True, False])
def test_v2_reads_protobuf_json_as_it_comes(
    service: RunningService, tokens: TokenDesk, session: requests.Session, spelling: str, padded: bool
) -> None:
    """Either spelling, padded base64 or not, unknown members ignored, credentials in the body."""
    key = new_key()
    proof = b64(prove(key, EMAIL))
    body: dict[str, Any] = {
        "credentials": {"oidcIdentityToken": tokens.token(EMAIL)},
        "publicKeyRequest": {
            "publicKey": {"algorithm": "RSA", "content": public_pem(key)},
            "proofOfPossession": proof if padded else proof.rstrip("="),
        },
        "somethingNewer": {"a": [1]},
    }
    if spelling == "snake_case":
        body = snake_members(body)
    reply = session.post(f"{service.url}/api/v2/signingCert", json=body, timeout=60)
    assert read_chain(reply)[0].public_key() == key.public_key()


def test_the_leaf_has_the_profile_that_all_clients_accept(
    service: RunningService, tokens: TokenDesk, session: requests.Session
) -> None:
    leaf = issue(session, service.url, tokens.token(EMAIL), EMAIL).leaf
    critical = {extension.oid: extension.critical for extension in leaf.extensions}
    assert leaf.version is x509.Version.v3
    assert list(leaf.subject) == []
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.RFC822Name(EMAIL)]
    assert critical[ExtensionOID.SUBJECT_ALTERNATIVE_NAME]
    assert critical[ExtensionOID.KEY_USAGE]
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CODE_SIGNING]
    assert [oid for oid, is_critical in critical.items() if is_critical] == [
        oid for oid in critical if oid in (ExtensionOID.KEY_USAGE, ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
    ]
    issuer = f"{service.url}/dev-idp".encode()
    raw = leaf.extensions.get_extension_for_oid(ISSUER_RAW).value
    encoded = leaf.extensions.get_extension_for_oid(ISSUER_DER).value
    assert isinstance(raw, x509.UnrecognizedExtension)
    assert isinstance(encoded, x509.UnrecognizedExtension)
    assert raw.value == issuer
    assert encoded.value == bytes([0x0C, len(issuer)]) + issuer
    assert (leaf.not_valid_after_utc - leaf.not_valid_before_utc).total_seconds() == 600
    assert leaf.extensions[len(critical) - 1].oid == ExtensionOID.PRECERT_SIGNED_CERTIFICATE_TIMESTAMPS
