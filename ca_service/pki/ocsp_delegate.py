"""The certificate of a delegated OCSP responder, which lives so short that nobody asks for its own status."""

from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ca_service.pki.authority_certificates import Authority
from ca_service.pki.keys import key_id, key_identifier, spki_der
from ca_service.pki.signatures import hash_algorithm

LIFE = timedelta(days=14)


def create_delegate(
    authority: Authority,
    public_key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
    *,
    not_before: datetime,
    serial: int,
) -> x509.Certificate:
    """Certify a key for signing this authority's OCSP answers, for 14 days or until the authority ends.

    As RFC 6960 §4.2.2.2 wants it: issued by the authority itself, EKU OCSPSigning, and id-pkix-ocsp-nocheck,
    so that it names no place where its own status could be asked (CA/Browser Forum code-signing requirements
    4.9.9). It is no code-signing certificate and is not logged.
    """
    organization = authority.certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    name = x509.NameAttribute(NameOID.COMMON_NAME, f"OCSP responder {key_id(public_key)[:8]}")
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    issuer = x509.SubjectKeyIdentifier(authority.subject_key_identifier)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([*organization, name]))
        .issuer_name(authority.certificate.subject)
        .public_key(public_key)
        .serial_number(serial)
        .not_valid_before(max(not_before, authority.certificate.not_valid_before_utc))
        .not_valid_after(min(not_before + LIFE, authority.not_after))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]), critical=False)
        .add_extension(x509.OCSPNoCheck(), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer), critical=False)
        .add_extension(x509.SubjectKeyIdentifier(key_identifier(spki_der(public_key))), critical=False)
        .sign(authority.private_key, hash_algorithm(authority.private_key))
    )
