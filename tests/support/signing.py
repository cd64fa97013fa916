"""What a signer does: keys, signing requests, proofs of possession, and the Fulcio calls with them."""

import base64
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

KINDS = ("ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "rsa-2048", "rsa-4096", "ed25519")
_CURVES: dict[str, ec.EllipticCurve] = {
    "ecdsa-p256": ec.SECP256R1(),
    "ecdsa-p384": ec.SECP384R1(),
    "ecdsa-p521": ec.SECP521R1(),
}
_HASH_OF_CURVE: dict[str, hashes.HashAlgorithm] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}


@functools.cache
def _rsa(bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)  # made once: four seconds for 4096 bits


def new_key(kind: str = "ecdsa-p256") -> PrivateKey:
    """A key of one of KINDS; RSA keys are made once per run, they are slow to make."""
    if kind in _CURVES:
        return ec.generate_private_key(_CURVES[kind])
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return _rsa(int(kind.removeprefix("rsa-")))


def prove(key: PrivateKey, challenge: str, hash_: hashes.HashAlgorithm | None = None) -> bytes:
    """Sign the challenge as Fulcio's clients do: the hash belongs to the key unless given."""
    message = challenge.encode()
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(message, ec.ECDSA(hash_ or _HASH_OF_CURVE[key.curve.name]))
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(message, padding.PKCS1v15(), hash_ or hashes.SHA256())
    return key.sign(message)


def public_pem(key: PrivateKey) -> str:
    """The PEM PUBLIC KEY block."""
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def public_der(key: PrivateKey) -> bytes:
    """The DER SubjectPublicKeyInfo."""
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def csr_pem(key: PrivateKey, hash_: hashes.HashAlgorithm | None = None) -> bytes:
    """A PEM signing request with an empty subject, as sigstore-python makes it."""
    builder = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    chosen: Any = None if isinstance(key, ed25519.Ed25519PrivateKey) else hash_ or hashes.SHA256()
    return builder.sign(key, chosen).public_bytes(serialization.Encoding.PEM)


def b64(content: bytes) -> str:
    """Standard base64 with padding."""
    return base64.b64encode(content).decode()


def key_body(key: PrivateKey, challenge: str, token: str | None = None) -> dict[str, Any]:
    """The v2 body with publicKeyRequest; with `token` also the credentials member, as sigstore-js sends."""
    body: dict[str, Any] = {
        "publicKeyRequest": {
            "publicKey": {"algorithm": "ECDSA", "content": public_pem(key)},
            "proofOfPossession": b64(prove(key, challenge)),
        }
    }
    if token is not None:
        body["credentials"] = {"oidcIdentityToken": token}
    return body


def bearer(token: str) -> dict[str, str]:
    """The header sigstore-python and the Go clients send."""
    return {"Authorization": f"Bearer {token}"}


@dataclass(frozen=True)
class Issued:
    """A chain as the service returned it, leaf first, and the key it is for."""

    chain: Sequence[x509.Certificate]
    key: PrivateKey

    @property
    def leaf(self) -> x509.Certificate:
        return self.chain[0]

    @property
    def issuing(self) -> x509.Certificate:
        return self.chain[1]

    @property
    def root(self) -> x509.Certificate:
        return self.chain[-1]

    @property
    def serial(self) -> str:
        """Even-length lower hex, as every command takes it."""
        text = f"{self.leaf.serial_number:x}"
        return text.rjust(len(text) + len(text) % 2, "0")

    def write(self, folder: Path) -> Path:
        """Write leaf.pem, issuing.pem, root.pem, chain.pem (issuing and root) and return the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        pems = [certificate.public_bytes(serialization.Encoding.PEM) for certificate in self.chain]
        for name, pem in zip(("leaf.pem", "issuing.pem", "root.pem"), pems, strict=True):
            (folder / name).write_bytes(pem)
        (folder / "chain.pem").write_bytes(b"".join(pems[1:]))
        return folder


def read_chain(reply: requests.Response) -> list[x509.Certificate]:
    """The certificates of a v2 reply, which must be exactly 200."""
    assert reply.status_code == 200, f"{reply.status_code} {reply.reason}: {reply.text}"
    pems = reply.json()["signedCertificateEmbeddedSct"]["chain"]["certificates"]
    return [x509.load_pem_x509_certificate(pem.encode()) for pem in pems]


def issue(
    session: requests.Session, url: str, token: str, challenge: str, key: PrivateKey | None = None
) -> Issued:
    """Get a certificate by v2 with a public key and its proof, as sigstore-go does."""
    key = key or new_key()
    reply = session.post(
        f"{url}/api/v2/signingCert", json=key_body(key, challenge), headers=bearer(token), timeout=60
    )
    return Issued(read_chain(reply), key)
