"""What an issuer of the issuer file must fulfil before the service starts with it."""

import ipaddress
from functools import cache
from urllib.parse import urlsplit

from cryptography import x509
from publicsuffixlist import PublicSuffixList

from ca_service.identity.issuers import Issuer, IssuerType
from ca_service.identity.names import check_trust_domain, origin_of


def check_issuer(issuer: Issuer) -> None:
    """Check one issuer; raises ValueError with a sentence that names the member.

    The rules are Fulcio's, but the registrable domain comes from the public suffix list.
    """
    _check_url(issuer)
    if issuer.issuer_claim is not None and issuer.type is not IssuerType.EMAIL:
        raise ValueError(f"issuer-claim is for issuers of type email only, not {issuer.type}")
    if issuer.ca_cert is not None:
        try:
            x509.load_pem_x509_certificates(issuer.ca_cert.encode())
        except ValueError:
            raise ValueError("ca-cert is not a PEM certificate") from None
    if issuer.type is IssuerType.SPIFFE:
        if issuer.wildcard:
            raise ValueError("type spiffe is not possible for a wildcard issuer")
        try:
            check_trust_domain(issuer.spiffe_trust_domain)
        except ValueError as problem:
            raise ValueError(f"spiffe-trust-domain is {issuer.spiffe_trust_domain!r}: {problem}") from None
    elif issuer.type is IssuerType.URI:
        _check_uri_domain(issuer)
    elif issuer.type is IssuerType.USERNAME:
        _check_username_domain(issuer)


def _check_url(issuer: Issuer) -> None:
    try:
        scheme, _host = origin_of(issuer.issuer_url)
        parts = urlsplit(issuer.issuer_url)
    except ValueError as problem:
        raise ValueError(f"issuer-url cannot be used: {problem}") from None
    if scheme not in ("https", "http") or parts.query or parts.fragment:
        raise ValueError("issuer-url must be an https URL (http on loopback) without query and fragment")
    if "*" in issuer.issuer_url and not issuer.wildcard:
        raise ValueError("issuer-url has a wildcard, which is for meta-issuers only")


def _check_uri_domain(issuer: Issuer) -> None:
    domain = issuer.subject_domain
    try:
        scheme, host = origin_of(domain)
    except ValueError as problem:
        raise ValueError(
            f"subject-domain is {domain!r}, but type uri needs scheme and host: {problem}"
        ) from None
    issuer_scheme, issuer_host = origin_of(issuer.issuer_url)
    if scheme != issuer_scheme:
        raise ValueError(f"subject-domain is {domain!r}; its scheme must be the issuer's, {issuer_scheme}")
    _check_same_domain(domain, host, issuer_host)


def _check_username_domain(issuer: Issuer) -> None:
    domain = issuer.subject_domain
    if not domain or "://" in domain or not domain.isprintable():
        raise ValueError(
            f"subject-domain is {domain!r}, but type username needs a host name without a scheme"
        )
    try:
        _scheme, host = origin_of(f"https://{domain}")
    except ValueError as problem:
        raise ValueError(f"subject-domain is {domain!r}: {problem}") from None
    _check_same_domain(domain, host, origin_of(issuer.issuer_url)[1])


def _check_same_domain(domain: str, host: str, issuer_host: str) -> None:
    if _registrable(host) != _registrable(issuer_host):
        raise ValueError(
            f"subject-domain is {domain!r}; it must lie in the issuer's registrable domain, "
            f"{_registrable(issuer_host)} (public suffix list)"
        )


def _registrable(host: str) -> str:
    """The registrable domain, or the host itself where there is none: an address, localhost, a suffix."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return _suffixes().privatesuffix(host) or host


@cache
def _suffixes() -> PublicSuffixList:
    # Its 65 ms are spent only when an issuer needs it.
    return PublicSuffixList()
