"""OCSP responses, written by hand: `cryptography` cannot write singleExtensions (RFC 6960 §4.2).

archiveCutoff and invalidityDate are singleExtensions. Which answer a certificate gets is not decided here.
"""

import enum
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca_service.pki import der
from ca_service.pki.authority_certificates import Authority
from ca_service.pki.keys import spki_der, subject_public_key
from ca_service.pki.ocsp_request import NONCE, CertId
from ca_service.pki.signatures import SigningKey, algorithm_identifier, sign

_BASIC_RESPONSE = der.oid("1.3.6.1.5.5.7.48.1.1")
_ARCHIVE_CUTOFF = "1.3.6.1.5.5.7.48.1.6"
_INVALIDITY_DATE = "2.5.29.24"
_GOOD = b"\x80\x00"
_UNKNOWN = b"\x82\x00"


class CertStatus(enum.Enum):
    """What a response says of a certificate (RFC 6960 §2.2)."""

    GOOD = "good"
    REVOKED = "revoked"
    UNKNOWN = "unknown"


class ErrorStatus(enum.IntEnum):
    """Why a request got no answer (RFC 6960 §4.2.1)."""

    MALFORMED_REQUEST = 1
    INTERNAL_ERROR = 2
    TRY_LATER = 3
    SIG_REQUIRED = 5
    UNAUTHORIZED = 6


@dataclass(frozen=True, slots=True)
class SingleAnswer:
    """What to say of one CertID. Times are seconds since 1970, or datetimes with a zone.

    `revocation_date` and `reason` (a CRLReason number, RFC 5280 §5.3.1) belong to the status revoked.
    """

    cert_id: CertId
    status: CertStatus
    this_update: datetime | int
    next_update: datetime | int
    revocation_date: datetime | int | None = None
    reason: int = 0

    def __post_init__(self) -> None:
        """Refuse, with ValueError, a revocation without its date and a date without revocation."""
        if (self.status is CertStatus.REVOKED) != (self.revocation_date is not None):
            raise ValueError("the status revoked goes with a revocation date, and only that status does")


@dataclass(frozen=True, eq=False)
class DelegatedSigner:
    """A responder with its own certificate (EKU OCSPSigning), sent in every response (RFC 6960 §4.2.2.2)."""

    certificate: x509.Certificate
    private_key: SigningKey

    @cached_property
    def responder_key_hash(self) -> bytes:
        """SHA-1 of its public key's bits (RFC 6960 §4.2.1)."""
        bits = subject_public_key(spki_der(self.certificate.public_key()))
        return hashlib.sha1(bits, usedforsecurity=False).digest()

    @cached_property
    def not_after(self) -> datetime:
        """When its certificate ends: no answer may hold longer."""
        return self.certificate.not_valid_after_utc

    @cached_property
    def certificate_der(self) -> bytes:
        """Its certificate, which whoever reads an answer needs."""
        return self.certificate.public_bytes(Encoding.DER)


Signer: TypeAlias = Authority | DelegatedSigner
"""Who may sign answers: the authority that issued, or whom it certified for that."""


def build_response(
    signer: Signer,
    answers: Sequence[SingleAnswer],
    *,
    produced_at: datetime | int,
    nonce: bytes | None,
    archive_cutoff: datetime | int | None,
) -> bytes:
    """Build and sign a successful response and return its DER; the responder is named by key.

    The signer's certificate is in it, an authority's own too: some verifiers (GnuTLS) look for it nowhere
    else.

    `nonce` repeats the request's. `archive_cutoff` goes into each answer that is not unknown, and
    invalidityDate, equal to the revocation date, into each revoked one. Times are seconds since 1970 or
    datetimes with a zone; they come out in whole seconds.
    """
    cutoff = (
        b""
        if archive_cutoff is None
        else der.extension(_ARCHIVE_CUTOFF, der.generalized_time(archive_cutoff))
    )
    data = der.sequence(
        der.explicit(2, der.octet_string(signer.responder_key_hash)),
        der.generalized_time(produced_at),
        der.sequence(*(_single(answer, cutoff) for answer in answers)),
        b""
        if nonce is None
        else der.explicit(1, der.sequence(der.extension(NONCE, der.octet_string(nonce)))),
    )
    key = signer.private_key
    certificate = signer.certificate_der if isinstance(signer, DelegatedSigner) else signer.chain_der[0]
    basic = der.sequence(
        data,
        algorithm_identifier(key),
        der.bit_string(sign(key, data)),
        der.explicit(0, der.sequence(certificate)),
    )
    response = der.explicit(0, der.sequence(_BASIC_RESPONSE, der.octet_string(basic)))
    return der.sequence(b"\x0a\x01\x00", response)


def error_response(status: int) -> bytes:
    """The unsigned response that says only why there is no answer: an ErrorStatus (RFC 6960 §4.2.1)."""
    return der.sequence(der.tlv(0x0A, bytes((ErrorStatus(status),))))


def _single(answer: SingleAnswer, cutoff: bytes) -> bytes:
    status, extensions = _UNKNOWN, b""
    if answer.status is CertStatus.GOOD:
        status, extensions = _GOOD, cutoff
    elif answer.revocation_date is not None:
        date = der.generalized_time(answer.revocation_date)
        reason = der.explicit(0, der.tlv(0x0A, bytes((answer.reason,)))) if answer.reason else b""
        status = der.explicit(1, date + reason)
        extensions = cutoff + der.extension(_INVALIDITY_DATE, date)
    return der.sequence(
        answer.cert_id.der,
        status,
        der.generalized_time(answer.this_update),
        der.explicit(0, der.generalized_time(answer.next_update)),
        der.explicit(1, der.sequence(extensions)) if extensions else b"",
    )
