"""Proof of possession: the client's key signed the challenge that its identity names."""

from collections.abc import Callable, Sequence

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from ca_service.errors import ProofInvalid

_SHA256 = ec.ECDSA(hashes.SHA256())

# gitsign signs SHA-256 on every curve, everybody else the hash that fits the curve.
_CURVE_SCHEMES: dict[str, tuple[ec.ECDSA, ...]] = {
    "secp256r1": (_SHA256,),
    "secp384r1": (ec.ECDSA(hashes.SHA384()), _SHA256),
    "secp521r1": (ec.ECDSA(hashes.SHA512()), _SHA256),
}
_PKCS1V15 = padding.PKCS1v15()
_RSA_HASH = hashes.SHA256()

# Longer than any signature of an accepted key: RSA-4096 gives 512 octets.
_MAX_PROOF = 1024


def verify_possession(public_key: object, proof: bytes, challenges: Sequence[str]) -> None:
    """Check that `proof` is the key's signature over one of the challenges, as UTF-8.

    `public_key` is a `cryptography` ECDSA (P-256, P-384, P-521), RSA (PKCS #1 v1.5 with SHA-256) or Ed25519
    public key; an ECDSA proof is DER (RFC 3279 §2.2.3). Raises ProofInvalid for whatever does not verify.
    """
    if not proof:
        raise ProofInvalid(
            "no proof of possession came with the public key; "
            "expected its signature over the token's challenge claim (email, or sub)",
            expected="a signature over the token's challenge claim",
            received="none",
        )
    if len(proof) <= _MAX_PROOF:
        for challenge in challenges:
            if _verifies(public_key, proof, challenge.encode("utf-8", "surrogatepass")):
                return
    raise ProofInvalid(
        "the proof of possession does not verify with the public key: expected its signature over the UTF-8 "
        "text of the token's challenge claim (email, or sub), with SHA-256 or the hash that fits the curve",
        expected="a signature of the public key over the token's challenge claim",
        received="another signature",
    )


def _verifies(public_key: object, proof: bytes, message: bytes) -> bool:
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        schemes = _CURVE_SCHEMES.get(public_key.curve.name, ())
        return any(_signed(public_key.verify, proof, message, scheme) for scheme in schemes)
    if isinstance(public_key, rsa.RSAPublicKey):
        return _signed(public_key.verify, proof, message, _PKCS1V15, _RSA_HASH)
    if isinstance(public_key, ed25519.Ed25519PublicKey):
        return _signed(public_key.verify, proof, message)
    return False


def _signed(verify: Callable[..., None], *arguments: object) -> bool:
    try:
        verify(*arguments)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False
    return True
