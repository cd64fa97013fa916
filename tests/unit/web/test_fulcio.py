"""Fulcio's calls: what stock clients send is understood, and what nobody should send is named."""

import base64
from typing import Any

import pytest
from flask.testing import FlaskClient

from ca_service.authority.issuance import CsrProof, PublicKeyProof
from ca_service.errors import IdentityBlocked, LogBusy
from tests.unit.web.conftest import World

TOKEN = "aaa.bbb.ccc"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
PEM = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"
PROOF = bytes([251, 255, 254, 0])
CSR = b"-----BEGIN CERTIFICATE REQUEST-----\n"

V2, V1 = "/api/v2/signingCert", "/api/v1/signingCert"


def b64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


def public_key_request(**changes: Any) -> dict[str, Any]:
    return {"publicKey": {"algorithm": "ECDSA", "content": PEM}, "proofOfPossession": b64(PROOF), **changes}


def test_sigstore_js_sends_token_and_key_in_the_body(client: FlaskClient, world: World) -> None:
    reply = client.post(
        V2, json={"credentials": {"oidcIdentityToken": TOKEN}, "publicKeyRequest": public_key_request()}
    )
    assert reply.status_code == 200
    assert reply.content_type == "application/json"
    assert reply.get_json() == {
        "signedCertificateEmbeddedSct": {"chain": {"certificates": list(world.issuance.chain)}}
    }
    assert reply.headers["Cache-Control"] == "no-store"
    assert world.issuance.asked == [(TOKEN, PublicKeyProof(PEM.encode(), PROOF))]


def test_sigstore_python_sends_a_csr_and_a_header_and_gets_json_although_it_accepts_pem(
    client: FlaskClient, world: World
) -> None:
    headers = {**BEARER, "Accept": "application/pem-certificate-chain"}
    reply = client.post(V2, json={"certificateSigningRequest": b64(CSR)}, headers=headers)
    assert (reply.status_code, reply.content_type) == (200, "application/json")
    assert world.issuance.asked == [(TOKEN, CsrProof(CSR))]


def test_cosign_2_and_gitsign_use_the_legacy_call(client: FlaskClient, world: World) -> None:
    body = {
        "publicKey": {"content": b64(b"\x30\x59der"), "algorithm": "ecdsa"},
        "signedEmailAddress": b64(PROOF),
        "certificateSigningRequest": None,
    }
    reply = client.post(V1, json=body, headers=BEARER)
    assert reply.status_code == 201
    assert reply.content_type == "application/pem-certificate-chain"
    assert reply.text == "".join(world.issuance.chain)
    assert "SCT" not in reply.headers
    assert world.issuance.asked == [(TOKEN, PublicKeyProof(b"\x30\x59der", PROOF))]


def test_the_legacy_call_takes_a_csr_beside_the_empty_key_that_go_clients_send(
    client: FlaskClient, world: World
) -> None:
    body = {"publicKey": {"content": None}, "signedEmailAddress": None, "certificateSigningRequest": b64(CSR)}
    assert client.post(V1, json=body, headers=BEARER).status_code == 201
    assert world.issuance.asked == [(TOKEN, CsrProof(CSR))]


@pytest.mark.parametrize(
    "body",
    [
        {"public_key_request": {"public_key": {"content": PEM}, "proof_of_possession": b64(PROOF)}},
        {"publicKeyRequest": public_key_request(proofOfPossession=base64.urlsafe_b64encode(PROOF).decode())},
        {"publicKeyRequest": public_key_request(proofOfPossession=b64(PROOF).rstrip("="))},
        {"publicKeyRequest": public_key_request(), "certificateSigningRequest": None},
        {"publicKeyRequest": public_key_request(), "certificateSigningRequest": ""},
        {"publicKeyRequest": public_key_request(), "credentials": None},
        {"publicKeyRequest": public_key_request(), "credentials": {"oidcIdentityToken": ""}},
        {"publicKeyRequest": public_key_request(), "unknownMember": {"deep": [1, None]}},
        {"publicKeyRequest": {**public_key_request(), "publicKey": {"algorithm": 7, "content": PEM}}},
    ],
    ids=[
        "snake",
        "urlsafe",
        "unpadded",
        "null",
        "default",
        "no-token",
        "empty-token",
        "unknown",
        "algorithm",
    ],
)
def test_protobufs_json_mapping_is_followed(client: FlaskClient, world: World, body: dict[str, Any]) -> None:
    reply = client.post(V2, json=body, headers=BEARER)
    assert reply.status_code == 200, reply.text
    assert world.issuance.asked == [(TOKEN, PublicKeyProof(PEM.encode(), PROOF))]


def test_a_token_that_was_read_from_a_file_may_end_with_its_line(client: FlaskClient, world: World) -> None:
    body = {"credentials": {"oidcIdentityToken": f" {TOKEN}\r\n"}, "publicKeyRequest": public_key_request()}
    assert client.post(V2, json=body).status_code == 200
    assert world.issuance.asked[0][0] == TOKEN


def test_the_tokens_place_in_the_body_wins_over_the_header(client: FlaskClient, world: World) -> None:
    body = {"credentials": {"oidc_identity_token": "x.y.z"}, "publicKeyRequest": public_key_request()}
    client.post(V2, json=body, headers=BEARER)
    assert world.issuance.asked[0][0] == "x.y.z"


def test_the_scheme_of_the_header_may_be_in_any_case(client: FlaskClient, world: World) -> None:
    client.post(
        V2, json={"publicKeyRequest": public_key_request()}, headers={"Authorization": f"bearer  {TOKEN} "}
    )
    assert world.issuance.asked[0][0] == TOKEN


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer  ", "Basic dTpw", TOKEN])
def test_a_missing_token_is_said_to_be_missing(client: FlaskClient, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    reply = client.post(V2, json={"publicKeyRequest": public_key_request()}, headers=headers)
    assert reply.status_code == 400
    assert reply.get_json()["details"][0]["reason"] == "token-missing"


@pytest.mark.parametrize("token", ["a.\u00e9.c", "a.\ud800.c", "\u0661.b.c"])
def test_a_token_that_is_not_ascii_goes_no_further(client: FlaskClient, world: World, token: str) -> None:
    body = {"credentials": {"oidcIdentityToken": token}, "publicKeyRequest": public_key_request()}
    reply = client.post(V2, json=body)
    assert reply.get_json()["details"][0]["reason"] == "token-malformed"
    assert world.issuance.asked == []


def test_a_key_with_a_lone_surrogate_is_left_to_the_key_parser(client: FlaskClient, world: World) -> None:
    body = {"publicKeyRequest": {"publicKey": {"content": "\ud800"}, "proofOfPossession": "AAAA"}}
    assert client.post(V2, json=body, headers=BEARER).status_code == 200
    assert world.issuance.asked == [(TOKEN, PublicKeyProof(b"?", b"\0\0\0"))]


def test_a_refusal_of_the_authority_keeps_its_sentence_and_reason(client: FlaskClient, world: World) -> None:
    world.issuance.trouble = IdentityBlocked("this identity is blocked since 2026-11-01")
    for path, body in [
        (V2, {"publicKeyRequest": public_key_request()}),
        (V1, {"certificateSigningRequest": "AAAA"}),
    ]:
        reply = client.post(path, json=body, headers=BEARER)
        assert reply.status == "400 this identity is blocked since 2026-11-01"
        assert reply.get_json()["details"][0]["reason"] == "identity-blocked"


def test_a_busy_log_says_when_to_come_again(client: FlaskClient, world: World) -> None:
    world.issuance.trouble = LogBusy("1024 certificates are waiting", retry_after=2)
    reply = client.post(V2, json={"publicKeyRequest": public_key_request()}, headers=BEARER)
    assert reply.status_code == 503
    assert reply.headers["Retry-After"] == "2"
    assert reply.get_json()["code"] == 14


def test_the_trust_bundle_has_the_chain_without_a_leaf(client: FlaskClient, world: World) -> None:
    assert client.get("/api/v2/trustBundle").get_json() == {
        "chains": [{"certificates": world.trust.chains()[0]}]
    }


def test_the_legacy_root_call_gives_issuing_certificate_and_root(client: FlaskClient, world: World) -> None:
    reply = client.get("/api/v1/rootCert")
    assert reply.content_type == "application/pem-certificate-chain"
    assert reply.text == world.authority.chain_pem


def test_the_configuration_lists_every_issuer_with_its_challenge(client: FlaskClient) -> None:
    assert client.get("/api/v2/configuration").get_json()["issuers"] == [
        {
            "issuerUrl": "https://accounts.example.com",
            "audience": "sigstore",
            "challengeClaim": "email",
            "spiffeTrustDomain": "",
            "issuerType": "email",
            "subjectDomain": "",
            "skipEmailVerification": False,
        },
        {
            "issuerUrl": "https://spiffe.example.com",
            "audience": "sigstore",
            "challengeClaim": "sub",
            "spiffeTrustDomain": "example.com",
            "issuerType": "spiffe",
            "subjectDomain": "",
            "skipEmailVerification": False,
        },
        {
            "issuerUrl": "https://users.example.com",
            "audience": "other",
            "challengeClaim": "sub",
            "spiffeTrustDomain": "",
            "issuerType": "email",
            "subjectDomain": "",
            "skipEmailVerification": True,
        },
        {
            "wildcardIssuerUrl": "https://oidc.*.example.com/id/*",
            "audience": "sigstore",
            "challengeClaim": "sub",
            "spiffeTrustDomain": "",
            "issuerType": "kubernetes",
            "subjectDomain": "",
            "skipEmailVerification": False,
        },
    ]


def test_pages_of_any_origin_may_call(client: FlaskClient) -> None:
    preflight = client.options(
        V2, headers={"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    )
    assert preflight.status_code == 200
    assert preflight.headers["Access-Control-Allow-Origin"] == "*"
    assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
    assert "Authorization" in preflight.headers["Access-Control-Allow-Headers"]
    refused = client.post(V2, json={})
    assert refused.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in refused.headers
