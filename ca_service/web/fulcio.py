"""Fulcio's calls: a certificate for a token and a key, the trust bundle, and who may ask.

Both generations are here: /api/v2 (JSON, 200) for cosign 3, sigstore-python and sigstore-js, and the legacy
/api/v1 (PEM, 201) for cosign 2 and gitsign. What they share is `Issuance`.
"""

import json
from collections.abc import Callable, Generator, Sequence
from functools import lru_cache
from io import BytesIO
from time import perf_counter
from typing import TYPE_CHECKING, Protocol

from flask import Blueprint, Response, request
from werkzeug.exceptions import ClientDisconnected

from ca_service.authority.issuance import Attempt, CsrProof, IssuedChain, PublicKeyProof, Underway
from ca_service.authority.waiting import Steps
from ca_service.errors import MalformedRequest, TokenMalformed, TokenMissing
from ca_service.identity.issuers import Issuer, IssuerDirectory
from ca_service.web.bodies import read_body
from ca_service.web.messages import Message, read_message
from ca_service.web.replies import (
    CACHED_FOR_MINUTES,
    FROM_ANYWHERE,
    NEVER_CACHED,
    PEM_CHAIN,
    Headers,
    allow_any_origin,
    bytes_reply,
    json_reply,
    rate_limit_headers,
)
from ca_service.web.shortcuts import DONE, QuickReply, Shortcut, Unfinished

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


_SIGNING = "/api/v2/signingCert"
_ATTEMPT = "ca_service.attempt"


class Issues(Protocol):
    """What issues certificates: authority.issuance.Issuance."""

    def issue(
        self, token: str, key: PublicKeyProof | CsrProof, attempt: Attempt | None = None
    ) -> IssuedChain:
        """Check token and proof and return the logged certificate with its chain; raises CAError."""
        ...

    def prepare(
        self, token: str, key: PublicKeyProof | CsrProof, attempt: Attempt, done: Callable[[], None]
    ) -> Steps[Underway]:
        """The same without waiting for the log: see authority.issuance.Issuance."""
        ...

    def flush(self) -> None:
        """Let the log store what was prepared."""
        ...

    def finish(self, underway: Underway) -> Generator[None, None, IssuedChain]:
        """Release what was prepared; raises CAError."""
        ...


class Chains(Protocol):
    """What knows the chains still trusted: authority.trust.TrustMaterial."""

    def chains(self) -> Sequence[Sequence[str]]:
        """Each chain as PEM texts, the issuing certificate first and the root last."""
        ...


def blueprint(issuance: Issues, trust: Chains, issuers: Callable[[], IssuerDirectory]) -> Blueprint:
    """Serve Fulcio's API; `issuers` returns the directory of this moment (the file may be read again)."""
    calls = Blueprint("fulcio", __name__)
    allow_any_origin(calls)

    @calls.post(_SIGNING)
    def create_signing_certificate() -> Response:
        body = read_message(read_body(request))
        chain = issuance.issue(_token(body, request.headers.get("Authorization", "")), _key(body))
        # Always this, whatever Accept says: sigstore-python asks for PEM and then reads JSON.
        return json_reply(_embedded(chain), headers=_allowance(chain))

    @calls.get("/api/v2/trustBundle")
    def get_trust_bundle() -> Response:
        chains = [{"certificates": list(chain)} for chain in trust.chains()]
        return json_reply({"chains": chains}, cache=CACHED_FOR_MINUTES)

    @calls.get("/api/v2/configuration")
    def get_configuration() -> Response:
        return json_reply({"issuers": configuration(issuers())}, cache=CACHED_FOR_MINUTES)

    @calls.post("/api/v1/signingCert")
    def create_signing_certificate_legacy() -> Response:
        body = read_message(read_body(request))
        chain = issuance.issue(_bearer_token(request.headers.get("Authorization", "")), _legacy_key(body))
        # Exactly 201: cosign 2 and gitsign take no other answer.
        return bytes_reply(
            joined_pem(chain.certificates),
            PEM_CHAIN,
            status=201,
            cache=NEVER_CACHED,
            headers=_allowance(chain),
        )

    @calls.get("/api/v1/rootCert")
    def get_root_certificate() -> Response:
        return bytes_reply(chains_pem(trust), PEM_CHAIN, cache=CACHED_FOR_MINUTES)

    return calls


def shortcuts(issuance: Issues, max_body: int) -> Sequence[Shortcut]:
    """The call for a certificate, past Flask, for bodies whose length is given and at most `max_body`."""

    def answer(environ: "WSGIEnvironment") -> QuickReply | Unfinished[Underway] | None:
        length = environ.get("CONTENT_LENGTH", "")
        if not (length.isascii() and length.isdigit() and int(length) <= max_body):
            return None
        octets = environ["wsgi.input"].read(int(length))
        if len(octets) < int(length):
            raise ClientDisconnected
        # Whoever begins this request anew reads it again.
        environ["wsgi.input"] = BytesIO(octets)
        attempt = environ.setdefault(_ATTEMPT, Attempt(perf_counter()))
        body = read_message(octets)
        token, key = _token(body, environ.get("HTTP_AUTHORIZATION", "")), _key(body)
        done = environ.get(DONE)
        if done is None:
            return released(issuance.issue(token, key, attempt))
        return Unfinished(
            issuance.prepare(token, key, attempt, done),
            finish,
            issuance.flush,
            lambda each: each.ticket.withdraw(),
        )

    def finish(underway: Underway) -> Generator[None, None, QuickReply]:
        return released((yield from issuance.finish(underway)))

    def released(chain: IssuedChain) -> QuickReply:
        headers = (("Cache-Control", NEVER_CACHED), *_allowance(chain), *FROM_ANYWHERE)
        leaf, *others = chain.certificates
        body = f"{_BEFORE_LEAF}{json.dumps(leaf)}{_after_leaf(tuple(others))}"
        return QuickReply("application/json", headers, body.encode())

    return (Shortcut("POST", _SIGNING, _SIGNING, answer),)


def _embedded(chain: IssuedChain) -> object:
    return {"signedCertificateEmbeddedSct": {"chain": {"certificates": chain.certificates}}}


# What comes before and after the leaf is the same for as long as its issuer's chain: see `_embedded`.
_BEFORE_LEAF = '{"signedCertificateEmbeddedSct":{"chain":{"certificates":['


@lru_cache(maxsize=16)
def _after_leaf(others: tuple[str, ...]) -> str:
    return "".join([f",{json.dumps(each)}" for each in others]) + "]}}}"


def _allowance(chain: IssuedChain) -> Headers:
    left = chain.allowance
    return rate_limit_headers(left.limit, left.remaining, left.reset_after) if left else ()


def joined_pem(certificates: Sequence[str]) -> str:
    """Join PEM texts, one newline between them and one at the end."""
    return "".join(certificate.rstrip("\n") + "\n" for certificate in certificates)


def chains_pem(trust: Chains) -> str:
    """Join the certificates of all chains, issuing ones first, each root once and last."""
    chains = trust.chains()
    issuing = [certificate for chain in chains for certificate in chain[:-1]]
    roots = [chain[-1] for chain in chains]
    return joined_pem(list(dict.fromkeys([*issuing, *roots])))


def configuration(issuers: IssuerDirectory) -> list[dict[str, object]]:
    """List the issuers as Fulcio's OIDCIssuer messages, with the members that are empty, as Fulcio does."""
    return [_oidc_issuer(issuer) for issuer in (*issuers.issuers, *issuers.wildcards)]


def _oidc_issuer(issuer: Issuer) -> dict[str, object]:
    return {
        "wildcardIssuerUrl" if issuer.wildcard else "issuerUrl": issuer.issuer_url,
        "audience": issuer.client_id,
        "challengeClaim": issuer.challenge,
        "spiffeTrustDomain": issuer.spiffe_trust_domain,
        "issuerType": str(issuer.type),
        "subjectDomain": issuer.subject_domain,
        "skipEmailVerification": issuer.skip_email_verification,
    }


def _token(body: Message, authorization: str) -> str:
    credentials = body.message("credentials")
    # A token read from a file may end with its line, which Fulcio takes too.
    token = credentials.text("oidcIdentityToken").strip() if credentials else ""
    return _ascii(token) if token else _bearer_token(authorization)


def _bearer_token(authorization: str) -> str:
    scheme, _, token = authorization.strip().partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise TokenMissing(
            "the request carries no identity token; expected credentials.oidcIdentityToken or Authorization: "
            "Bearer",
            expected="credentials.oidcIdentityToken or Authorization: Bearer",
            received="none",
        )
    return _ascii(token.strip())


def _ascii(token: str) -> str:
    if not token.isascii():
        raise TokenMalformed(
            "the identity token must be three base64url parts joined by dots, in ASCII only",
            expected="base64url",
            received="characters that are not ASCII",
        )
    return token


def _key(body: Message) -> PublicKeyProof | CsrProof:
    public_key_request = body.message("publicKeyRequest")
    if body.has("certificateSigningRequest"):
        if public_key_request is not None:
            raise MalformedRequest(
                "send either certificateSigningRequest or publicKeyRequest, not both",
                expected="one of the two",
                received="both",
            )
        return CsrProof(body.octets("certificateSigningRequest"))
    if public_key_request is None:
        raise MalformedRequest(
            "the body must have certificateSigningRequest or publicKeyRequest",
            expected="certificateSigningRequest or publicKeyRequest",
            received="neither",
        )
    public_key = public_key_request.message("publicKey")
    content = public_key.text("content") if public_key else ""
    if public_key is None or not content:
        raise MalformedRequest(
            "publicKeyRequest.publicKey.content must hold the public key as PEM",
            member="publicKeyRequest.publicKey.content",
            expected="a public key as PEM",
            received="none",
        )
    # What is not ASCII is no PEM; the key parser says so in its own words.
    return PublicKeyProof(
        content.encode("ascii", "replace"), _required(public_key_request, "proofOfPossession")
    )


def _legacy_key(body: Message) -> PublicKeyProof | CsrProof:
    public_key = body.message("publicKey")
    if body.has("certificateSigningRequest"):
        # Go clients always send the member, empty when they mean the request.
        if public_key is not None and public_key.has("content"):
            raise MalformedRequest(
                "send either certificateSigningRequest or publicKey, not both",
                expected="one of the two",
                received="both",
            )
        return CsrProof(body.octets("certificateSigningRequest"))
    if public_key is None:
        raise MalformedRequest(
            "the body must have certificateSigningRequest or publicKey",
            expected="certificateSigningRequest or publicKey",
            received="neither",
        )
    # cosign sends base64 of PEM, gitsign base64 of DER.
    return PublicKeyProof(_required(public_key, "content"), _required(body, "signedEmailAddress"))


def _required(message: Message, member: str) -> bytes:
    octets = message.octets(member)
    if not octets:
        raise MalformedRequest(
            f"{message.name(member)} is missing; it must be base64",
            member=message.name(member),
            expected="base64",
            received="none",
        )
    return octets
