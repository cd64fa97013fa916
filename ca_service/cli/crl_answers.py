"""Judging a CRL: whose it is, for which certificates, how old, and what it says of one (RFC 5280)."""

from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from ca_service.cli.verdicts import (
    Question,
    Verdict,
    check_memory,
    check_times,
    generalized_time,
    reason_label,
)
from ca_service.vocabulary import RevocationReason

_EXPIRED_CERTS_ON_CRL = x509.ObjectIdentifier("2.5.29.60")


def judge_crl(
    content: bytes, question: Question, url: str, now: datetime, remarks: tuple[str, ...]
) -> Verdict:
    """The verdict of a CRL (DER) that is said to be that of `url`; raises ValueError with what is wrong."""
    crl = x509.load_der_x509_crl(content)
    if crl.issuer != question.issuer.subject or not _signed_by(crl, question.issuer):
        raise ValueError("the list is not signed by the authority")
    _check_scope(crl, url)
    next_update = check_times(crl.last_update_utc, crl.next_update_utc, now)
    entry = crl.get_revoked_certificate_by_serial_number(question.serial)
    if entry is None:
        check_memory(question, _remembers_since(crl), now)
    return Verdict(
        status="good" if entry is None else "revoked",
        source="crl",
        url=url,
        this_update=crl.last_update_utc,
        next_update=next_update,
        revocation_date=None if entry is None else entry.revocation_date_utc,
        reason=None if entry is None else _reason(entry),
        remarks=remarks,
    )


def crl_number(content: bytes) -> int:
    """The number of a CRL (DER); raises ValueError when it has none."""
    try:
        crl = x509.load_der_x509_crl(content)
        return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        raise ValueError("the list has no number") from None


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


def _remembers_since(crl: x509.CertificateRevocationList) -> datetime | None:
    for extension in crl.extensions:
        if extension.oid == _EXPIRED_CERTS_ON_CRL:
            return generalized_time(extension.value.public_bytes())
    return None


def _reason(entry: x509.RevokedCertificate) -> str:
    try:
        return reason_label(entry.extensions.get_extension_for_class(x509.CRLReason).value.reason)
    except x509.ExtensionNotFound:
        return RevocationReason.UNSPECIFIED.label
