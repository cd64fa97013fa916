"""Revocation judged by GnuTLS: ocsptool and certtool of Debian's gnutls-bin."""

import re
import subprocess
from pathlib import Path

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.conformance.conftest import CASES, Life
from tests.support.past import serving
from tests.support.processes import RunningService, environment
from tests.support.signing import issue
from tests.support.tokens import TokenDesk
from tests.support.verifier import crl_url, fetch_crl

VERIFIED = "Verifying OCSP Response: Success."
REVOKED = "The certificate chain is revoked."
TRUSTED = "Chain verification output: Verified."


def gnutls(tool: str, *arguments: str, folder: Path, code: int | None = 0) -> str:
    """Run ocsptool or certtool in `folder` and return what it printed; `code` None takes any exit code."""
    done = subprocess.run(
        [tool, *arguments],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    assert code is None or done.returncode == code, f"{tool} {arguments}: {done.returncode}\n{done.stdout}"
    return done.stdout


def status(text: str) -> str:
    found = re.search(r"Certificate Status: (\w+)", text)
    assert found, text
    return found[1]


def expected(case: str) -> str:
    """To be revoked is enough for it, whatever the date: a known deviation from those who compare."""
    return "good" if case.endswith("good") else "revoked"


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("answer", ["answer.der", "answer-sha1.der", "delegated.der"])
def test_ocsptool_accepts_todays_answer_about_every_year(life: Life, case: str, answer: str) -> None:
    folder = life.evidence[case]
    text = gnutls(
        *("ocsptool", "--verify-response", "--load-response", answer, "--load-trust", "chain.pem"),
        folder=folder,
    )
    assert VERIFIED in text
    assert status(text) == expected(case)


def test_ocsptool_wants_the_issuing_certificate_among_the_trusted(life: Life) -> None:
    """A known deviation: a chain to the root is not enough for it, although the answer brings the signer."""
    text = gnutls(
        *("ocsptool", "--verify-response", "--load-response", "answer.der", "--load-trust", "root.pem"),
        folder=life.evidence["today-good"],
        code=None,
    )
    assert "Signer cert is not trusted" in text


@pytest.mark.parametrize(
    "case", ["today-good", "twelve-years-good", "twelve-years-before", "two-years-after"]
)
def test_ocsptool_asks_the_responder(life: Life, case: str) -> None:
    with serving(life.past.app) as url:
        text = gnutls(
            *("ocsptool", f"--ask={url}/ocsp", "--load-cert=leaf.pem", "--load-issuer=issuing.pem"),
            "--load-trust=chain.pem",
            folder=life.evidence[case],
            code=None,
        )
    assert VERIFIED in text
    assert status(text) == expected(case)


@pytest.mark.parametrize("case", CASES)
def test_certtool_verifies_todays_list_of_every_years_shard(life: Life, case: str) -> None:
    for name, signer in (("shard", "issuing"), ("root", "root")):
        text = gnutls(
            *("certtool", "--verify-crl", "--infile", f"{name}.crl.pem"),
            *("--load-ca-certificate", f"{signer}.pem"),
            folder=life.evidence[case],
        )
        assert "Verification output: Verified." in text


def test_certtool_says_revoked_by_the_right_list_and_does_not_notice_the_wrong_one(
    service: RunningService, tokens: TokenDesk, session: requests.Session, tmp_path: Path
) -> None:
    email = "gnutls@example.com"
    good, revoked = (issue(session, service.url, tokens.token(email), email) for _ in range(2))
    other = next(
        candidate
        for candidate in (issue(session, service.url, tokens.token(email), email) for _ in range(200))
        if crl_url(candidate.leaf) != crl_url(revoked.leaf)
    )
    service.admin("revoke", "certificate", revoked.serial, "--reason", "keyCompromise")

    def judged(issued: x509.Certificate, crl: x509.Certificate) -> str:
        pems = [each.public_bytes(Encoding.PEM) for each in (issued, good.issuing)]
        (tmp_path / "chain.pem").write_bytes(b"".join(pems))
        (tmp_path / "root.pem").write_bytes(good.root.public_bytes(Encoding.PEM))
        listed = x509.load_der_x509_crl(fetch_crl(session, crl))
        (tmp_path / "shard.crl.pem").write_bytes(listed.public_bytes(Encoding.PEM))
        return gnutls(
            *("certtool", "--verify", "--infile", "chain.pem", "--load-ca-certificate", "root.pem"),
            *("--load-crl", "shard.crl.pem"),
            folder=tmp_path,
            code=None,
        )

    assert TRUSTED in judged(good.leaf, good.leaf)
    assert REVOKED in judged(revoked.leaf, revoked.leaf)
    # A known deviation: it does not know issuingDistributionPoint. Fetch the list that the leaf names.
    assert TRUSTED in judged(revoked.leaf, other.leaf)
