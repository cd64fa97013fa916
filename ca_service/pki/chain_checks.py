"""What a chain must be to sign code: checked once at the start, so that no client has to find out."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtendedKeyUsageOID

from ca_service.errors import ConfigurationError
from ca_service.pki.signatures import check_signing_key

_Kind = TypeVar("_Kind", bound=x509.ExtensionType)

_SHORTEST_CHAIN = 2  # an issuing certificate and its root: sigstore-python wants two in an answer
_PRECERTIFICATE_SIGNING = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.4")


def check_chain(certificates: Sequence[x509.Certificate]) -> None:
    """Check that these certificates, issuing one first and root last, make a chain that may sign code.

    Each must be signed by the next and within its validity, the last by itself; CA constraints and key usages
    as sigstore-python and Go's verifier want them; EKU codeSigning in all but the root. Raises
    ConfigurationError, whose sentence names the certificate and what is wrong with it.
    """
    if len(certificates) < _SHORTEST_CHAIN:
        raise ConfigurationError(
            f"The authority's chain has {len(certificates)} certificate(s); expected the issuing "
            "certificate, then "
            "any between, then the self-signed root. Put all of them in the chain file in this order.",
        )
    for depth, (certificate, parent) in enumerate(pairwise([*certificates, certificates[-1]])):
        _check_constraints(certificate, depth)
        _check_link(certificate, parent)
    for certificate in certificates[:-1]:
        _check_extended_key_usage(certificate)


def _check_link(certificate: x509.Certificate, parent: x509.Certificate) -> None:
    whose = _who(certificate)
    try:
        certificate.verify_directly_issued_by(parent)
    except (ValueError, TypeError, InvalidSignature):
        expected = "itself: the root comes last" if certificate is parent else f"the next one, {_who(parent)}"
        raise ConfigurationError(
            f"{whose} in the authority's chain is not signed by {expected}; its issuer is "
            f"{certificate.issuer.rfc4514_string()!r}. Order the chain from the issuing certificate to the "
            "root.",
        ) from None
    if certificate.not_valid_after_utc > parent.not_valid_after_utc:
        raise ConfigurationError(
            f"{whose} ends at {certificate.not_valid_after_utc:%Y-%m-%d}, after {_who(parent)} that signed "
            "it "
            f"({parent.not_valid_after_utc:%Y-%m-%d}): its last signatures could not be verified. "
            "Make an issuing certificate that ends before its parent does.",
        )


def _check_constraints(certificate: x509.Certificate, depth: int) -> None:
    whose = _who(certificate)
    check_signing_key(certificate.public_key(), whose)
    constraints = _extension(certificate, x509.BasicConstraints)
    if constraints is None or not constraints.critical or not constraints.value.ca:
        raise ConfigurationError(
            f"{whose} in the authority's chain may not issue: expected critical BasicConstraints with "
            "CA:TRUE. "
            "Use a CA certificate.",
        )
    length = constraints.value.path_length
    if length is not None and length < depth:
        raise ConfigurationError(
            f"{whose} allows {length} CA certificate(s) below itself, and the chain has {depth}. "
            "Use a chain that its path lengths allow.",
        )
    usage = _extension(certificate, x509.KeyUsage)
    if usage is None or not usage.value.key_cert_sign or (depth == 0 and not usage.value.crl_sign):
        raise ConfigurationError(
            f"{whose} in the authority's chain may not sign certificates and CRLs: expected the key usages "
            "keyCertSign and cRLSign. Use a certificate that has both.",
        )
    if _extension(certificate, x509.SubjectKeyIdentifier) is None:
        raise ConfigurationError(
            f"{whose} in the authority's chain has no subject key identifier, which its leaves and CRLs must "
            "repeat "
            "(RFC 5280 §5.2.1). Use a certificate that has one.",
        )


def _check_extended_key_usage(certificate: x509.Certificate) -> None:
    whose = _who(certificate)
    usages = _extension(certificate, x509.ExtendedKeyUsage)
    if usages is None or ExtendedKeyUsageOID.CODE_SIGNING not in usages.value:
        raise ConfigurationError(
            f"{whose} in the authority's chain lacks the extended key usage codeSigning, so no leaf below it "
            "verifies for code signing. Use an issuing certificate with EKU codeSigning.",
        )
    if _PRECERTIFICATE_SIGNING in usages.value:
        raise ConfigurationError(
            f"{whose} in the authority's chain has the extended key usage for precertificate signing, which "
            "makes "
            "sigstore-python look for another issuer. Use an issuing certificate with EKU codeSigning only.",
        )


def _extension(certificate: x509.Certificate, kind: type[_Kind]) -> x509.Extension[_Kind] | None:
    try:
        return certificate.extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None
    except ValueError as error:
        raise ConfigurationError(
            f"{_who(certificate)} in the authority's chain has extensions that cannot be read ({error}). "
            "Make the certificate again.",
        ) from None


def _who(certificate: x509.Certificate) -> str:
    return f"The certificate {certificate.subject.rfc4514_string()!r}"
