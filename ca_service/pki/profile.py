"""The leaf's profile: precertificate and certificate, signed by the authority's key once each.

The TBSCertificate is written by hand, in a third of CertificateBuilder's time; a property test holds it to
that builder's. Poison and SCT list are its last extension, so that apart from these both certificates say
the same, byte for byte (RFC 6962 §3.2).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from ca_service.errors import ConfigurationError, TokenClaimInvalid
from ca_service.pki import der
from ca_service.pki.authority_certificates import Authority
from ca_service.pki.extensions import USERNAME_OTHER_NAME, encode
from ca_service.pki.keys import KEY_ID_OCTETS, key_identifier
from ca_service.pki.sct import POISON, SCT_LIST
from ca_service.pki.signatures import algorithm_identifier, signed
from ca_service.vocabulary import Serial, SubjectKind, SubjectName

_SERIAL_BITS = 159
_VERSION_3 = der.explicit(0, der.integer(2))


@dataclass(frozen=True, slots=True)
class LeafProfile:
    """What a leaf says: `spki` is DER, `extensions` are Fulcio's by name, times are floored to the second."""

    spki: bytes
    subject: SubjectName
    extensions: Mapping[str, str]
    serial: Serial
    not_before: datetime
    not_after: datetime
    ocsp_url: str
    ca_issuers_url: str
    crl_url: str


@dataclass(frozen=True, slots=True)
class Precertificate:
    """A signed precertificate: its DER, and its TBSCertificate without the poison, as it is logged.

    `before` are the TBSCertificate's members up to the extensions, `extensions` these without their frame.
    """

    der: bytes
    tbs: bytes
    before: bytes
    extensions: bytes


def build_precertificate(authority: Authority, leaf: LeafProfile) -> Precertificate:
    """Build and sign a leaf's precertificate; one signature by the authority's key (RFC 6962 §3.1).

    Raises TokenClaimInvalid for a subject or extension that a certificate cannot carry, ConfigurationError
    for an extension name Fulcio does not know, or when the leaf would outlive the issuing certificate.
    """
    if leaf.not_after > authority.not_after:
        raise ConfigurationError(
            f"The issuing certificate ends at {authority.not_after:%Y-%m-%d %H:%M:%SZ}, before the leaf it "
            "is asked "
            f"for ({leaf.not_after.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}). Rotate to a new issuing "
            "certificate.",
        )
    extensions = b"".join(
        [
            _USAGES,
            _BEFORE_KEY_IDENTIFIER,
            key_identifier(leaf.spki),
            _authority_key_identifier(authority.subject_key_identifier),
            der.extension("2.5.29.17", der.sequence(_general_name(leaf.subject)), critical=True),
            _status_addresses(leaf.ocsp_url, leaf.ca_issuers_url, leaf.crl_url),
            *[_fulcio_extension(oid, value) for oid, value in encode(leaf.extensions)],
        ]
    )
    before = b"".join(
        (
            _VERSION_3,
            der.integer(leaf.serial),
            algorithm_identifier(authority.private_key),
            authority.subject_der,
            _validity(leaf.not_before, leaf.not_after),
            der.EMPTY_SEQUENCE,  # no subject: the identity is the alternative name alone
            leaf.spki,
        )
    )
    poisoned = signed(authority.private_key, _tbs(before, extensions, _POISON))
    return Precertificate(poisoned, _tbs(before, extensions), before, extensions)


def build_certificate(authority: Authority, precertificate: Precertificate, sct_list: bytes) -> bytes:
    """Sign the certificate of a precertificate and return its DER; one signature by the authority's key.

    `sct_list` is the TLS SignedCertificateTimestampList (RFC 6962 §3.3).
    """
    scts = der.extension(SCT_LIST, der.octet_string(sct_list))
    return signed(authority.private_key, _tbs(precertificate.before, precertificate.extensions, scts))


def _tbs(before: bytes, extensions: bytes, last: bytes = b"") -> bytes:
    return der.sequence(before, der.explicit(3, der.sequence(extensions, last)))


def random_serial(random_bytes: Callable[[int], bytes]) -> Serial:
    """A serial of 159 random bits: positive and at most 20 octets (RFC 5280 §4.1.2.2)."""
    while True:
        number = int.from_bytes(random_bytes(20), "big") >> 160 - _SERIAL_BITS
        if number:
            return Serial(number)


def with_last_extension(tbs: bytes, extension: bytes) -> bytes:
    """Put one more Extension at the end of a TBSCertificate that has some; both are DER."""
    _, start, _ = der.header(tbs)
    child, tag, content = start, 0, start
    while tag != 0xA3:  # extensions [3], the last member (RFC 5280 §4.1)
        before = child
        tag, content, child = der.header(tbs, before)
    _, extensions, _ = der.header(tbs, content)
    return der.sequence(tbs[start:before], der.explicit(3, der.sequence(tbs[extensions:], extension)))


_KEY_USAGE = der.extension("2.5.29.15", b"\x03\x02\x07\x80", critical=True)  # digitalSignature
_EXTENDED_KEY_USAGE = der.extension("2.5.29.37", der.sequence(der.oid("1.3.6.1.5.5.7.3.3")))  # codeSigning
_USAGES = _KEY_USAGE + _EXTENDED_KEY_USAGE
_BEFORE_KEY_IDENTIFIER = der.extension("2.5.29.14", der.octet_string(bytes(KEY_ID_OCTETS)))[:-KEY_ID_OCTETS]
_POISON = der.extension(POISON, der.NULL, critical=True)


@lru_cache(maxsize=64)
def _validity(not_before: datetime, not_after: datetime) -> bytes:
    return der.sequence(der.time(not_before), der.time(not_after))


@lru_cache(maxsize=1024)
def _status_addresses(ocsp_url: str, ca_issuers_url: str, crl_url: str) -> bytes:
    return _information_access(ocsp_url, ca_issuers_url) + _distribution_point(crl_url)


@lru_cache(maxsize=1024)
def _fulcio_extension(oid: str, value: bytes) -> bytes:
    """Cached: of what an issuer's tokens say, much is the same in all of them."""
    return der.extension(oid, value)


@lru_cache(maxsize=16)
def _authority_key_identifier(subject_key_identifier: bytes) -> bytes:
    return der.extension("2.5.29.35", der.sequence(der.tlv(0x80, subject_key_identifier)))


def _information_access(ocsp_url: str, ca_issuers_url: str) -> bytes:
    ocsp = der.sequence(der.oid("1.3.6.1.5.5.7.48.1"), _uri(ocsp_url))
    ca_issuers = der.sequence(der.oid("1.3.6.1.5.5.7.48.2"), _uri(ca_issuers_url))
    return der.extension("1.3.6.1.5.5.7.1.1", der.sequence(ocsp, ca_issuers))


def _distribution_point(crl_url: str) -> bytes:
    full_name = der.explicit(0, der.explicit(0, _uri(crl_url)))
    return der.extension("2.5.29.31", der.sequence(der.sequence(full_name)))


def _uri(url: str) -> bytes:
    return der.tlv(0x86, url.encode("ascii"))


def _general_name(subject: SubjectName) -> bytes:
    """The GeneralName of RFC 5280 §4.2.1.6; e-mail and URI are IA5String, a user name Fulcio's otherName."""
    text = subject.value
    if not text or not text.isprintable() or not (text.isascii() or subject.kind is SubjectKind.USERNAME):
        raise TokenClaimInvalid(
            f"The identity of kind {subject.kind.value} cannot stand in a certificate: expected printable "
            f"{'text' if subject.kind is SubjectKind.USERNAME else 'ASCII text'}, and the token's is empty "
            "or has "
            "other characters. Use an identity that is.",
            kind=subject.kind.value,
        )
    match subject.kind:
        case SubjectKind.EMAIL:
            return der.tlv(0x81, text.encode("ascii"))
        case SubjectKind.URI:
            return _uri(text)
        case SubjectKind.USERNAME:
            return der.tlv(0xA0, der.oid(USERNAME_OTHER_NAME) + der.explicit(0, der.utf8_string(text)))
