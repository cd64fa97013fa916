"""Revocation judged by pyhanko-certvalidator, which like a signature verifier asks about a moment."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests
from asn1crypto import x509 as asn1_x509
from cryptography.hazmat.primitives.serialization import Encoding
from pyhanko_certvalidator import CertificateValidator, ValidationContext
from pyhanko_certvalidator.errors import InsufficientRevinfoError, RevokedError

from tests.support.processes import RunningService, wait_until
from tests.support.signing import Issued, issue
from tests.support.tokens import TokenDesk
from tests.support.verifier import fetch_crl, ocsp_get_url, openssl


def judge(issued: Issued, *, crls: list[bytes], ocsps: list[bytes], moment: datetime | None = None) -> None:
    """Validate the leaf for code signing with only this revocation information, which is required."""
    leaf, issuing, root = (
        asn1_x509.Certificate.load(certificate.public_bytes(Encoding.DER)) for certificate in issued.chain
    )
    context = ValidationContext(
        trust_roots=[root],
        other_certs=[issuing],
        crls=crls,
        ocsps=ocsps,
        revocation_mode="require",
        moment=moment,
        allow_fetching=False,
        retroactive_revinfo=moment is not None,
    )
    validator = CertificateValidator(leaf, [issuing], validation_context=context)
    usage = validator.async_validate_usage({"digital_signature"}, {"code_signing"})  # type: ignore[no-untyped-call]
    asyncio.run(usage)


@pytest.fixture
def issued(service: RunningService, tokens: TokenDesk, session: requests.Session, tmp_path: Path) -> Issued:
    email = "pyhanko@example.com"
    fresh = issue(session, service.url, tokens.token(email), email)
    fresh.write(tmp_path)
    return fresh


def ocsp_answer(session: requests.Session, issued: Issued, folder: Path) -> bytes:
    openssl(
        *("ocsp", "-issuer", "issuing.pem", "-sha1", "-cert", "leaf.pem"),
        *("-no_nonce", "-reqout", "request.der"),
        folder=folder,
    )
    url = ocsp_get_url(issued.leaf, (folder / "request.der").read_bytes())
    return session.get(url, timeout=60).content


def test_by_crl_it_accepts_then_says_revoked(
    service: RunningService, issued: Issued, session: requests.Session
) -> None:
    root_crl = fetch_crl(session, issued.issuing)
    judge(issued, crls=[fetch_crl(session, issued.leaf), root_crl], ocsps=[])
    service.admin("revoke", "certificate", issued.serial, "--reason", "keyCompromise")
    with pytest.raises(RevokedError) as revoked:
        judge(issued, crls=[fetch_crl(session, issued.leaf), root_crl], ocsps=[])
    assert revoked.value.revocation_dt == issued.leaf.not_valid_before_utc
    assert revoked.value.reason.native == "key_compromise"


def test_by_ocsp_it_accepts_then_says_revoked(
    service: RunningService, issued: Issued, session: requests.Session, tmp_path: Path
) -> None:
    root_crl = fetch_crl(session, issued.issuing)
    judge(issued, crls=[root_crl], ocsps=[ocsp_answer(session, issued, tmp_path)])
    service.admin("revoke", "certificate", issued.serial, "--reason", "privilegeWithdrawn")
    with pytest.raises(RevokedError) as revoked:
        judge(issued, crls=[root_crl], ocsps=[ocsp_answer(session, issued, tmp_path)])
    assert revoked.value.revocation_dt == issued.leaf.not_valid_before_utc
    assert revoked.value.reason.native == "privilege_withdrawn"


def test_a_moment_before_the_revocation_date_is_judged_good(
    service: RunningService, issued: Issued, session: requests.Session, tmp_path: Path
) -> None:
    """A verifier that knows when a signature was made can still accept those before the date."""
    not_before = issued.leaf.not_valid_before_utc
    date = not_before + timedelta(seconds=2)
    wait_until(lambda: datetime.now(UTC) > date, 60, "the revocation date has passed")
    service.admin("revoke", "certificate", issued.serial, "--revocation-date", date.isoformat())
    crls = [fetch_crl(session, issued.issuing), fetch_crl(session, issued.leaf)]
    # From OCSP alone pyHanko concludes nothing before the date: it then wants a CRL as well.
    for ocsps in ([], [ocsp_answer(session, issued, tmp_path)]):
        judge(issued, crls=crls, ocsps=ocsps, moment=not_before)
        with pytest.raises(RevokedError) as revoked:
            judge(issued, crls=crls, ocsps=ocsps)
        assert revoked.value.revocation_dt == date


def test_without_the_roots_crl_the_intermediate_has_no_status(
    issued: Issued, session: requests.Session
) -> None:
    with pytest.raises(InsufficientRevinfoError):
        judge(issued, crls=[fetch_crl(session, issued.leaf)], ocsps=[])
