"""Asking by OCSP, and judging the answer: who signed it, for which certificate, how old (RFC 6960)."""

import os
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from ca_service.cli import fetching
from ca_service.cli.verdicts import (
    SKEW,
    Question,
    Verdict,
    check_memory,
    check_times,
    generalized_time,
    reason_label,
)
from ca_service.pki.keys import spki_der, subject_public_key

_ARCHIVE_CUTOFF = x509.ObjectIdentifier("1.3.6.1.5.5.7.48.1.6")


def ask_ocsp(question: Question, url: str, now: datetime, remarks: tuple[str, ...]) -> Verdict:
    """Ask with a fresh nonce; raises ValueError with what is wrong, requests.RequestException."""
    name_hash, key_hash = _issuer_hashes(question.issuer)
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
    _check_signature(answer, question.issuer, now)
    for extension in answer.extensions:
        if isinstance(extension.value, x509.OCSPNonce) and extension.value.nonce != nonce:
            raise ValueError("the answer is to somebody else's question (another nonce)")
    singles = list(answer.responses)
    for single in singles:
        asked = (question.serial, name_hash, key_hash)
        if (single.serial_number, single.issuer_name_hash, single.issuer_key_hash) == asked:
            break
    else:
        raise ValueError("the answer is about another certificate")
    next_update = check_times(single.this_update_utc, single.next_update_utc, now)
    if single.certificate_status is ocsp.OCSPCertStatus.GOOD:
        check_memory(question, _remembers_since(answer) if len(singles) == 1 else None, now)
    revoked = single.certificate_status is ocsp.OCSPCertStatus.REVOKED
    return Verdict(
        status=single.certificate_status.name.lower(),
        source="ocsp",
        url=url,
        this_update=single.this_update_utc,
        next_update=next_update,
        revocation_date=single.revocation_time_utc if revoked else None,
        reason=reason_label(single.revocation_reason) if revoked else None,
        remarks=remarks,
    )


def _check_signature(answer: ocsp.OCSPResponse, issuer: x509.Certificate, now: datetime) -> None:
    """Accept the issuing key itself, or a delegate that it certified for OCSP (RFC 6960 §4.2.2.2)."""
    # Nothing signs the enclosed certificates as a whole, so an altered one shows by itself alone.
    if any(each != issuer and each.public_key() == issuer.public_key() for each in answer.certificates):
        raise ValueError("the answer encloses an altered certificate of the authority")
    signers = [issuer, *(each for each in answer.certificates if _is_delegate(each, issuer, now))]
    for signer in signers:
        try:
            _verify(signer, answer.signature, answer.tbs_response_bytes, answer.signature_hash_algorithm)
        except InvalidSignature:
            continue
        return
    raise ValueError("the answer is not signed by the authority, nor by a delegate of it that is valid now")


def _is_delegate(certificate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        # Without it one would have to ask for the delegate's own status first (§4.2.2.2.1).
        certificate.extensions.get_extension_for_class(x509.OCSPNoCheck)
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    in_time = certificate.not_valid_before_utc - SKEW <= now <= certificate.not_valid_after_utc
    return ExtendedKeyUsageOID.OCSP_SIGNING in usage and in_time


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


def _remembers_since(answer: ocsp.OCSPResponse) -> datetime | None:
    for extension in answer.single_extensions:
        if extension.oid == _ARCHIVE_CUTOFF:
            return generalized_time(extension.value.public_bytes())
    return None


def _issuer_hashes(issuer: x509.Certificate) -> tuple[bytes, bytes]:
    def digest(content: bytes) -> bytes:
        one = hashes.Hash(hashes.SHA256())
        one.update(content)
        return one.finalize()

    key = subject_public_key(spki_der(issuer.public_key()))
    return digest(issuer.subject.public_bytes()), digest(key)
