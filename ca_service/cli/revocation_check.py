"""Asking for a certificate's status as a verifier does: OCSP, then the CRL, and nothing believed unsigned.

The answers come over plain http or from a mirror, so each is checked: who signed it, for which certificate,
how old it is.
"""

from collections.abc import Callable, Iterator
from datetime import datetime

import requests
from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID

from ca_service.cli import fetching
from ca_service.cli.crl_answers import judge_crl
from ca_service.cli.crl_mirror import Mirror
from ca_service.cli.ocsp_answers import ask_ocsp
from ca_service.cli.verdicts import Question, Verdict
from ca_service.errors import StatusUnanswered
from ca_service.vocabulary import Serial

_LONGEST_CHAIN = 4

_Way = tuple[str, Callable[[tuple[str, ...]], Verdict]]
"""What it is called when it fails, and how it is gone; it is given what failed before it."""


def question_of(certificate: x509.Certificate, issuer: x509.Certificate) -> Question:
    """The question about a certificate, at the addresses that it names itself."""
    return Question(
        Serial(certificate.serial_number),
        issuer,
        _access_address(certificate, AuthorityInformationAccessOID.OCSP),
        crl_address(certificate),
        certificate.not_valid_after_utc,
    )


def ask(question: Question, now: datetime, mirror: Mirror | None = None) -> Verdict:
    """Ask OCSP, and the CRL when that gives no trustworthy answer; with a mirror, only the CRL in it.

    Raises StatusUnanswered with what was wrong at each address.
    """
    troubles: list[str] = []
    for name, way in _ways(question, now, mirror):
        try:
            return way(tuple(troubles))
        except requests.RequestException as error:
            troubles.append(f"{name}: {type(error).__name__}")
        except ValueError as error:
            troubles.append(f"{name}: {error}")
    raise StatusUnanswered("no trustworthy answer. " + "; ".join(troubles))


def _ways(question: Question, now: datetime, mirror: Mirror | None) -> Iterator[_Way]:
    ocsp, crl = question.ocsp_url, question.crl_url
    if mirror is None:
        if ocsp is not None:
            yield f"OCSP at {ocsp}", lambda remarks: ask_ocsp(question, ocsp, now, remarks)
        else:
            yield "OCSP", _nowhere
    if crl is not None:
        fetch = fetching.fetch if mirror is None else mirror.read
        yield (
            f"CRL at {crl}" if mirror is None else f"CRL of {crl} in the mirror",
            lambda remarks: judge_crl(fetch(crl), question, crl, now, remarks),
        )
    else:
        yield "CRL", _nowhere


def _nowhere(_remarks: tuple[str, ...]) -> Verdict:
    raise ValueError("no address is known")


def crl_address(certificate: x509.Certificate) -> str | None:
    """Where a certificate says that its CRL is."""
    try:
        points = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    except x509.ExtensionNotFound:
        return None
    return next((str(name.value) for point in points for name in point.full_name or []), None)


def _access_address(certificate: x509.Certificate, method: x509.ObjectIdentifier) -> str | None:
    try:
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except x509.ExtensionNotFound:
        return None
    return next((str(one.access_location.value) for one in access if one.access_method == method), None)


def fetch_chain(certificate: x509.Certificate) -> list[x509.Certificate]:
    """Fetch the authority that a certificate names by caIssuers, and that one's, up to the root.

    Raises StatusUnanswered when the first cannot be had; a missing root only shortens the chain.
    """
    chain: list[x509.Certificate] = []
    ca_issuers = AuthorityInformationAccessOID.CA_ISSUERS
    url = _access_address(certificate, ca_issuers)
    while url is not None and len(chain) < _LONGEST_CHAIN:
        try:
            fetched = x509.load_der_x509_certificate(fetching.fetch(url))
        except (requests.RequestException, ValueError) as error:
            if chain:
                break
            raise StatusUnanswered(
                f"the certificate's authority could not be had from {url}: {error}"
            ) from error
        chain.append(fetched)
        url = None if fetched.subject == fetched.issuer else _access_address(fetched, ca_issuers)
    if not chain:
        raise StatusUnanswered("the certificate does not say where its authority's certificate is")
    return chain
