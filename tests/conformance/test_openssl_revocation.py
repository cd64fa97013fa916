"""Revocation judged by openssl: OCSP by POST and GET, CRLs, dates, reasons, and every worker at once."""

import hashlib
import re
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests
from cryptography import x509
from cryptography.x509 import ocsp

from tests.support.processes import RunningService, http
from tests.support.signing import Issued, issue
from tests.support.tokens import TokenDesk
from tests.support.verifier import (
    ask_ocsp,
    ca_issuers_url,
    crl_url,
    fetch_crl,
    ocsp_get_url,
    ocsp_url,
    openssl,
    read_ocsp_answer,
)

NEVER_ISSUED = "5b0d3d3c1a0f4e5d9c8b7a69584736251403f2e1"
REASONS = {  # ours and RFC 5280's name, then openssl's words
    "keyCompromise": "keyCompromise",
    "affiliationChanged": "affiliationChanged",
    "superseded": "superseded",
    "cessationOfOperation": "cessationOfOperation",
    "privilegeWithdrawn": "(UNKNOWN)",  # openssl 3.0 has names up to removeFromCRL (8) only
}

Issue = Callable[[str], Issued]


@pytest.fixture
def issued(service: RunningService, tokens: TokenDesk, session: requests.Session, tmp_path: Path) -> Issued:
    """A fresh certificate, its chain in tmp_path."""
    email = "revocation@example.com"
    fresh = issue(session, service.url, tokens.token(email), email)
    fresh.write(tmp_path)
    return fresh


def write_crls(session: requests.Session, issued: Issued, folder: Path) -> None:
    """Fetch the shard's CRL and the root's, as the certificates name them."""
    (folder / "shard.crl").write_bytes(fetch_crl(session, issued.leaf))
    (folder / "root.crl").write_bytes(fetch_crl(session, issued.issuing))


def verify_with_crls(folder: Path, code: int, crls: tuple[str, ...] = ("shard.crl", "root.crl")) -> str:
    named = [argument for name in crls for argument in ("-CRLfile", name)]
    return openssl(
        *("verify", "-x509_strict", "-crl_check_all", "-extended_crl"),
        *("-CAfile", "root.pem", "-untrusted", "issuing.pem", *named, "leaf.pem"),
        folder=folder,
        code=code,
    )


@pytest.mark.parametrize("digest", ["sha256", "sha1"])
def test_ocsp_by_post_says_good_then_revoked(
    service: RunningService, issued: Issued, tmp_path: Path, digest: str
) -> None:
    url = ocsp_url(issued.leaf)
    assert ask_ocsp(tmp_path, url, digest=digest).status == "good"
    service.admin("revoke", "certificate", tmp_path / "leaf.pem", "--reason", "keyCompromise")
    answer = ask_ocsp(tmp_path, url, digest=digest)
    assert (answer.status, answer.reason) == ("revoked", "keyCompromise")
    not_before = openssl("x509", "-in", "leaf.pem", "-noout", "-startdate", folder=tmp_path)
    assert not_before.strip() == f"notBefore={answer.date}", "the date is notBefore unless one is given"


@pytest.mark.parametrize("digest", ["sha256", "sha1"])
def test_ocsp_by_get_says_good_then_revoked_and_may_be_cached_no_longer_than_it_holds(
    service: RunningService, issued: Issued, session: requests.Session, tmp_path: Path, digest: str
) -> None:
    openssl(
        *("ocsp", "-issuer", "issuing.pem", f"-{digest}", "-cert", "leaf.pem"),
        *("-no_nonce", "-reqout", "request.der"),
        folder=tmp_path,
    )
    url = ocsp_get_url(issued.leaf, (tmp_path / "request.der").read_bytes())

    def ask() -> tuple[str, requests.Response]:
        reply = session.get(url, timeout=60)
        assert reply.status_code == 200
        assert reply.headers["Content-Type"] == "application/ocsp-response"
        (tmp_path / "answer.der").write_bytes(reply.content)
        text = openssl(
            *("ocsp", "-issuer", "issuing.pem", f"-{digest}", "-cert", "leaf.pem", "-no_nonce"),
            *("-respin", "answer.der", "-CAfile", "root.pem", "-verify_other", "chain.pem"),
            folder=tmp_path,
        )
        return read_ocsp_answer(text, "leaf.pem").status, reply

    status, reply = ask()
    assert status == "good"
    parsed = ocsp.load_der_ocsp_response(reply.content)
    assert parsed.next_update_utc is not None
    found = re.search(r"max-age=(\d+)", reply.headers["Cache-Control"])
    assert found
    assert int(found.group(1)) < (parsed.next_update_utc - datetime.now(UTC)).total_seconds()
    assert "public" in reply.headers["Cache-Control"]
    assert hashlib.sha256(reply.content).hexdigest() in reply.headers["ETag"]
    again = session.get(url, headers={"If-None-Match": reply.headers["ETag"]}, timeout=60)
    assert again.status_code == 304

    service.admin("revoke", "certificate", issued.serial)
    assert ask()[0] == "revoked"


@pytest.mark.parametrize("digest", ["sha256", "sha1"])
def test_a_serial_that_was_never_issued_is_unknown_not_good(
    issued: Issued, tmp_path: Path, digest: str
) -> None:
    answer = ask_ocsp(tmp_path, ocsp_url(issued.leaf), serial=NEVER_ISSUED, digest=digest)
    assert answer.status == "unknown"


def test_crls_say_good_then_revoked(
    service: RunningService, issued: Issued, session: requests.Session, tmp_path: Path
) -> None:
    write_crls(session, issued, tmp_path)
    assert "leaf.pem: OK" in verify_with_crls(tmp_path, 0)
    service.admin("revoke", "certificate", issued.serial, "--reason", "superseded")
    write_crls(session, issued, tmp_path)
    assert "certificate revoked" in verify_with_crls(tmp_path, 2)


@pytest.mark.parametrize("reason", sorted(REASONS))
def test_reason_and_date_are_the_same_in_crl_and_ocsp(
    service: RunningService, issued: Issued, session: requests.Session, tmp_path: Path, reason: str
) -> None:
    moment = datetime.now(UTC).replace(microsecond=0)
    service.admin(
        *("revoke", "certificate", issued.serial, "--reason", reason),
        *("--revocation-date", moment.strftime("%Y-%m-%dT%H:%M:%SZ")),
    )
    crl = x509.load_der_x509_crl(fetch_crl(session, issued.leaf))
    entry = crl.get_revoked_certificate_by_serial_number(issued.leaf.serial_number)
    assert entry is not None
    assert entry.revocation_date_utc == moment
    assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.value == reason
    invalid_from = entry.extensions.get_extension_for_class(x509.InvalidityDate).value.invalidity_date_utc
    assert invalid_from == moment
    answer = ask_ocsp(tmp_path, ocsp_url(issued.leaf))
    assert answer.reason == REASONS[reason]
    assert answer.date
    assert datetime.strptime(answer.date, "%b %d %H:%M:%S %Y %Z").replace(tzinfo=UTC) == moment


def test_the_crl_of_another_shard_is_refused(
    service: RunningService, tokens: TokenDesk, issued: Issued, session: requests.Session, tmp_path: Path
) -> None:
    email = "revocation@example.com"
    other = next(
        candidate
        for candidate in (issue(session, service.url, tokens.token(email), email) for _ in range(200))
        if crl_url(candidate.leaf) != crl_url(issued.leaf)
    )
    write_crls(session, issued, tmp_path)
    (tmp_path / "other.crl").write_bytes(fetch_crl(session, other.leaf))
    refusal = verify_with_crls(tmp_path, 2, ("other.crl", "root.crl"))
    assert "different CRL scope" in refusal


def test_the_chain_can_be_completed_from_the_urls_in_the_certificates(
    issued: Issued, session: requests.Session
) -> None:
    for certificate, issuer in ((issued.leaf, issued.issuing), (issued.issuing, issued.root)):
        reply = session.get(ca_issuers_url(certificate), timeout=60)
        assert reply.status_code == 200
        assert reply.headers["Content-Type"] == "application/pkix-cert"
        assert x509.load_der_x509_certificate(reply.content) == issuer


def test_every_worker_answers_revoked_once_the_command_returned(
    service: RunningService, issued: Issued, session: requests.Session, tmp_path: Path
) -> None:
    """Fresh connections, all at once, right after the command returned: no worker may still say good."""
    openssl(
        *("ocsp", "-issuer", "issuing.pem", "-sha256", "-cert", "leaf.pem"),
        *("-no_nonce", "-reqout", "request.der"),
        folder=tmp_path,
    )
    url = ocsp_get_url(issued.leaf, (tmp_path / "request.der").read_bytes())
    count = 300

    def status_of_all() -> list[ocsp.OCSPCertStatus]:
        together = threading.Barrier(count)

        def ask(_: int) -> ocsp.OCSPCertStatus:
            with http() as fresh:
                together.wait(60)
                return ocsp.load_der_ocsp_response(fresh.get(url, timeout=60).content).certificate_status

        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(ask, range(count)))

    assert set(status_of_all()) == {ocsp.OCSPCertStatus.GOOD}, "now cached as good by every worker"
    service.admin("revoke", "certificate", issued.serial)
    assert set(status_of_all()) == {ocsp.OCSPCertStatus.REVOKED}
    crl = x509.load_der_x509_crl(fetch_crl(session, issued.leaf))
    assert crl.get_revoked_certificate_by_serial_number(issued.leaf.serial_number) is not None


def test_our_own_status_command_agrees(service: RunningService, issued: Issued, tmp_path: Path) -> None:
    def status() -> subprocess.CompletedProcess[str]:
        return service.cli("status", tmp_path / "leaf.pem")

    good = status()
    assert (good.returncode, "good" in good.stdout) == (0, True), good
    service.admin("revoke", "certificate", issued.serial, "--reason", "keyCompromise")
    revoked = status()
    assert revoked.returncode == 1
    assert "revoked" in revoked.stdout
    assert "keyCompromise" in revoked.stdout
