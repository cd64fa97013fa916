"""The requests of a load: signing requests, and OCSP questions about certificates."""

import base64
import json
import urllib.parse
from collections.abc import Sequence
from hashlib import sha256

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp

from ca_service.authority.status_ports import IssuedCertificate, Selector
from ca_service.pki.authority_certificates import Authority
from ca_service.store.issued import SqlIssuedCertificates
from scripts.benchmark.server import request_bytes
from tests.support.entries import Foundation
from tests.support.issuer import LocalIssuer
from tests.support.processes import RunningService, http
from tests.support.signing import bearer, issue, key_body, new_key

_SIGNERS = 1000
"""Different tokens and keys in the load, so that no cache of either helps."""
FEW = 32
"""Different certificates asked about when cached answers are what is measured."""


def signing_requests(service: RunningService, issuer: LocalIssuer, signers: int = _SIGNERS) -> list[bytes]:
    """A signing request of each of so many signers, with tokens that hold for an hour."""
    made = []
    for number in range(signers):
        email = f"signer-{number}@example.com"
        headers = {**bearer(issuer.token(email)), "Content-Type": "application/json"}
        body = json.dumps(key_body(new_key(), email)).encode()
        made.append(request_bytes(service, "POST", "/api/v2/signingCert", headers, body))
    return made


def issue_some(service: RunningService, issuer: LocalIssuer, count: int = FEW) -> None:
    """Have a few certificates issued."""
    email = "status@example.com"
    token = issuer.token(email)
    with http() as session:
        for _ in range(count):
            issue(session, service.url, token, email)


def issued_certificates(foundation: Foundation, most: int) -> list[IssuedCertificate]:
    """What a directory's database knows of, the newest first."""
    return [found for found, _ in SqlIssuedCertificates(foundation.database).find(Selector(since=0), most)]


def ocsp_path(authority: Authority, certificate: IssuedCertificate) -> str:
    """The path that asks about a certificate by GET (RFC 6960 appendix A.1)."""
    name_hash = sha256(authority.subject_der).digest()
    point = authority.certificate.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    question = ocsp.OCSPRequestBuilder().add_certificate_by_hash(
        name_hash, sha256(point).digest(), certificate.serial, hashes.SHA256()
    )
    encoded = base64.b64encode(question.build().public_bytes(Encoding.DER)).decode()
    return f"/ocsp/{urllib.parse.quote(encoded, safe='')}"


def ocsp_requests(service: RunningService, paths: Sequence[str]) -> list[bytes]:
    """The paths as requests to a server."""
    return [request_bytes(service, "GET", path) for path in paths]
