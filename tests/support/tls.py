"""Certificates for TLS servers on loopback, from an authority that nobody else trusts."""

import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

_HALF_A_DAY = dt.timedelta(hours=12)


@dataclass(frozen=True)
class TlsAuthority:
    """An authority for the certificates of servers; `pem` is its own."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def new(cls, name: str) -> Self:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder(
                subject, subject, key.public_key(), 1, now - _HALF_A_DAY, now + _HALF_A_DAY
            )
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        return cls(builder.sign(key, hashes.SHA256()), key)

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    def server(self, address: str, folder: Path, *, expired: bool = False) -> tuple[Path, Path]:
        """A key and a certificate for a server at this address, in files of `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, address)])
        ends = dt.datetime.now(dt.UTC) + (-_HALF_A_DAY / 2 if expired else _HALF_A_DAY)
        issued = (
            x509.CertificateBuilder(
                self.certificate.subject, subject, key.public_key(), 2, ends - 2 * _HALF_A_DAY, ends
            )
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
            .sign(self.key, hashes.SHA256())
        )
        key_file, certificate_file = folder / "key.pem", folder / "certificate.pem"
        key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        certificate_file.write_bytes(issued.public_bytes(Encoding.PEM))
        return key_file, certificate_file
