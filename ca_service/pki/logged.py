"""Reading back what was logged: the leaf's own bytes, and of its TBSCertificate what other records repeat.

Written for a million in a row: only what `profile` writes is understood, and everything else is a ValueError.
"""

import calendar
import hashlib
from dataclasses import dataclass
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from ca_service.pki import der
from ca_service.pki.extensions import FULCIO_OIDS, USERNAME_OTHER_NAME
from ca_service.pki.profile import with_last_extension
from ca_service.pki.sct import POISON
from ca_service.vocabulary import SubjectKind

_LEAF_START = b"\x00\x00"  # v1, timestamped_entry
_PRECERT_ENTRY = b"\x00\x01"
_KEY_HASH, _TBS_LENGTH, _TBS = 12, 44, 47
"""Where issuer_key_hash, the length of the TBSCertificate and itself begin in a leaf (RFC 6962 §3.4)."""

_POISON = der.extension(POISON, der.NULL, critical=True)
_ALTERNATIVE_NAME = der.oid("2.5.29.17")
_AUTHORITY_KEY = der.oid("2.5.29.35")
_DISTRIBUTION_POINTS = der.oid("2.5.29.31")
_OIDC_ISSUER = der.oid(FULCIO_OIDS["issuer"])
_OTHER_NAME = der.oid(USERNAME_OTHER_NAME)
_UTC_TIME_OCTETS, _FIRST_CENTURY = 13, 50


@dataclass(frozen=True, slots=True)
class LoggedLeaf:
    """A MerkleTreeLeaf of a precertificate, taken apart; `timestamp` in milliseconds."""

    timestamp: int
    issuer_key_hash: bytes
    tbs: bytes
    leaf_index: int


@dataclass(frozen=True, slots=True)
class LoggedCertificate:
    """What a TBSCertificate says; times are seconds since 1970, `authority_key` and `key_sha256` are hex."""

    serial: int
    not_before: int
    not_after: int
    key_sha256: str
    subject_kind: str
    subject: str
    authority_key: str
    crl_url: str
    oidc_issuer: str


def read_leaf(leaf: bytes) -> LoggedLeaf:
    """Take a precertificate's MerkleTreeLeaf with a leaf_index extension apart; raises ValueError."""
    if leaf[:2] != _LEAF_START or leaf[10:12] != _PRECERT_ENTRY:
        raise ValueError("it is not a MerkleTreeLeaf of version 1 with a precert_entry")
    end = _TBS + int.from_bytes(leaf[_TBS_LENGTH:_TBS], "big")
    if leaf[end:-5] != b"\x00\x08\x00\x00\x05":
        raise ValueError("after its TBSCertificate there is not exactly the leaf_index extension")
    return LoggedLeaf(
        int.from_bytes(leaf[2:10], "big"),
        leaf[_KEY_HASH:_TBS_LENGTH],
        leaf[_TBS:end],
        int.from_bytes(leaf[-5:], "big"),
    )


def read_certificate(tbs: bytes) -> LoggedCertificate:
    """Read a TBSCertificate that `profile` wrote; raises ValueError for anything else."""
    try:
        return _read_certificate(tbs)
    except IndexError:
        raise ValueError("its DER is cut short") from None


def _read_certificate(tbs: bytes) -> LoggedCertificate:
    _, place = _bounds(tbs, _bounds(tbs, 0)[0])  # version
    start, place = _bounds(tbs, place)
    serial = int.from_bytes(tbs[start:place], "big")
    _, place = _bounds(tbs, place)  # signature algorithm
    _, place = _bounds(tbs, place)  # issuer
    start, place = _bounds(tbs, place)
    _, before = _bounds(tbs, start)
    not_before, not_after = _seconds(tbs[start:before]), _seconds(tbs[before:place])
    _, key = _bounds(tbs, place)  # subject
    _, end = _bounds(tbs, key)
    key_sha256 = hashlib.sha256(tbs[key:end]).hexdigest()
    start, stop = _bounds(tbs, end)
    if tbs[end] != 0xA3 or stop != len(tbs):
        raise ValueError("its last member is not the extensions")
    place, stop = _bounds(tbs, start)
    kind = subject = authority_key = crl_url = oidc_issuer = ""
    while place < stop:
        start, end = _bounds(tbs, place)
        _, value = _bounds(tbs, start)
        oid = tbs[start:value]
        if oid == _ALTERNATIVE_NAME:
            kind, subject = _subject(_value(tbs[value:end]))
        elif oid == _AUTHORITY_KEY:
            authority_key = _authority_key(tbs[value:end])
        elif oid == _DISTRIBUTION_POINTS:
            crl_url = _crl_url(tbs[value:end])
        elif oid == _OIDC_ISSUER:
            oidc_issuer = _text(tbs[value:end])
        place = end
    if not kind:
        raise ValueError("it has no alternative name")
    return LoggedCertificate(
        serial, not_before, not_after, key_sha256, kind, subject, authority_key, crl_url, oidc_issuer
    )


def _bounds(data: bytes, place: int) -> tuple[int, int]:
    """Where the content of the value at `place` begins and ends; quicker than `der.header`, and not strict.

    Raises IndexError where the bytes end.
    """
    size, start = data[place + 1], place + 2
    if size >= 0x80:
        octets = size & 0x7F
        size = int.from_bytes(data[start : start + octets], "big")
        start += octets
    return start, start + size


def verify_precertificate(precertificate: bytes, tbs: bytes, public_key: PublicKeyTypes) -> None:
    """Check that a precertificate is this TBSCertificate with a poison, signed by this key (RFC 6962 §3.1).

    Raises ValueError, with a sentence, when it is not.
    """
    start = der.header(precertificate)[1]
    end = der.header(precertificate, start)[2]
    poisoned = precertificate[start:end]
    if poisoned != with_last_extension(tbs, _POISON):
        raise ValueError("it is not the logged TBSCertificate with a poison")
    algorithm = der.header(precertificate, end)[2]
    signature = der.only(precertificate[algorithm:], der.BIT_STRING)[1:]
    try:
        if isinstance(public_key, ec.EllipticCurvePublicKey):
            large = public_key.curve.name == "secp384r1"
            public_key.verify(signature, poisoned, ec.ECDSA(hashes.SHA384() if large else hashes.SHA256()))
        elif isinstance(public_key, rsa.RSAPublicKey):
            public_key.verify(signature, poisoned, padding.PKCS1v15(), hashes.SHA256())
        else:
            raise ValueError("the issuing certificate's key is neither ECDSA nor RSA")  # noqa: TRY004 - data, not a bug
    except InvalidSignature:
        raise ValueError("its signature does not verify with the issuing certificate's key") from None


def _seconds(time: bytes) -> int:
    digits = time[2:-1].decode("ascii")
    if len(digits) + 1 == _UTC_TIME_OCTETS:
        digits = ("20" if int(digits[:2]) < _FIRST_CENTURY else "19") + digits
    return _midnight(digits[:8]) + int(digits[8:10]) * 3600 + int(digits[10:12]) * 60 + int(digits[12:])


@lru_cache(maxsize=64)
def _midnight(day: str) -> int:
    return calendar.timegm((int(day[:4]), int(day[4:6]), int(day[6:]), 0, 0, 0))


def _value(rest: bytes) -> bytes:
    """What an Extension's OCTET STRING holds, given all that follows its OID."""
    tag, start, end = der.header(rest)
    if tag != der.OCTET_STRING:  # critical, before it
        _, start, end = der.header(rest, end)
    return rest[start:end]


def _subject(names: bytes) -> tuple[str, str]:
    _, place, stop = der.header(names)
    tag, start, end = der.header(names, place)
    if end != stop:
        raise ValueError("it has not exactly one alternative name")
    if tag == 0x81:
        return SubjectKind.EMAIL.value, names[start:end].decode("ascii")
    if tag == 0x86:
        return SubjectKind.URI.value, names[start:end].decode("ascii")
    if tag == 0xA0 and names.startswith(_OTHER_NAME, start):
        text = der.only(der.only(names[start + len(_OTHER_NAME) : end], 0xA0), 0x0C)
        return SubjectKind.USERNAME.value, text.decode()
    raise ValueError("its alternative name is of a form that this service does not issue")


@lru_cache(maxsize=64)
def _authority_key(rest: bytes) -> str:
    return der.only(der.only(_value(rest), der.SEQUENCE), 0x80).hex()


@lru_cache(maxsize=1024)
def _crl_url(rest: bytes) -> str:
    point = der.only(der.only(_value(rest), der.SEQUENCE), der.SEQUENCE)
    return der.only(der.only(der.only(point, 0xA0), 0xA0), 0x86).decode("ascii")


@lru_cache(maxsize=256)
def _text(rest: bytes) -> str:
    return der.only(_value(rest), 0x0C).decode()
