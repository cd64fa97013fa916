"""Proof of possession: whose signature over what is good."""

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa

from ca_service.errors import ProofInvalid
from ca_service.identity.possession import verify_possession

CHALLENGE = "jörg@example.com"
MESSAGE = CHALLENGE.encode()
RSA_KEY = rsa.generate_private_key(65537, 2048)
P256 = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())
P521 = ec.generate_private_key(ec.SECP521R1())
EDWARDS = ed25519.Ed25519PrivateKey.generate()
PSS = padding.PSS(padding.MGF1(hashes.SHA256()), 32)

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

GOOD: dict[str, tuple[Key, bytes]] = {
    "P-256": (P256, P256.sign(MESSAGE, ec.ECDSA(hashes.SHA256()))),
    "P-384": (P384, P384.sign(MESSAGE, ec.ECDSA(hashes.SHA384()))),
    "P-521": (P521, P521.sign(MESSAGE, ec.ECDSA(hashes.SHA512()))),
    "P-384 as gitsign signs": (P384, P384.sign(MESSAGE, ec.ECDSA(hashes.SHA256()))),
    "P-521 as gitsign signs": (P521, P521.sign(MESSAGE, ec.ECDSA(hashes.SHA256()))),
    "RSA": (RSA_KEY, RSA_KEY.sign(MESSAGE, padding.PKCS1v15(), hashes.SHA256())),
    "Ed25519": (EDWARDS, EDWARDS.sign(MESSAGE)),
}


@pytest.mark.parametrize("case", sorted(GOOD))
def test_good_proofs(case: str) -> None:
    key, proof = GOOD[case]
    verify_possession(key.public_key(), proof, [CHALLENGE])
    verify_possession(key.public_key(), proof, ["1234", CHALLENGE])


@pytest.mark.parametrize("case", sorted(GOOD))
@pytest.mark.parametrize("challenges", [["someone@example.com"], ["jörg@example.com "], []])
def test_a_proof_over_something_else_is_none(case: str, challenges: list[str]) -> None:
    key, proof = GOOD[case]
    with pytest.raises(ProofInvalid) as raised:
        verify_possession(key.public_key(), proof, challenges)
    assert CHALLENGE not in raised.value.message


BAD: dict[str, tuple[Key, bytes]] = {
    "RSA-PSS": (RSA_KEY, RSA_KEY.sign(MESSAGE, PSS, hashes.SHA256())),
    "RSA with SHA-1": (RSA_KEY, RSA_KEY.sign(MESSAGE, padding.PKCS1v15(), hashes.SHA1())),  # noqa: S303 - what is tested
    "RSA with SHA-512": (RSA_KEY, RSA_KEY.sign(MESSAGE, padding.PKCS1v15(), hashes.SHA512())),
    "P-256 with SHA-384": (P256, P256.sign(MESSAGE, ec.ECDSA(hashes.SHA384()))),
    "P-384 with SHA-512": (P384, P384.sign(MESSAGE, ec.ECDSA(hashes.SHA512()))),
    "another key": (P256, GOOD["P-384"][1]),
    "another kind of key": (EDWARDS, GOOD["RSA"][1]),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_other_hashes_and_paddings_are_not_taken(case: str) -> None:
    key, proof = BAD[case]
    with pytest.raises(ProofInvalid):
        verify_possession(key.public_key(), proof, [CHALLENGE])


@pytest.mark.parametrize(
    "proof", [b"", b"\x00", b"\x30\x00", b"\x30\x80" * 40, b"\xff" * 64, b"A" * 1_000_000]
)
@pytest.mark.parametrize("key", [RSA_KEY, P256, P384, P521, EDWARDS])
def test_any_octets_are_a_proof_that_does_not_verify(key: Key, proof: bytes) -> None:
    with pytest.raises(ProofInvalid):
        verify_possession(key.public_key(), proof, [CHALLENGE, "\ud800"])


def test_keys_of_other_kinds_prove_nothing() -> None:
    other = ed448.Ed448PrivateKey.generate()
    secp256k1 = ec.generate_private_key(ec.SECP256K1())
    for key, proof in (
        (other.public_key(), other.sign(MESSAGE)),
        (secp256k1.public_key(), secp256k1.sign(MESSAGE, ec.ECDSA(hashes.SHA256()))),
        (b"not a key", b"proof"),
    ):
        with pytest.raises(ProofInvalid):
            verify_possession(key, proof, [CHALLENGE])
