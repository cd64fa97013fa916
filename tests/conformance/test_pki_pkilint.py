"""Everything we sign, judged by pkilint against RFC 5280 and RFC 6960: not one finding above notice."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from pkilint import loader, pkix, report, validation
from pkilint.pkix import certificate, crl, extension, name, ocsp

from ca_service.pki.crl import Entry, build_crl, build_root_crl
from ca_service.pki.ocsp import CertId, CertStatus, SingleAnswer, build_response, parse_request
from ca_service.vocabulary import RevocationReason, Serial, SubjectKind, SubjectName
from tests.support.pki import AUTHORITY_KINDS, CRL_URL, NOW, authority, issue, root_key_of
from tests.support.verifier import openssl

_WEEK = timedelta(days=7)


def _certificate_linter() -> Any:
    decoders = certificate.create_decoding_validators(
        name.ATTRIBUTE_TYPE_MAPPINGS, extension.EXTENSION_MAPPINGS
    )
    parts = [
        certificate.create_issuer_validator_container([]),
        certificate.create_validity_validator_container(),
        certificate.create_subject_validator_container([]),
        certificate.create_extensions_validator_container([]),
        certificate.create_spki_validator_container([]),
    ]
    return certificate.create_pkix_certificate_validator_container(decoders, parts)


def _crl_linter() -> Any:
    parts = [
        crl.create_issuer_validator_container([]),
        crl.create_validity_validator_container([]),
        crl.create_extensions_validator_container([]),
    ]
    return crl.create_pkix_crl_validator_container(_decoders(), parts)


def _ocsp_linter() -> Any:
    return ocsp.create_pkix_ocsp_response_validator_container(
        [ocsp.create_response_decoder(), *_decoders()], []
    )


def _decoders() -> list[Any]:
    return [
        pkix.create_attribute_decoder(name.ATTRIBUTE_TYPE_MAPPINGS),
        pkix.create_extension_decoder(extension.EXTENSION_MAPPINGS),
    ]


# The linters of pkilint's programs lint_pkix_cert, lint_crl and lint_ocsp_response.
_LINTERS = {
    "certificate": (loader.RFC5280CertificateDocumentLoader(), _certificate_linter()),
    "crl": (loader.RFC5280CertificateListDocumentLoader(), _crl_linter()),
    "ocsp": (loader.RFC6960OCSPResponseDocumentLoader(), _ocsp_linter()),
}


def lint(kind: str, der: bytes) -> None:
    """AssertionError with the findings, if there is one of warning or worse."""
    reader, linter = _LINTERS[kind]
    results = linter.validate(reader.load_document(der, kind).root)
    assert report.get_findings_count(results, validation.ValidationFindingSeverity.WARNING) == 0, (
        report.ReportGeneratorPlaintext(results, validation.ValidationFindingSeverity.WARNING).generate()
    )


@pytest.mark.parametrize("kind", AUTHORITY_KINDS)
def test_certificates_have_no_finding(kind: str) -> None:
    issued = issue(authority(kind))
    for der in (issued.der, issued.precertificate.der, *authority(kind).chain_der):
        lint("certificate", der)


@pytest.mark.parametrize(
    "subject",
    [
        SubjectName(SubjectKind.URI, "https://example.com/x"),
        SubjectName(SubjectKind.USERNAME, "ada!example.com"),
    ],
)
def test_leaves_with_other_names_have_no_finding(subject: SubjectName) -> None:
    lint("certificate", issue(subject=subject).der)


@pytest.mark.parametrize("kind", AUTHORITY_KINDS)
def test_crls_have_no_finding(kind: str) -> None:
    by = authority(kind)
    entries = [
        Entry(Serial(index + 1), int(NOW.timestamp()) - index, reason.number)
        for index, reason in enumerate(RevocationReason)
    ]
    for listed in (entries, []):
        shard = build_crl(
            by, listed, number=7, this_update=NOW, next_update=NOW + _WEEK, url=CRL_URL, expired_since=NOW
        )
        lint("crl", shard)
    root_crl = build_root_crl(by.root, root_key_of(), number=1, this_update=NOW, next_update=NOW + 52 * _WEEK)
    lint("crl", root_crl)


@pytest.mark.parametrize("kind", AUTHORITY_KINDS)
def test_ocsp_responses_have_no_finding(kind: str, tmp_path: Path) -> None:
    by = authority(kind)
    for role, pem in (("leaf", issue(by).pem), ("issuing", by.certificate.public_bytes(Encoding.PEM))):
        (tmp_path / f"{role}.pem").write_bytes(pem)
    openssl(
        *("ocsp", "-issuer", "issuing.pem", "-cert", "leaf.pem", "-nonce", "-reqout", "request.der"),
        folder=tmp_path,
    )
    request = parse_request((tmp_path / "request.der").read_bytes())
    for answer in _answers(request.cert_ids[0]):
        response = build_response(
            by, [answer], produced_at=NOW, nonce=request.nonce, archive_cutoff=NOW - 520 * _WEEK
        )
        lint("ocsp", response)


def _answers(cert_id: CertId) -> list[SingleAnswer]:
    revoked = int(NOW.timestamp()) - 3600
    return [
        SingleAnswer(cert_id, CertStatus.GOOD, NOW, NOW + _WEEK),
        SingleAnswer(cert_id, CertStatus.REVOKED, NOW, NOW + _WEEK, revoked, 1),
        SingleAnswer(cert_id, CertStatus.REVOKED, NOW, NOW + _WEEK, revoked),
        SingleAnswer(cert_id, CertStatus.UNKNOWN, NOW, NOW + _WEEK),
    ]


def test_the_linter_does_find_faults() -> None:
    """A leaf whose CRL has no URL: otherwise the tests above could pass without judging."""
    with pytest.raises(AssertionError, match="ERROR"):
        lint("certificate", issue(crl_url="no URL at all").der)
