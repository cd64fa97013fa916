"""Signing with the authority's and the log's keys: one way for keys in files and keys in hardware.

Everything goes through the key object's own `sign`, so that a subclass of cryptography's private-key classes
is all a hardware module needs.
"""

from functools import cache
from typing import TypeAlias, TypeGuard, cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from ca_service.errors import ConfigurationError
from ca_service.pki import der

SigningKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
"""The private keys an authority or a log can have: ECDSA or RSA, in a file or in hardware."""

_MIN_RSA_BITS = 2048
_PKCS1 = padding.PKCS1v15()
_SHA256 = hashes.SHA256()
_ECDSA = {"secp256r1": ec.ECDSA(_SHA256), "secp384r1": ec.ECDSA(hashes.SHA384())}
_ECDSA_IDENTIFIERS = {
    "secp256r1": der.sequence(der.oid("1.2.840.10045.4.3.2")),
    "secp384r1": der.sequence(der.oid("1.2.840.10045.4.3.3")),
}
_RSA_IDENTIFIER = der.sequence(der.oid("1.2.840.113549.1.1.11"), der.NULL)


def check_signing_key(public_key: PublicKeyTypes, whose: str) -> None:
    """Refuse a key that no authority may have; raises ConfigurationError that begins with `whose` key it is.

    P-256, P-384 and RSA from 2048 bits are taken: stock Sigstore clients refuse authorities with Ed25519.
    """
    match public_key:
        case ec.EllipticCurvePublicKey() if public_key.curve.name in _ECDSA:
            return
        case rsa.RSAPublicKey() if public_key.key_size >= _MIN_RSA_BITS:
            return
        case ec.EllipticCurvePublicKey():
            found = f"ECDSA on {public_key.curve.name}"
        case rsa.RSAPublicKey():
            found = f"RSA with {public_key.key_size} bits"
        case _:
            found = type(public_key).__name__.removesuffix("PublicKey")
    raise ConfigurationError(
        f"{whose} has a key of a kind that Sigstore clients do not accept of an authority: "
        f"expected ECDSA P-256, P-384 or RSA from 2048 bits, found {found}. Make a new key of such a kind."
    )


def is_ecdsa(key: SigningKey) -> TypeGuard[ec.EllipticCurvePrivateKey]:
    """Say whether a key is for ECDSA and not RSA."""
    # To ask an abstract class whether something is of it takes as long as a hash.
    return _is_ecdsa_type(type(key))


@cache
def _is_ecdsa_type(kind: type) -> bool:
    return issubclass(kind, ec.EllipticCurvePrivateKey)


def algorithm_identifier(key: SigningKey) -> bytes:
    """The AlgorithmIdentifier DER of the signatures that `sign` makes with this key (RFC 5758, RFC 4055)."""
    return _ECDSA_IDENTIFIERS[key.curve.name] if is_ecdsa(key) else _RSA_IDENTIFIER


def hash_algorithm(key: SigningKey) -> hashes.SHA256 | hashes.SHA384:
    """The hash of the signatures that `sign` makes: as strong as the curve, SHA-256 with RSA."""
    is_p384 = isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name == "secp384r1"
    return hashes.SHA384() if is_p384 else hashes.SHA256()


def sign(key: SigningKey, message: bytes) -> bytes:
    """Sign a certificate, CRL or OCSP response: ECDSA with the curve's hash, or RSA PKCS#1 v1.5, SHA-256."""
    if is_ecdsa(key):
        return key.sign(message, _ECDSA[key.curve.name])
    return cast("rsa.RSAPrivateKey", key).sign(message, _PKCS1, _SHA256)


def signed(key: SigningKey, to_be_signed: bytes) -> bytes:
    """Sign a DER value and wrap it as certificates and CRLs are: value, algorithm, BIT STRING."""
    return der.sequence(to_be_signed, algorithm_identifier(key), der.bit_string(sign(key, to_be_signed)))


def sign_sha256(key: SigningKey, message: bytes) -> bytes:
    """Sign with SHA-256 whatever the curve: the only hash a transparency log has (RFC 6962 §2.1.4)."""
    if is_ecdsa(key):
        return key.sign(message, _ECDSA["secp256r1"])
    return cast("rsa.RSAPrivateKey", key).sign(message, _PKCS1, _SHA256)


def verify_sha256(public_key: PublicKeyTypes, signature: bytes, message: bytes) -> None:
    """Check what `sign_sha256` made; raises ValueError when it does not verify or for another kind of key."""
    if not isinstance(public_key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raise ValueError("a transparency log has an ECDSA or RSA key (RFC 6962 §2.1.4)")  # noqa: TRY004 - data, not a bug
    try:
        if isinstance(public_key, ec.EllipticCurvePublicKey):
            public_key.verify(signature, message, _ECDSA["secp256r1"])
        else:
            public_key.verify(signature, message, _PKCS1, _SHA256)
    except InvalidSignature:
        raise ValueError("the signature does not verify with this key") from None
