"""Stand-ins for a signing key: CertificateBuilder signs with one to yield a TBSCertificate, at no cost.

The signature is worthless and thrown away, so the real key, which may be in hardware, signs only what counts.
"""

from typing import NoReturn, Self

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from ca_service.pki.signatures import SigningKey


def throwaway_key(key: SigningKey) -> SigningKey:
    """A stand-in of the same kind, size and public key as this one."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return _ThrowawayEcKey(key.public_key())
    return _ThrowawayRsaKey(key.public_key())


class _ThrowawayEcKey(ec.EllipticCurvePrivateKey):
    def __init__(self, public_key: ec.EllipticCurvePublicKey) -> None:
        self._public_key = public_key

    def sign(self, data: object, signature_algorithm: object) -> bytes:  # noqa: ARG002 - the base class names them
        return b""

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public_key

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._public_key.curve

    @property
    def key_size(self) -> int:
        return self._public_key.key_size

    def exchange(self, algorithm: object, peer_public_key: object) -> NoReturn:  # noqa: ARG002 - as above
        _refuse()

    def private_numbers(self) -> NoReturn:
        _refuse()

    def private_bytes(self, encoding: object, format: object, encryption_algorithm: object) -> NoReturn:  # noqa: A002, ARG002 - as above
        _refuse()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self


class _ThrowawayRsaKey(rsa.RSAPrivateKey):
    def __init__(self, public_key: rsa.RSAPublicKey) -> None:
        self._public_key = public_key

    def sign(self, data: object, padding: object, algorithm: object) -> bytes:  # noqa: ARG002 - as above
        return b""

    def public_key(self) -> rsa.RSAPublicKey:
        return self._public_key

    @property
    def key_size(self) -> int:
        return self._public_key.key_size

    def decrypt(self, ciphertext: object, padding: object) -> NoReturn:  # noqa: ARG002 - as above
        _refuse()

    def private_numbers(self) -> NoReturn:
        _refuse()

    def private_bytes(self, encoding: object, format: object, encryption_algorithm: object) -> NoReturn:  # noqa: A002, ARG002 - as above
        _refuse()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self


def _refuse() -> NoReturn:
    raise NotImplementedError("a throwaway key has no private half")
