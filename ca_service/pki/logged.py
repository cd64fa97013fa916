"""Reading back what was logged: the leaf's own bytes, and of its TBSCertificate what other records repeat.

Written for a million in a row, where each call counts: only what `profile` writes is understood, and
everything else is a ValueError.
"""

import calendar
import hashlib
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from ca_service.pki import der
from ca_service.pki.extensions import FULCIO_OIDS, USERNAME_OTHER_NAME
from ca_service.pki.sct import POISON
from ca_service.vocabulary import SubjectKind

_LEAF_START = b"\x00\x00"  # v1, timestamped_entry
_PRECERT_ENTRY = b"\x00\x01"
_LEAF_INDEX = b"\x00\x08\x00\x00\x05"
_KEY_HASH, _TBS_LENGTH, _TBS = 12, 44, 47
"""Where issuer_key_hash, the length of the TBSCertificate and itself begin in a leaf (RFC 6962 §3.4)."""

_POISON = der.extension(POISON, der.NULL, critical=True)
_EXTENSIONS = 0xA3
_ALTERNATIVE_NAME = der.oid("2.5.29.17")
_AUTHORITY_KEY = der.oid("2.5.29.35")
_DISTRIBUTION_POINTS = der.oid("2.5.29.31")
_OIDC_ISSUER = der.oid(FULCIO_OIDS["issuer"])
_OTHER_NAME = der.oid(USERNAME_OTHER_NAME)
_UTC_TIME_OCTETS, _FIRST_CENTURY = 13, 50

VerifySignature = Callable[[bytes, bytes], None]
"""Checks a signature over a message; raises ValueError when it does not verify."""


class LoggedLeaf(NamedTuple):
    """A MerkleTreeLeaf of a precertificate, taken apart; `timestamp` in milliseconds."""

    timestamp: int
    issuer_key_hash: bytes
    tbs: bytes
    leaf_index: int


class LoggedCertificate(NamedTuple):
    """What a TBSCertificate says; times are seconds since 1970, `authority_key` is hex.

    `serial` is as few octets as hold it, `algorithm` the DER AlgorithmIdentifier of the signature, and
    `extensions` is where in the TBSCertificate its last member, the extensions, begins.
    """

    serial: bytes
    not_before: int
    not_after: int
    key_sha256: bytes
    subject_kind: str
    subject: str
    authority_key: str
    crl_url: str
    oidc_issuer: str
    algorithm: bytes
    extensions: int


def read_leaf(leaf: bytes) -> LoggedLeaf:
    """Take a precertificate's MerkleTreeLeaf with a leaf_index extension apart; raises ValueError."""
    if leaf[:2] != _LEAF_START or leaf[10:12] != _PRECERT_ENTRY:
        raise ValueError("it is not a MerkleTreeLeaf of version 1 with a precert_entry")
    end = _TBS + int.from_bytes(leaf[_TBS_LENGTH:_TBS], "big")
    if leaf[end:-5] != _LEAF_INDEX:
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
    start, signed = _bounds(tbs, place)
    serial = tbs[start:signed] if tbs[start] else tbs[start + 1 : signed]
    _, place = _bounds(tbs, signed)
    algorithm = tbs[signed:place]
    _, place = _bounds(tbs, place)  # issuer
    start, place = _bounds(tbs, place)
    not_before, not_after = _validity(tbs[start:place])
    _, key = _bounds(tbs, place)  # subject
    _, extensions = _bounds(tbs, key)
    start, stop = _bounds(tbs, extensions)
    if tbs[extensions] != _EXTENSIONS or stop != len(tbs):
        raise ValueError("its last member is not the extensions")
    place, stop = _bounds(tbs, start)
    kind = subject = authority_key = crl_url = oidc_issuer = ""
    while place < stop:
        # As `_bounds`, but a call for each of many extensions would take longer than all else here.
        size, start = tbs[place + 1], place + 2
        if size >= 0x80:
            start, place = _bounds(tbs, place)
        else:
            place = start + size
        value = start + 2 + tbs[start + 1]
        oid = tbs[start:value]
        if oid == _ALTERNATIVE_NAME:
            kind, subject = _subject(tbs[value:place])
        elif oid == _AUTHORITY_KEY:
            authority_key = _authority_key(tbs[value:place])
        elif oid == _DISTRIBUTION_POINTS:
            crl_url = _crl_url(tbs[value:place])
        elif oid == _OIDC_ISSUER:
            oidc_issuer = _text(tbs[value:place])
    if not kind:
        raise ValueError("it has no alternative name")
    key_sha256 = hashlib.sha256(tbs[key:extensions]).digest()
    return LoggedCertificate(
        serial,
        not_before,
        not_after,
        key_sha256,
        kind,
        subject,
        authority_key,
        crl_url,
        oidc_issuer,
        algorithm,
        extensions,
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


def poisoned(tbs: bytes, extensions: int) -> bytes:
    """The TBSCertificate with a poison: what the precertificate's signature is over (RFC 6962 §3.1).

    `extensions` is where its extensions begin, as `read_certificate` tells.
    """
    listed, _ = _bounds(tbs, _bounds(tbs, extensions)[0])
    octets = len(tbs) - listed + len(_POISON)
    length = der.length(octets)
    inner = der.length(octets + 1 + len(length))
    head = b"%b\xa3%b\x30%b" % (tbs[_bounds(tbs, 0)[0] : extensions], inner, length)
    return b"\x30%b%b%b%b" % (der.length(len(head) + octets), head, tbs[listed:], _POISON)


def signature_of(precertificate: bytes, poisoned_tbs: bytes) -> bytes:
    """The signature in a precertificate that is this TBSCertificate, signed; ValueError when it is not."""
    start = der.header(precertificate)[1]
    end = start + len(poisoned_tbs)
    if precertificate[start:end] != poisoned_tbs:
        raise ValueError("it is not the logged TBSCertificate with a poison")
    return signature_beside(precertificate[end:], precertificate[end : der.header(precertificate, end)[2]])


def signature_beside(beside: bytes, algorithm: bytes) -> bytes:
    """The signature in what follows a precertificate's TBSCertificate; ValueError for another algorithm."""
    place = len(algorithm)
    if not beside.startswith(algorithm):
        raise ValueError("its signature is said to be of another algorithm than the logged one")
    try:
        start, end = _bounds(beside, place)
        if beside[place] != der.BIT_STRING or beside[start] or end != len(beside):
            raise ValueError("its signature is not one BIT STRING of whole octets")
    except IndexError:
        raise ValueError("its signature is cut short") from None
    return beside[start + 1 :]


def signature_verifier(public_key: PublicKeyTypes) -> VerifySignature:
    """What checks many signatures by one issuing certificate's key; raises ValueError for a kind unknown."""
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        large = public_key.curve.name == "secp384r1"
        ecdsa, verify_ecdsa = ec.ECDSA(hashes.SHA384() if large else hashes.SHA256()), public_key.verify

        def verify(signature: bytes, message: bytes) -> None:
            verify_ecdsa(signature, message, ecdsa)

    elif isinstance(public_key, rsa.RSAPublicKey):
        pkcs1, sha256, verify_rsa = padding.PKCS1v15(), hashes.SHA256(), public_key.verify

        def verify(signature: bytes, message: bytes) -> None:
            verify_rsa(signature, message, pkcs1, sha256)

    else:
        raise ValueError("the issuing certificate's key is neither ECDSA nor RSA")  # noqa: TRY004 - data, not a bug

    def checked(signature: bytes, message: bytes) -> None:
        try:
            verify(signature, message)
        except InvalidSignature:
            raise ValueError("its signature does not verify with the issuing certificate's key") from None

    return checked


@lru_cache(maxsize=4096)
def _validity(times: bytes) -> tuple[int, int]:
    _, middle = _bounds(times, 0)
    return _seconds(times[:middle]), _seconds(times[middle:])


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


@lru_cache(maxsize=4096)
def _subject(rest: bytes) -> tuple[str, str]:
    names = _value(rest)
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
