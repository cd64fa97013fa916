"""Signed certificate timestamps: what a log signs, what a certificate carries, and the check (RFC 6962).

All integers are big-endian; `vec<n>` below means an n-octet length and then the bytes.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from ca_service.pki import der
from ca_service.pki.keys import spki_der
from ca_service.pki.signatures import SigningKey, is_ecdsa, sign_sha256, verify_sha256
from ca_service.vocabulary import LeafIndex, LogId

SCT_LIST = "1.3.6.1.4.1.11129.2.4.2"
POISON = "1.3.6.1.4.1.11129.2.4.3"

_SHA256, _RSA, _ECDSA = 4, 1, 3  # TLS 1.2 HashAlgorithm and SignatureAlgorithm (RFC 5246 §7.4.1.4.1)
_TBS_LENGTH = 44
"""Where a precertificate's leaf has the length of its TBSCertificate: after time, type, issuer_key_hash."""
_LEAF_INDEX = re.compile(rb"\x00\x00\x05(.{5})", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Sct:
    """One SCT of version 1: `signature` is its DigitallySigned, `timestamp` in milliseconds since 1970."""

    log_id: LogId
    timestamp: int
    extensions: bytes
    signature: bytes

    @property
    def leaf_index(self) -> LeafIndex | None:
        """Where the log put the entry, when the SCT says so (static-ct-api leaf_index extension)."""
        found = _LEAF_INDEX.fullmatch(self.extensions)
        return LeafIndex(int.from_bytes(found[1], "big")) if found else None


def leaf_index_extensions(index: int) -> bytes:
    """CtExtensions with the entry's index, 8 octets (static-ct-api): type 0, vec<2> of a 40-bit number.

    Raises OverflowError for an index that does not fit 40 bits.
    """
    return b"\x00\x00\x05" + index.to_bytes(5, "big")


def precertificate_leaf(timestamp_ms: int, leaf_index: int, issuer_key_hash: bytes, tbs: bytes) -> bytes:
    """The MerkleTreeLeaf of a precertificate entry, which is also, byte for byte, what its SCT signs.

    `issuer_key_hash` is SHA-256 of the issuing certificate's SPKI, `tbs` the TBSCertificate without poison
    and without SCT list (RFC 6962 §3.2 and §3.4).
    """
    return _timestamped(timestamp_ms, leaf_index_extensions(leaf_index), issuer_key_hash, tbs)


def _timestamped(timestamp_ms: int, extensions: bytes, issuer_key_hash: bytes, tbs: bytes) -> bytes:
    return b"".join(
        (
            b"\x00\x00",  # v1; timestamped_entry in a leaf, certificate_timestamp in an SCT
            timestamp_ms.to_bytes(8, "big"),
            b"\x00\x01",  # precert_entry
            issuer_key_hash,
            _vec(3, tbs),
            _vec(2, extensions),
        )
    )


def tbs_of_leaf(leaf: bytes) -> bytes:
    """The TBSCertificate in a precertificate's MerkleTreeLeaf; raises ValueError for other bytes."""
    start = _TBS_LENGTH + 3
    end = start + int.from_bytes(leaf[_TBS_LENGTH:start], "big")
    if leaf[:2] != b"\x00\x00" or leaf[10:12] != b"\x00\x01" or end > len(leaf):
        raise ValueError("it is not the MerkleTreeLeaf of a precertificate")
    return leaf[start:end]


def digitally_sign(key: SigningKey, message: bytes) -> bytes:
    """Sign as a log does: a DigitallySigned struct, with SHA-256 and ECDSA or RSA (RFC 6962 §2.1.4)."""
    algorithm = _ECDSA if is_ecdsa(key) else _RSA
    return bytes((_SHA256, algorithm)) + _vec(2, sign_sha256(key, message))


def log_id_of(public_key: PublicKeyTypes) -> LogId:
    """SHA-256 of the log key's SPKI, 32 octets (RFC 6962 §3.2)."""
    return LogId(hashlib.sha256(spki_der(public_key)).digest())


def encode_sct(log_id: LogId, timestamp_ms: int, extensions: bytes, signature: bytes) -> bytes:
    """Serialize an SCT of version 1; `signature` is the DigitallySigned struct (RFC 6962 §3.2)."""
    return b"\x00" + log_id + timestamp_ms.to_bytes(8, "big") + _vec(2, extensions) + signature


def encode_sct_list(scts: Sequence[bytes]) -> bytes:
    """The SignedCertificateTimestampList of serialized SCTs: vec<2> of vec<2> each (RFC 6962 §3.3)."""
    return _vec(2, b"".join(_vec(2, sct) for sct in scts))


def parse_sct_list(sct_list: bytes) -> list[Sct]:
    """Read a SignedCertificateTimestampList; raises ValueError when its bytes are not one of version 1."""
    body, rest = _take(2, sct_list)
    if rest:
        raise ValueError("bytes follow after the SCT list")
    scts = []
    while body:
        sct, body = _take(2, body)
        scts.append(_parse_sct(sct))
    return scts


def _parse_sct(sct: bytes) -> Sct:
    if len(sct) < 41 or sct[0] != 0:
        raise ValueError("an SCT is cut short or not of version 1")
    extensions, signature = _take(2, sct[41:])
    if len(signature) < 4 or _take(2, signature[2:])[1]:
        raise ValueError("an SCT's signature is cut short or too long")
    return Sct(LogId(sct[1:33]), int.from_bytes(sct[33:41], "big"), extensions, signature)


def scts_of(certificate: x509.Certificate) -> list[Sct]:
    """The SCTs a certificate carries, none without that extension; raises ValueError for a broken list."""
    for found in der.elements(_extensions_of(certificate.tbs_certificate_bytes)):
        parts = list(der.elements(found.content))
        if parts and parts[0].der == der.oid(SCT_LIST):
            return parse_sct_list(der.only(parts[-1].content, der.OCTET_STRING))
    return []


def _extensions_of(tbs: bytes) -> bytes:
    last = list(der.elements(der.only(tbs, der.SEQUENCE)))[-1]
    return der.only(last.content, der.SEQUENCE) if last.tag == 0xA3 else b""


def verify_sct(
    certificate: x509.Certificate, issuer_certificate: x509.Certificate, log_public_key: PublicKeyTypes
) -> Sct:
    """Check that the log with this key signed for this certificate, and return its SCT (RFC 6962 §3.2).

    Raises ValueError, with a sentence, when the certificate carries none of this log, or the signature fails.
    """
    log_id = log_id_of(log_public_key)
    found = next((sct for sct in scts_of(certificate) if sct.log_id == log_id), None)
    if found is None:
        raise ValueError(f"the certificate carries no timestamp of the log {log_id.hex()}")
    message = _timestamped(
        found.timestamp,
        found.extensions,
        hashlib.sha256(spki_der(issuer_certificate.public_key())).digest(),
        certificate.tbs_precertificate_bytes,
    )
    expected = _ECDSA if isinstance(log_public_key, ec.EllipticCurvePublicKey) else _RSA
    if found.signature[:2] != bytes((_SHA256, expected)):
        raise ValueError("the timestamp is signed with another algorithm than the log's key has")
    verify_sha256(log_public_key, found.signature[4:], message)
    return found


def precertificate_extra_data(precertificate: bytes, chain: Sequence[bytes]) -> bytes:
    """The extra_data of a get-entries answer: vec<3> precertificate, then vec<3> of vec<3> each of the chain.

    `chain` is DER, the issuing certificate first, the root last (RFC 6962 §4.6).
    """
    return _vec(3, precertificate) + _vec(3, b"".join(_vec(3, certificate) for certificate in chain))


def _vec(octets: int, content: bytes) -> bytes:
    return len(content).to_bytes(octets, "big") + content


def _take(octets: int, data: bytes) -> tuple[bytes, bytes]:
    end = octets + int.from_bytes(data[:octets], "big")
    if len(data) < octets or len(data) < end:
        raise ValueError("an SCT list is cut short")
    return data[octets:end], data[end:]
