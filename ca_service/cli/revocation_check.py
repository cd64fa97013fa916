"""Asking for a certificate's status as a verifier does: OCSP, then the CRL, and nothing believed unsigned.

The answers come over plain http, so each is checked: who signed it, for which certificate, how old it is.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import requests
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from ca_service.cli import fetching
from ca_service.errors import StatusUnanswered
from ca_service.pki.keys import spki_der, subject_public_key
from ca_service.vocabulary import RevocationReason, Serial

_SKEW = timedelta(minutes=5)
_LONGEST_CHAIN = 4


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verified answer says: status is good, revoked or unknown; `source` is ocsp or crl."""

    status: str
    source: str
    url: str
    this_update: datetime
    next_update: datetime
    revocation_date: datetime | None = None
    reason: str | None = None
    remarks: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Question:
    """Which certificate of which issuing certificate, and where to ask."""

    serial: Serial
    issuer: x509.Certificate
    ocsp_url: str | None
    crl_url: str | None


def question_of(certificate: x509.Certificate, issuer: x509.Certificate) -> Question:
    """The question about a certificate, at the addresses that it names itself."""
    return Question(
        Serial(certificate.serial_number), issuer, _ocsp_address(certificate), _crl_address(certificate)
    )


def ask(question: Question, now: datetime) -> Verdict:
    """Ask OCSP, and the CRL when that gives no trustworthy answer.

    Raises StatusUnanswered with what was wrong at each address.
    """
    troubles: list[str] = []
    for url, way, name in (
        (question.ocsp_url, _ask_ocsp, "OCSP"),
        (question.crl_url, _ask_crl, "CRL"),
    ):
        if url is None:
            troubles.append(f"{name}: no address is known")
            continue
        verdict = _tried(way, question, url, now, f"{name} at {url}", troubles)
        if verdict is not None:
            return verdict
    raise StatusUnanswered("no trustworthy answer. " + "; ".join(troubles))


def _tried(
    way: Callable[[Question, str, datetime, tuple[str, ...]], Verdict],
    question: Question,
    url: str,
    now: datetime,
    name: str,
    troubles: list[str],
) -> Verdict | None:
    try:
        return way(question, url, now, tuple(troubles))
    except requests.RequestException as error:
        troubles.append(f"{name}: {type(error).__name__}")
    except ValueError as error:
        troubles.append(f"{name}: {error}")
    return None


# -- OCSP (RFC 6960) -------------------------------------------------------------------------------


def _ask_ocsp(question: Question, url: str, now: datetime, remarks: tuple[str, ...]) -> Verdict:
    name_hash, key_hash = _issuer_hashes(question.issuer, hashes.SHA256())
    nonce = os.urandom(16)
    request = (
        ocsp.OCSPRequestBuilder()
        .add_certificate_by_hash(name_hash, key_hash, question.serial, hashes.SHA256())
        .add_extension(x509.OCSPNonce(nonce), critical=False)
        .build()
    )
    body = fetching.fetch(url, request.public_bytes(Encoding.DER), "application/ocsp-request")
    answer = ocsp.load_der_ocsp_response(body)
    if answer.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        raise ValueError(f"the responder said {answer.response_status.name.lower()}")
    _check_ocsp_signature(answer, question.issuer, now)
    for extension in answer.extensions:
        if isinstance(extension.value, x509.OCSPNonce) and extension.value.nonce != nonce:
            raise ValueError("the answer is to somebody else's question (another nonce)")
    for single in answer.responses:
        asked = (question.serial, name_hash, key_hash)
        if (single.serial_number, single.issuer_name_hash, single.issuer_key_hash) == asked:
            break
    else:
        raise ValueError("the answer is about another certificate")
    next_update = _check_times(single.this_update_utc, single.next_update_utc, now)
    revoked = single.certificate_status is ocsp.OCSPCertStatus.REVOKED
    return Verdict(
        status=single.certificate_status.name.lower(),
        source="ocsp",
        url=url,
        this_update=single.this_update_utc,
        next_update=next_update,
        revocation_date=single.revocation_time_utc if revoked else None,
        reason=_reason(single.revocation_reason) if revoked else None,
        remarks=remarks,
    )


def _check_ocsp_signature(answer: ocsp.OCSPResponse, issuer: x509.Certificate, now: datetime) -> None:
    """Accept the issuing key itself, or a delegate that it certified for OCSP (RFC 6960 §4.2.2.2)."""
    signers = [issuer]
    for delegate in answer.certificates:
        try:
            delegate.verify_directly_issued_by(issuer)
            usage = delegate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
            continue
        in_time = delegate.not_valid_before_utc - _SKEW <= now <= delegate.not_valid_after_utc
        if ExtendedKeyUsageOID.OCSP_SIGNING in usage and in_time:
            signers.append(delegate)
    for signer in signers:
        try:
            _verify(signer, answer.signature, answer.tbs_response_bytes, answer.signature_hash_algorithm)
        except InvalidSignature:
            continue
        return
    raise ValueError("the answer is not signed by the authority")


def _verify(
    signer: x509.Certificate, signature: bytes, message: bytes, algorithm: hashes.HashAlgorithm | None
) -> None:
    key = signer.public_key()
    if not isinstance(algorithm, hashes.SHA256 | hashes.SHA384 | hashes.SHA512):
        raise InvalidSignature
    if isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, message, ec.ECDSA(algorithm))
    elif isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, message, padding.PKCS1v15(), algorithm)
    else:
        raise InvalidSignature


def _issuer_hashes(issuer: x509.Certificate, algorithm: hashes.HashAlgorithm) -> tuple[bytes, bytes]:
    def digest(content: bytes) -> bytes:
        one = hashes.Hash(algorithm)
        one.update(content)
        return one.finalize()

    key = subject_public_key(spki_der(issuer.public_key()))
    return digest(issuer.subject.public_bytes()), digest(key)


# -- CRL (RFC 5280) --------------------------------------------------------------------------------


def _ask_crl(question: Question, url: str, now: datetime, remarks: tuple[str, ...]) -> Verdict:
    crl = x509.load_der_x509_crl(fetching.fetch(url))
    if crl.issuer != question.issuer.subject or not _signed_by(crl, question.issuer):
        raise ValueError("the list is not signed by the authority")
    _check_scope(crl, url)
    next_update = _check_times(crl.last_update_utc, crl.next_update_utc, now)
    entry = crl.get_revoked_certificate_by_serial_number(question.serial)
    reason = None
    if entry is not None:
        try:
            reason = _reason(entry.extensions.get_extension_for_class(x509.CRLReason).value.reason)
        except x509.ExtensionNotFound:
            reason = RevocationReason.UNSPECIFIED.label
    return Verdict(
        status="good" if entry is None else "revoked",
        source="crl",
        url=url,
        this_update=crl.last_update_utc,
        next_update=next_update,
        revocation_date=None if entry is None else entry.revocation_date_utc,
        reason=reason,
        remarks=remarks,
    )


def _signed_by(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    key = issuer.public_key()
    return isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey) and crl.is_signature_valid(key)


def _check_scope(crl: x509.CertificateRevocationList, url: str) -> None:
    """A shard speaks only for certificates that name it (RFC 5280 §5.2.5); another one proves nothing."""
    for extension in crl.extensions:
        value = extension.value
        if isinstance(value, x509.IssuingDistributionPoint):
            names = [name.value for name in value.full_name or []]
            if url not in names or value.only_some_reasons or value.indirect_crl:
                raise ValueError("the list is for other certificates")
        elif extension.critical:
            raise ValueError(f"the list has an unknown critical extension ({extension.oid.dotted_string})")


# -- both ------------------------------------------------------------------------------------------


def _check_times(this_update: datetime, next_update: datetime | None, now: datetime) -> datetime:
    if this_update > now + _SKEW:
        raise ValueError("the answer is from the future; check this machine's clock")
    if next_update is None or next_update < now:
        raise ValueError("the answer is out of date")
    return next_update


def _reason(flag: x509.ReasonFlags | None) -> str:
    return RevocationReason.UNSPECIFIED.label if flag is None else str(flag.value)


def _ocsp_address(certificate: x509.Certificate) -> str | None:
    return _access_address(certificate, AuthorityInformationAccessOID.OCSP)


def _ca_issuers_address(certificate: x509.Certificate) -> str | None:
    return _access_address(certificate, AuthorityInformationAccessOID.CA_ISSUERS)


def _access_address(certificate: x509.Certificate, method: x509.ObjectIdentifier) -> str | None:
    try:
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except x509.ExtensionNotFound:
        return None
    return next((str(one.access_location.value) for one in access if one.access_method == method), None)


def _crl_address(certificate: x509.Certificate) -> str | None:
    try:
        points = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    except x509.ExtensionNotFound:
        return None
    return next((str(name.value) for point in points for name in point.full_name or []), None)


def fetch_chain(certificate: x509.Certificate) -> list[x509.Certificate]:
    """Fetch the authority that a certificate names by caIssuers, and that one's, up to the root.

    Raises StatusUnanswered when the first cannot be had; a missing root only shortens the chain.
    """
    chain: list[x509.Certificate] = []
    url = _ca_issuers_address(certificate)
    while url is not None and len(chain) < _LONGEST_CHAIN:
        try:
            fetched = x509.load_der_x509_certificate(fetching.fetch(url))
        except (requests.RequestException, ValueError) as error:
            if chain:
                break
            raise StatusUnanswered(
                f"the certificate's authority could not be had from {url}: {error}"
            ) from error
        chain.append(fetched)
        url = None if fetched.subject == fetched.issuer else _ca_issuers_address(fetched)
    if not chain:
        raise StatusUnanswered("the certificate does not say where its authority's certificate is")
    return chain
