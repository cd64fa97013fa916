"""An authority for tests, made of the real functions: keys, root, issuing certificate, log, and leaves."""

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_public_key

from ca_service.pki.authority_certificates import Authority, create_intermediate, create_root
from ca_service.pki.keys import spki_der
from ca_service.pki.profile import LeafProfile, Precertificate, build_certificate, build_precertificate
from ca_service.pki.sct import (
    digitally_sign,
    encode_sct,
    encode_sct_list,
    leaf_index_extensions,
    log_id_of,
    precertificate_leaf,
)
from ca_service.pki.signatures import SigningKey
from ca_service.vocabulary import Serial, SubjectKind, SubjectName

FOUNDED = datetime(2026, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 23, 8, 0, 0, tzinfo=UTC)
NOW_MS = int(NOW.timestamp()) * 1000
OCSP_URL = "http://status.example/ocsp"
CA_ISSUERS_URL = "http://status.example/ca/issuing.crt"
CRL_URL = "http://status.example/crl/issuing/2026-11-0a.crl"
ROOT_CRL_URL = "http://status.example/crl/root/root.crl"

EMAIL = SubjectName(SubjectKind.EMAIL, "ada@example.com")
EXTENSIONS: Mapping[str, str] = {"issuer": "https://issuer.example", "token-subject": "ada"}

VECTORS = Path(__file__).parent.parent / "vectors" / "pki"

AUTHORITY_KINDS = ("ecdsa-p256", "ecdsa-p384", "rsa-2048")


@functools.cache
def signing_key(kind: str, name: str) -> SigningKey:
    """A key of one of AUTHORITY_KINDS, made once per run for each name; RSA keys are slow to make."""
    if kind == "rsa-2048":
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key(ec.SECP384R1() if kind == "ecdsa-p384" else ec.SECP256R1())


def authority(kind: str = "ecdsa-p256", name: str = "Example") -> Authority:
    """An authority with an issuing key of this kind, founded on FOUNDED, the same all through a run."""
    return _authority(kind, name)


@functools.cache
def _authority(kind: str, name: str) -> Authority:
    root_key, issuing_key = signing_key("ecdsa-p384", f"{name} root"), signing_key(kind, f"{name} issuing")
    root = create_root(
        root_key, organization=name, common_name=f"{name} root", not_before=FOUNDED, serial=serial()
    )
    issuing = create_intermediate(
        issuing_key.public_key(),
        root=root,
        root_key=root_key,
        organization=name,
        common_name=f"{name} issuing {kind}",
        crl_url=ROOT_CRL_URL,
        ca_issuers_url="http://status.example/ca/root.crt",
        not_before=FOUNDED,
        serial=serial(),
    )
    return Authority.load([issuing, root], issuing_key)


def root_key_of(name: str = "Example") -> SigningKey:
    """The root key of `authority` with this name."""
    return signing_key("ecdsa-p384", f"{name} root")


def log_key() -> SigningKey:
    """The key of the test log."""
    return signing_key("ecdsa-p256", "log")


def serial() -> Serial:
    """A random serial."""
    return Serial(int.from_bytes(os.urandom(19), "big") | 1)


@functools.cache
def client_key() -> ec.EllipticCurvePrivateKey:
    """A signer's key."""
    return ec.generate_private_key(ec.SECP256R1())


def leaf_profile(**changes: Any) -> LeafProfile:
    """What a leaf says, valid for ten minutes from NOW, with some members changed."""
    members = {
        "spki": spki_der(client_key().public_key()),
        "subject": EMAIL,
        "extensions": EXTENSIONS,
        "serial": serial(),
        "not_before": NOW,
        "not_after": NOW + timedelta(minutes=10),
        "ocsp_url": OCSP_URL,
        "ca_issuers_url": CA_ISSUERS_URL,
        "crl_url": CRL_URL,
    }
    return LeafProfile(**{**members, **changes})


@dataclass(frozen=True)
class Issued:
    """A leaf with all it came from."""

    certificate: x509.Certificate
    der: bytes
    precertificate: Precertificate

    @property
    def pem(self) -> bytes:
        """The leaf as PEM."""
        return self.certificate.public_bytes(Encoding.PEM)


def sct_list(
    by: Authority, precertificate: Precertificate, *, timestamp: int = NOW_MS, index: int = 7
) -> bytes:
    """The SCT list with one SCT of the test log over a precertificate."""
    message = precertificate_leaf(timestamp, index, by.issuer_key_hash, precertificate.tbs)
    sct = encode_sct(
        log_id_of(log_key().public_key()),
        timestamp,
        leaf_index_extensions(index),
        digitally_sign(log_key(), message),
    )
    return encode_sct_list([sct])


def issue(by: Authority | None = None, **changes: Any) -> Issued:
    """Issue a leaf as the service does: precertificate, SCT, certificate."""
    by = by or authority()
    precertificate = build_precertificate(by, leaf_profile(**changes))
    der = build_certificate(by, precertificate, sct_list(by, precertificate))
    return Issued(x509.load_der_x509_certificate(der), der, precertificate)


def public_good() -> tuple[x509.Certificate, list[x509.Certificate], Any]:
    """A leaf of the public-good Sigstore instance, its chain, and the public key of its log."""
    leaf = x509.load_pem_x509_certificate((VECTORS / "fulcio-github-leaf.pem").read_bytes())
    chain = x509.load_pem_x509_certificates((VECTORS / "fulcio-chain.pem").read_bytes())
    return leaf, chain, load_pem_public_key((VECTORS / "ctfe-2022.pub").read_bytes())
