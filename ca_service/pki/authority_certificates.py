"""The authority's own certificates: root and issuing certificate, and both with their key."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from ca_service.errors import ConfigurationError
from ca_service.pki.chain_checks import check_chain
from ca_service.pki.keys import key_id, key_identifier, spki_der, subject_public_key
from ca_service.pki.signatures import SigningKey, check_signing_key, hash_algorithm
from ca_service.vocabulary import KeyId

ROOT_YEARS = 25
ISSUING_YEARS = 14
ISSUES_YEARS = 3
"""An issuing certificate issues for 3 years and stays valid for 14: its revocations are kept ten years."""


def create_root(
    key: SigningKey, *, organization: str, common_name: str, not_before: datetime, serial: int
) -> x509.Certificate:
    """Make a self-signed root, valid for 25 years: CN and O, no EKU, no path length.

    Raises ConfigurationError for a key of a kind that Sigstore clients do not accept.
    """
    name = _name(organization, common_name)
    validity = (not_before, years_later(not_before, ROOT_YEARS))
    builder = _builder(key.public_key(), name, name, validity, serial, path_length=None)
    return builder.sign(key, hash_algorithm(key))


def create_intermediate(
    public_key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
    *,
    root: x509.Certificate,
    root_key: SigningKey,
    organization: str,
    common_name: str,
    crl_url: str,
    ca_issuers_url: str,
    not_before: datetime,
    serial: int,
) -> x509.Certificate:
    """Make an issuing certificate under a root: EKU codeSigning only, 14 years or until the root ends.

    `crl_url` is the root's CRL, `ca_issuers_url` where the root's certificate is. Each key needs a subject
    of its own: some verifiers refuse two keys under one name. Raises ConfigurationError for a key of a kind
    that Sigstore clients do not accept.
    """
    not_after = min(years_later(not_before, ISSUING_YEARS), root.not_valid_after_utc)
    builder = _builder(
        public_key,
        _name(organization, common_name),
        root.subject,
        (not_before, not_after),
        serial,
        path_length=0,
    )
    root_ski = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    ca_issuers = x509.AccessDescription(
        AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier(ca_issuers_url)
    )
    crl = x509.DistributionPoint([x509.UniformResourceIdentifier(crl_url)], None, None, None)
    builder = (
        builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(root_ski), critical=False
        )
        .add_extension(x509.AuthorityInformationAccess([ca_issuers]), critical=False)
        .add_extension(x509.CRLDistributionPoints([crl]), critical=False)
    )
    return builder.sign(root_key, hash_algorithm(root_key))


@dataclass(frozen=True, eq=False)
class Authority:
    """A key that issues, with its certificate and chain (issuing certificate first, root last).

    Make it with `load`, which checks that these belong together; what else is derived is derived once.
    """

    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    private_key: SigningKey

    @classmethod
    def load(cls, certificates: Sequence[x509.Certificate], private_key: PrivateKeyTypes) -> "Authority":
        """Check a chain (issuing certificate first, root last) and its issuing key, and join them.

        Raises ConfigurationError, whose sentence names what is wrong: the order or a signature of the chain,
        its constraints and key usages, the kind of a key, or a key that is another certificate's.
        """
        check_chain(certificates)
        if not isinstance(private_key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            found = type(private_key).__name__.removesuffix("PrivateKey")
            raise ConfigurationError(
                f"The issuing key is of kind {found}; expected ECDSA P-256, P-384 or RSA, which Sigstore "
                "clients accept.",
            )
        check_signing_key(private_key.public_key(), "The issuing key")
        issuing = certificates[0]
        if spki_der(private_key.public_key()) != spki_der(issuing.public_key()):
            raise ConfigurationError(
                "The issuing key is not the key of the first certificate in the chain "
                f"({issuing.subject.rfc4514_string()}): expected key id {key_id(issuing.public_key())}, "
                "found "
                f"{key_id(private_key.public_key())}. Give the key and the chain of one ceremony.",
            )
        return cls(issuing, tuple(certificates), private_key)

    @property
    def root(self) -> x509.Certificate:
        """The self-signed end of the chain."""
        return self.chain[-1]

    @cached_property
    def key_id(self) -> KeyId:
        """The name of this authority's key in URLs and in the store."""
        return key_id(self.private_key.public_key())

    @cached_property
    def subject_key_identifier(self) -> bytes:
        """The SKI of the issuing certificate: the AKI of everything it signs (RFC 5280 §5.2.1)."""
        return self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest

    @cached_property
    def subject_der(self) -> bytes:
        """The DER of the issuing certificate's subject: the issuer name of everything it signs."""
        return self.certificate.subject.public_bytes()

    @cached_property
    def spki(self) -> bytes:
        """The DER SubjectPublicKeyInfo of the issuing key."""
        return spki_der(self.certificate.public_key())

    @cached_property
    def issuer_key_hash(self) -> bytes:
        """SHA-256 of the issuing key's SPKI, as log entries name it (RFC 6962 §3.2)."""
        return hashlib.sha256(self.spki).digest()

    @cached_property
    def responder_key_hash(self) -> bytes:
        """SHA-1 of the issuing key's bits, as OCSP names a responder by key (RFC 6960 §4.2.1)."""
        return hashlib.sha1(subject_public_key(self.spki), usedforsecurity=False).digest()

    @cached_property
    def chain_der(self) -> tuple[bytes, ...]:
        """The chain as DER, issuing certificate first, root last."""
        return tuple(certificate.public_bytes(Encoding.DER) for certificate in self.chain)

    @cached_property
    def chain_pems(self) -> tuple[str, ...]:
        """The chain as PEM texts, issuing certificate first, root last."""
        return tuple(certificate.public_bytes(Encoding.PEM).decode() for certificate in self.chain)

    @cached_property
    def chain_pem(self) -> str:
        """The chain as PEM blocks, issuing certificate first, root last."""
        return "".join(self.chain_pems)

    @cached_property
    def not_after(self) -> datetime:
        """When the issuing certificate ends: no leaf may be valid longer."""
        return self.certificate.not_valid_after_utc

    @cached_property
    def issues_until(self) -> datetime:
        """When this key stops issuing: 3 years after the certificate's notBefore, at most its notAfter."""
        return min(years_later(self.certificate.not_valid_before_utc, ISSUES_YEARS), self.not_after)


def years_later(moment: datetime, years: int) -> datetime:
    """The same day and time some years later; 29 February becomes 1 March."""
    try:
        return moment.replace(year=moment.year + years)
    except ValueError:
        return moment.replace(year=moment.year + years, month=3, day=1)


def _name(organization: str, common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _builder(
    public_key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
    subject: x509.Name,
    issuer: x509.Name,
    validity: tuple[datetime, datetime],
    serial: int,
    *,
    path_length: int | None,
) -> x509.CertificateBuilder:
    check_signing_key(public_key, "The new authority")
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(serial)
        .not_valid_before(validity[0])
        .not_valid_after(validity[1])
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier(key_identifier(spki_der(public_key))), critical=False)
    )
