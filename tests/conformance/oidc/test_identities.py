"""From a signed token over HTTP to the octets of the certificate: every kind of identity, end to end."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from tests.conformance.oidc.asking import EMAIL, ask, facts, issued, refused
from tests.support.openid import MockIssuer, MockServer, standard_claims
from tests.support.processes import RunningService
from tests.vectors.identity import build_systems, forges, people
from tests.vectors.identity.derive import vector
from tests.vectors.identity.reading import subject_and_fulcio

CASES = {**forges.CASES, **build_systems.CASES, **people.CASES}

# The mock server's issuer that plays each provider; what else must differ for an issuer on loopback.
PLAYED_BY: dict[str, tuple[str, dict[str, str]]] = {
    "github": ("github", {}),
    "gitlab": ("gitlab", {}),
    "circleci": ("circleci", {}),
    "buddy": ("buddy", {}),
    "google": ("people", {}),
    "kubernetes": ("cluster-7", {}),
    "chainguard": ("chainguard", {"https://issuer.enforce.dev": "{issuer}"}),
    "spiffe": ("spiffe", {}),
    "uri": ("uri", {"https://app.example.co.uk": "http://127.0.0.1"}),
    "username": ("username", {"!example.com": "!127.0.0.1"}),
}


def moved(value: Any, replaced: dict[str, str]) -> Any:
    """The case with some texts replaced wherever they occur."""
    if isinstance(value, dict):
        return {key: moved(member, replaced) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [moved(member, replaced) for member in value]
    if isinstance(value, str):
        for old, new in replaced.items():
            value = value.replace(old, new)
    return value


def played(mock: MockServer, provider: str, case: dict[str, Any]) -> tuple[MockIssuer, dict[str, Any]]:
    """The issuer that plays the provider, and the vector as it must be for that issuer."""
    name, replaced = PLAYED_BY[provider]
    issuer = mock.issuer("federated" if case.get("members", {}).get("issuer-claim") else name)
    here = {old: new.format(issuer=issuer.url) for old, new in replaced.items()}
    return issuer, vector({**moved(case, here), "issuer": issuer.url})


@pytest.mark.parametrize(
    ("source", "case"),
    [
        pytest.param(provider, case, id=f"{provider}: {case['name']}")
        for provider in PLAYED_BY
        for case in CASES[provider]
    ],
)
def test_a_signed_token_becomes_the_octets_of_the_vectors(
    federation: RunningService, mock: MockServer, source: str, case: dict[str, Any]
) -> None:
    issuer, expected = played(mock, source, case)
    token = issuer.sign({**standard_claims(issuer.url), **expected["claims"]})
    if "refused" in expected:
        found = refused(federation, token, expected["refused"]["reason"])
        assert found["claim"] == expected["refused"]["claim"]
        return
    for challenge in expected["challenges"]:
        leaf = issued(federation, token, challenge).leaf.public_bytes(Encoding.DER)
        fulcio = {oid: extension["der"] for oid, extension in expected["extensions"].items()}
        assert subject_and_fulcio(leaf) == (expected["subject"]["der"], fulcio)


def test_openssl_reads_the_name_of_a_user(
    federation: RunningService, mock: MockServer, tmp_path: Path
) -> None:
    users = mock.issuer("username")
    leaf = issued(federation, users.token(sub="j.doe"), "j.doe").write(tmp_path) / "leaf.pem"
    command = ["openssl", "x509", "-in", str(leaf), "-noout", "-ext", "subjectAltName"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[0].strip() == "X509v3 Subject Alternative Name: critical"
    assert shown.splitlines()[1].strip() == "othername: 1.3.6.1.4.1.57264.1.7::j.doe!127.0.0.1"


@pytest.mark.parametrize(
    ("name", "claims"),
    [
        ("uri", {"sub": "http://127.0.0.1/users/1"}),
        ("username", {"sub": "j.doe"}),
        ("spiffe", {"sub": "spiffe://example.com/ns/prod/sa/signer"}),
        ("github", {**forges.GITHUB["claims"]}),
        ("cluster-7", {**people.EKS["claims"]}),
        ("chainguard", {"sub": "720909c9/b6461e99"}),
    ],
)
def test_a_proof_over_the_tokens_address_is_accepted_where_the_subject_is_signed(
    federation: RunningService, mock: MockServer, name: str, claims: dict[str, Any]
) -> None:
    """sigstore-js and the Go clients sign `email` whenever the token has one, whatever the issuer's type."""
    issuer = mock.issuer(name)
    bare, with_email = issuer.token(**claims), issuer.token(**claims, email=EMAIL)
    sub = claims["sub"]
    names = {
        subject_and_fulcio(issued(federation, token, challenge).leaf.public_bytes(Encoding.DER))[0]
        for token, challenge in ((bare, sub), (with_email, EMAIL))
    }
    assert len(names) == 1, "the address is no part of the name"
    # The address counts because the issuer vouches for it: no other one, and none that is not in the token.
    refused(federation, bare, "proof-invalid", EMAIL)
    refused(federation, with_email, "proof-invalid", "other@example.com")
    if name != "chainguard":
        issued(federation, with_email, sub)


def test_the_subject_is_no_proof_where_the_address_is_signed(
    federation: RunningService, mock: MockServer
) -> None:
    token = mock.issuer("people").token(email=EMAIL, email_verified=True, sub="1234")
    reply = ask(federation, token, "1234")
    facts(reply, 400, "proof-invalid")


def test_the_configuration_lists_every_issuer_as_the_file_has_it(
    federation: RunningService, issuer_file: dict[str, Any], session: Any
) -> None:
    reply = session.get(f"{federation.url}/api/v2/configuration", timeout=60)
    assert reply.status_code == 200
    expected = []
    for part, url_member in (("oidc-issuers", "issuerUrl"), ("meta-issuers", "wildcardIssuerUrl")):
        for url, members in issuer_file[part].items():
            described = {
                url_member: url,
                "audience": members["client-id"],
                "issuerType": members["type"],
                "challengeClaim": "email" if members["type"] == "email" else "sub",
                "subjectDomain": members.get("subject-domain", ""),
                "spiffeTrustDomain": members.get("spiffe-trust-domain", ""),
                "skipEmailVerification": False,
            }
            expected.append(described)
    assert reply.json() == {"issuers": expected}
