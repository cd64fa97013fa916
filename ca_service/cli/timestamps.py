"""When a timestamp authority saw a signature (RFC 3161), as a Sigstore bundle shows."""

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from ca_service.vocabulary import parse_time

if TYPE_CHECKING:
    from rfc3161_client import TimeStampResponse

_MOST = 32
"""Timestamps that are looked at: stock verifiers refuse bundles with more."""

_HASHES = {"SHA2_256": hashes.SHA256(), "SHA2_384": hashes.SHA384(), "SHA2_512": hashes.SHA512()}
_BY_CURVE = {"secp256r1": "SHA2_256", "secp384r1": "SHA2_384", "secp521r1": "SHA2_512"}
_WRONG = (KeyError, IndexError, TypeError, AttributeError, ValueError, RecursionError, OverflowError)


@dataclass(frozen=True, slots=True)
class Timestamp:
    """A moment before which the signature was made; `verified` when an authority that is trusted says so."""

    moment: datetime
    verified: bool


@dataclass(frozen=True, slots=True)
class _Authority:
    chain: tuple[x509.Certificate, ...]
    begins: datetime
    ends: datetime | None


def timestamps(
    bundle: Mapping[str, Any], certificate: x509.Certificate, trusted_root: Path | None
) -> Iterator[Timestamp]:
    """Each timestamp in a bundle that can be read.

    One is verified when an authority of `trusted_root` (trusted_root.json) signed it over the bundle's
    signature, and this certificate's key made that signature: else anybody's old timestamp would do.
    """
    try:
        responses = bundle["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"][:_MOST]
    except _WRONG:
        return
    signature = _signature(bundle, certificate)
    authorities = [] if trusted_root is None or signature is None else list(_authorities(trusted_root))
    for each in responses:
        try:
            response = _decoded(base64.b64decode(each["signedTimestamp"], validate=True))
            moment = response.tst_info.gen_time.astimezone(UTC)
        except _WRONG:
            continue
        yield Timestamp(
            moment, any(_is_by(authority, response, moment, signature) for authority in authorities)
        )


def _decoded(response: bytes) -> "TimeStampResponse":
    from rfc3161_client import decode_timestamp_response

    return decode_timestamp_response(response)


def _is_by(
    authority: _Authority, response: "TimeStampResponse", moment: datetime, signature: bytes | None
) -> bool:
    from rfc3161_client import VerificationError, VerifierBuilder

    if signature is None or moment < authority.begins or (authority.ends and moment > authority.ends):
        return False
    first, *between = authority.chain[:-1] or authority.chain
    builder = VerifierBuilder().tsa_certificate(first).add_root_certificate(authority.chain[-1])
    for each in between:
        builder = builder.add_intermediate_certificate(each)
    try:
        return builder.build().verify_message(response, signature)
    except (VerificationError, ValueError):
        return False


def _authorities(trusted_root: Path) -> Iterator[_Authority]:
    """The timestamp authorities in a trusted root; none when it cannot be read."""
    try:
        for each in json.loads(trusted_root.read_bytes()).get("timestampAuthorities", ()):
            encoded = [one["rawBytes"] for one in each["certChain"]["certificates"]]
            chain = tuple(
                x509.load_der_x509_certificate(base64.b64decode(one, validate=True)) for one in encoded
            )
            valid = each["validFor"]
            ends = parse_time(valid["end"]) if "end" in valid else None
            if chain:
                yield _Authority(chain, parse_time(valid["start"]), ends)
    except (*_WRONG, OSError):
        return


def _signature(bundle: Mapping[str, Any], certificate: x509.Certificate) -> bytes | None:
    """The bundle's signature, when the certificate's key made it over what the bundle says was signed."""
    try:
        if "dsseEnvelope" in bundle:
            envelope = bundle["dsseEnvelope"]
            (one,) = envelope["signatures"]
            signature = base64.b64decode(one["sig"], validate=True)
            _verify(certificate.public_key(), signature, _pre_authentication_encoding(envelope))
        else:
            message = bundle["messageSignature"]
            signature = base64.b64decode(message["signature"], validate=True)
            digest = base64.b64decode(message["messageDigest"]["digest"], validate=True)
            _verify_digest(certificate.public_key(), signature, digest, message["messageDigest"]["algorithm"])
    except (*_WRONG, InvalidSignature):
        return None
    return signature


def _pre_authentication_encoding(envelope: Mapping[str, Any]) -> bytes:
    """What a DSSE envelope's signature is over (DSSE protocol, PAE)."""
    kind, payload = envelope["payloadType"].encode(), base64.b64decode(envelope["payload"], validate=True)
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _verify(key: object, signature: bytes, message: bytes) -> None:
    if isinstance(key, ed25519.Ed25519PublicKey):
        key.verify(signature, message)
        return
    name = _BY_CURVE[key.curve.name] if isinstance(key, ec.EllipticCurvePublicKey) else "SHA2_256"
    digest = hashes.Hash(_HASHES[name])
    digest.update(message)
    _verify_digest(key, signature, digest.finalize(), name)


def _verify_digest(key: object, signature: bytes, digest: bytes, algorithm: str) -> None:
    """Check a signature over a digest; raises InvalidSignature, and ValueError for other kinds of keys."""
    hashed = Prehashed(_HASHES[algorithm])
    if isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, digest, ec.ECDSA(hashed))
    elif isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, digest, padding.PKCS1v15(), hashed)
    else:
        raise ValueError("such a key signs messages, not digests")  # noqa: TRY004 - data, not a bug
