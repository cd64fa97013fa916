"""Certificates, CRLs and OCSP responses of every kind of authority, judged by openssl."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from ca_service.pki.crl import Entry, build_crl, build_root_crl
from ca_service.pki.ocsp import CertStatus, SingleAnswer, build_response, error_response, parse_request
from ca_service.vocabulary import Serial, SubjectKind, SubjectName
from tests.support.pki import AUTHORITY_KINDS, CRL_URL, authority, issue, root_key_of
from tests.support.verifier import openssl

# openssl compares OCSP and CRL times with its own clock.
_NOW = datetime.now(UTC).replace(microsecond=0)
# openssl judges by its own clock, and a whole run may take longer than the ten minutes of a real leaf.
_LONGER_THAN_A_RUN = timedelta(hours=6)
_WEEK = timedelta(days=7)


class _Case:
    """A leaf, its chain and a CRL of each authority as files in a folder."""

    def __init__(self, kind: str, folder: Path, subject: SubjectName | None = None) -> None:
        self.authority, self.folder = authority(kind), folder
        members = {} if subject is None else {"subject": subject}
        self.leaf = issue(
            self.authority, not_before=_NOW, not_after=_NOW + _LONGER_THAN_A_RUN, **members
        ).certificate
        for name, certificate in (
            ("leaf", self.leaf),
            ("issuing", self.authority.certificate),
            ("root", self.authority.root),
        ):
            (folder / f"{name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
        root_crl = build_root_crl(
            self.authority.root, root_key_of(), number=1, this_update=_NOW, next_update=_NOW + 52 * _WEEK
        )
        (folder / "root.crl").write_bytes(root_crl)

    def shard(self, *serials: int, url: str = CRL_URL) -> None:
        """Write the shard's CRL with these serials revoked an hour ago."""
        revoked = int(_NOW.timestamp()) - 3600
        crl = build_crl(
            self.authority,
            [Entry(Serial(serial), revoked, 1) for serial in serials],
            number=4095,
            this_update=_NOW,
            next_update=_NOW + _WEEK,
            url=url,
            expired_since=_NOW,
        )
        (self.folder / "shard.crl").write_bytes(crl)

    def verify(self, *options: str, code: int = 0) -> str:
        """Run `openssl verify` on the leaf."""
        chain = ("-CAfile", "root.pem", "-untrusted", "issuing.pem")
        return openssl("verify", "-x509_strict", *options, *chain, "leaf.pem", folder=self.folder, code=code)

    def verify_with_crls(self, code: int = 0) -> str:
        """Run `openssl verify` on the leaf and its chain with both CRLs."""
        crls = ("-CRLfile", "shard.crl", "-CRLfile", "root.crl")
        return self.verify("-crl_check_all", "-extended_crl", *crls, code=code)


@pytest.fixture(params=AUTHORITY_KINDS)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> _Case:
    return _Case(request.param, tmp_path)


def test_the_chain_verifies_strictly(case: _Case) -> None:
    assert "leaf.pem: OK" in case.verify("-purpose", "any")


def test_openssl_reads_every_extension_of_a_leaf(case: _Case) -> None:
    text = openssl("x509", "-in", "leaf.pem", "-noout", "-text", "-certopt", "ext_error", folder=case.folder)
    for expected in (
        "X509v3 Key Usage: critical\n                Digital Signature\n",
        "X509v3 Extended Key Usage: \n                Code Signing\n",
        "X509v3 Subject Alternative Name: critical\n                email:ada@example.com\n",
        "OCSP - URI:http://status.example/ocsp",
        "CA Issuers - URI:http://status.example/ca/issuing.crt",
        f"URI:{CRL_URL}",
        "CT Precertificate SCTs",
        "Extensions: 00:00:05:00:00:00:00:07",
    ):
        assert expected in text
    assert text.index("CT Precertificate SCTs") > text.index("1.3.6.1.4.1.57264.1.24"), (
        "the SCT list comes last"
    )


@pytest.mark.parametrize(
    ("subject", "shown"),
    [
        (SubjectName(SubjectKind.URI, "https://example.com/x"), "URI:https://example.com/x"),
        (
            SubjectName(SubjectKind.USERNAME, "ada!example.com"),
            "othername: 1.3.6.1.4.1.57264.1.7::ada!example.com",
        ),
    ],
)
def test_openssl_reads_the_other_kinds_of_names(tmp_path: Path, subject: SubjectName, shown: str) -> None:
    case = _Case("ecdsa-p256", tmp_path, subject)
    assert shown in openssl("x509", "-in", "leaf.pem", "-noout", "-ext", "subjectAltName", folder=case.folder)
    case.verify()


def test_a_leaf_is_good_until_its_serial_is_on_the_list(case: _Case) -> None:
    case.shard(4711)
    assert "leaf.pem: OK" in case.verify_with_crls()
    case.shard(4711, case.leaf.serial_number)
    assert "certificate revoked" in case.verify_with_crls(code=2)


def test_another_shard_is_not_accepted_for_the_leafs(case: _Case) -> None:
    case.shard(url=CRL_URL.replace("0a", "0b"))
    assert "different CRL scope" in case.verify_with_crls(code=2)


def test_openssl_reads_every_member_of_a_crl(case: _Case) -> None:
    case.shard(case.leaf.serial_number)
    text = openssl("crl", "-in", "shard.crl", "-inform", "DER", "-noout", "-text", folder=case.folder)
    for expected in (
        "X509v3 Issuing Distribution Point: critical",
        f"URI:{CRL_URL}",
        "Only User Certificates",
        "X509v3 CRL Number: \n                4095",
        "Key Compromise",
        "Invalidity Date",
    ):
        assert expected in text


def _ocsp(case: _Case, status: CertStatus, *, digest: str = "-sha256") -> str:
    """Have openssl ask, answer, and have openssl judge the answer with the nonce it asked with."""
    asked = ("-issuer", "issuing.pem", digest, "-cert", "leaf.pem", "-serial", "0x1267")
    openssl("ocsp", *asked, "-nonce", "-reqout", "request.der", folder=case.folder)
    request = parse_request((case.folder / "request.der").read_bytes())
    revoked = (
        {"revocation_date": int(_NOW.timestamp()) - 3600, "reason": 1} if status is CertStatus.REVOKED else {}
    )
    first, second = request.cert_ids
    response = build_response(
        case.authority,
        [
            SingleAnswer(first, status, _NOW, _NOW + _WEEK, **revoked),
            SingleAnswer(second, CertStatus.UNKNOWN, _NOW, _NOW + _WEEK),
        ],
        produced_at=_NOW,
        nonce=request.nonce,
        archive_cutoff=_NOW - 520 * _WEEK,
    )
    (case.folder / "response.der").write_bytes(response)
    files = (
        "-reqin",
        "request.der",
        "-respin",
        "response.der",
        "-CAfile",
        "root.pem",
        "-verify_other",
        "issuing.pem",
    )
    text = openssl("ocsp", *asked, "-no_nonce", *files, "-resp_text", folder=case.folder)
    assert "Response verify OK" in text
    assert "Nonce Verify error" not in text
    return text


@pytest.mark.parametrize("digest", ["-sha1", "-sha256"])
def test_openssl_accepts_the_answer_good_and_unknown_in_one_response(case: _Case, digest: str) -> None:
    answer = _ocsp(case, CertStatus.GOOD, digest=digest)
    assert "leaf.pem: good" in answer
    assert "0x1267: unknown" in answer
    assert "Archive Cutoff" in answer


def test_openssl_accepts_the_answer_revoked_with_its_reason_and_dates(case: _Case) -> None:
    answer = _ocsp(case, CertStatus.REVOKED)
    assert "leaf.pem: revoked" in answer
    assert "Reason: keyCompromise" in answer
    assert "Invalidity Date" in answer
    then = (_NOW - timedelta(hours=1)).strftime("%b %e %H:%M:%S %Y GMT")
    assert answer.count(then) >= 2, "revocation time and invalidity date are the same"


def test_openssl_reads_an_error_answer(tmp_path: Path) -> None:
    (tmp_path / "error.der").write_bytes(error_response(3))
    text = openssl("ocsp", "-respin", "error.der", "-resp_text", "-noverify", folder=tmp_path, code=None)
    assert "trylater (3)" in text
