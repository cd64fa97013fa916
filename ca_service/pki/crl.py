"""Certificate revocation lists: shards by hand-written DER, many thousand entries at once, and the root's.

Dates follow the code-signing rules: `revocationDate` is the moment from which signatures are not to be
trusted, and invalidityDate equals it (CA/Browser Forum code-signing requirements 7.2.2).
"""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from cryptography import x509

from ca_service.pki import der
from ca_service.pki.authority_certificates import Authority
from ca_service.pki.signatures import SigningKey, algorithm_identifier, signed
from ca_service.vocabulary import Serial

_VERSION_2 = der.integer(1)
_NUMBER = "2.5.29.20"
_EXPLICIT_0 = 0xA0
_DAY = 86_400
_CLOCK = tuple(b"%02d%02d%02dZ" % (s // 3600, s // 60 % 60, s % 60) for s in range(_DAY))


class Entry(NamedTuple):
    """One revoked certificate: the date in seconds since 1970, the reason as CRLReason (RFC 5280 §5.3.1)."""

    serial: Serial
    revocation_date: int
    reason: int


def build_crl(
    authority: Authority,
    revocations: Iterable[Entry],
    *,
    number: int,
    this_update: datetime,
    next_update: datetime,
    url: str | None,
    expired_since: datetime | None,
) -> bytes:
    """Build and sign a CRL of this authority and return its DER (RFC 5280 §5); entries keep their order.

    With `url`, it is the shard that leaves name by that URL: a critical IDP says so, with
    onlyContainsUserCerts. `expired_since` is the earliest notAfter of certificates that stay listed after
    their end (X.509 expiredCertsOnCRL). `number` must rise with every CRL of the same scope.
    """
    extensions = [*_extensions(authority.subject_key_identifier, number)]
    if url is not None:
        extensions.append(_issuing_distribution_point(url))
    if expired_since is not None:
        extensions.append(der.extension("2.5.29.60", der.generalized_time(expired_since)))
    return _build(
        authority.private_key,
        authority.subject_der,
        _entries(revocations),
        this_update,
        next_update,
        extensions,
    )


def resign_crl(
    authority: Authority, crl_der: bytes, *, number: int, this_update: datetime, next_update: datetime
) -> bytes:
    """Sign a CRL of this authority again with another number and other times, and return its DER.

    Entries and all else stay, octet for octet, so its cost hardly depends on how long the list is. Raises
    ValueError when it is not one that `build_crl` made and this authority signed.
    """
    # Only what this key vouched for before is signed again.
    verify_crl(crl_der, authority.certificate)
    tbs = next(der.elements(der.only(crl_der, der.SEQUENCE)))
    version, algorithm, issuer, _, _, *entries, wrapped = (member.der for member in der.elements(tbs.content))
    extensions = [each.der for each in der.elements(der.only(der.only(wrapped, _EXPLICIT_0), der.SEQUENCE))]
    numbered = [der.only(each, der.SEQUENCE).startswith(der.oid(_NUMBER)) for each in extensions]
    if version != _VERSION_2 or algorithm != algorithm_identifier(authority.private_key) or not any(numbered):
        raise ValueError("the CRL is not of the form that this service gives it")
    extensions[numbered.index(True)] = der.extension(_NUMBER, der.integer(number))
    return _assembled(authority.private_key, issuer, b"".join(entries), this_update, next_update, extensions)


def build_root_crl(
    root_certificate: x509.Certificate,
    root_key: SigningKey,
    *,
    number: int,
    this_update: datetime,
    next_update: datetime,
    revocations: Iterable[Entry] = (),
) -> bytes:
    """Build and sign the root's CRL and return its DER; its entries are issuing certificates, mostly none."""
    ski = root_certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    return _build(
        root_key,
        root_certificate.subject.public_bytes(),
        _entries(revocations),
        this_update,
        next_update,
        _extensions(ski, number),
    )


def verify_crl(
    crl_der: bytes, issuer_certificate: x509.Certificate, *, url: str | None = None
) -> x509.CertificateRevocationList:
    """Check that this certificate's key signed a CRL, and return it parsed; its times are not judged.

    With `url`, its IDP must name that distribution point, or another shard could be put in its place.
    Raises ValueError, with a sentence, for broken DER, another issuer, a bad signature or another shard.
    """
    crl = x509.load_der_x509_crl(crl_der)
    if crl.issuer.public_bytes() != issuer_certificate.subject.public_bytes():
        raise ValueError(f"the CRL is of {crl.issuer.rfc4514_string()!r}, another issuer")
    if not crl.is_signature_valid(issuer_certificate.public_key()):  # type: ignore[arg-type] # raises TypeError for DH
        raise ValueError("the CRL's signature does not verify with the issuer's key")
    if url is not None and url not in _named_points(crl):
        raise ValueError(
            f"the CRL is not the one of {url}: its issuing distribution point does not name that URL"
        )
    return crl


def _named_points(crl: x509.CertificateRevocationList) -> list[str]:
    try:
        point = crl.extensions.get_extension_for_class(x509.IssuingDistributionPoint).value
    except x509.ExtensionNotFound:
        return []
    return [name.value for name in point.full_name or () if isinstance(name, x509.UniformResourceIdentifier)]


def _extensions(subject_key_identifier: bytes, number: int) -> list[bytes]:
    return [
        der.extension("2.5.29.35", der.sequence(der.tlv(0x80, subject_key_identifier))),
        der.extension(_NUMBER, der.integer(number)),
    ]


def _issuing_distribution_point(url: str) -> bytes:
    full_name = der.explicit(0, der.explicit(0, der.tlv(0x86, url.encode("ascii"))))
    only_user_certificates = b"\x81\x01\xff"
    return der.extension("2.5.29.28", der.sequence(full_name, only_user_certificates), critical=True)


def _build(
    key: SigningKey,
    issuer: bytes,
    entries: bytes,
    this_update: datetime,
    next_update: datetime,
    extensions: list[bytes],
) -> bytes:
    # Without entries the list itself is left out (RFC 5280 §5.1.2.6).
    listed = der.tlv(der.SEQUENCE, entries) if entries else b""
    return _assembled(key, issuer, listed, this_update, next_update, extensions)


def _assembled(
    key: SigningKey,
    issuer: bytes,
    revoked: bytes,
    this_update: datetime,
    next_update: datetime,
    extensions: list[bytes],
) -> bytes:
    tbs = der.sequence(
        _VERSION_2,
        algorithm_identifier(key),
        issuer,
        der.time(this_update),
        der.time(next_update),
        revoked,
        der.explicit(0, der.sequence(*extensions)),
    )
    return signed(key, tbs)


def _entries(revocations: Iterable[Entry]) -> bytes:
    """The content of revokedCertificates: serial, date, reasonCode unless unspecified, invalidityDate.

    What repeats is made once: a day's digits, and what stands between the two dates, by reason.
    """
    days: dict[int, tuple[bytes, bytes]] = {}
    middles: dict[int, bytes] = {}
    parts: list[bytes] = []
    append = parts.append
    for serial, date, reason in revocations:
        day, second = divmod(date, _DAY)
        if (stems := days.get(day)) is None:
            stems = days[day] = _stems(day)
        if (middle := middles.get(reason)) is None:
            middle = middles[reason] = _middle(reason)
        clock = _CLOCK[second]
        octets = serial.to_bytes(serial.bit_length() // 8 + 1, "big")
        size = len(octets)
        date_der, day_digits = stems
        # All lengths stay below 128: a serial has at most 21 octets here, what follows it at most 57.
        whole = 2 + size + len(date_der) + len(middle) + len(day_digits) + 2 * len(clock)
        append(
            b"%c%c\x02%c%b%b%b%b%b%b"
            % (0x30, whole, size, octets, date_der, clock, middle, day_digits, clock)
        )
    return b"".join(parts)


def _stems(day: int) -> tuple[bytes, bytes]:
    """A revocationDate up to its day, and the digits of the day: YYYYMMDD."""
    date = der.time(day * _DAY)
    return date[: -len(_CLOCK[0])], der.generalized_time(day * _DAY)[2:10]


def _middle(reason: int) -> bytes:
    """What stands between an entry's revocationDate and the day of its invalidityDate."""
    code = b"\x30\x0a\x06\x03\x55\x1d\x15\x04\x03\x0a\x01" + bytes((reason,)) if reason else b""
    invalidity_octets = 26
    return (
        bytes((0x30, len(code) + invalidity_octets)) + code + b"\x30\x18\x06\x03\x55\x1d\x18\x04\x11\x18\x0f"
    )
