"""Leaves with their CRLs and OCSP answers, of every kind of authority, judged by pyhanko-certvalidator."""

import asyncio
from datetime import datetime, timedelta

import pytest
from asn1crypto import x509 as asn1
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp as pyca
from pyhanko_certvalidator import CertificateValidator, ValidationContext
from pyhanko_certvalidator.errors import InsufficientRevinfoError, RevokedError

from ca_service.pki.authority_certificates import Authority
from ca_service.pki.crl import Entry, build_crl, build_root_crl
from ca_service.pki.ocsp import CertStatus, SingleAnswer, build_response, parse_request
from ca_service.vocabulary import Serial
from tests.support.pki import AUTHORITY_KINDS, CRL_URL, NOW, authority, issue, root_key_of

_WEEK = timedelta(days=7)
_SHA1 = hashes.SHA1()  # noqa: S303 - it names an issuer here, it protects nothing
_SIGNED = NOW + timedelta(minutes=2)
_YEARS_LATER = NOW + timedelta(days=800)


def _judge(by: Authority, leaf: bytes, crls: list[bytes], ocsps: list[bytes], at: datetime = _SIGNED) -> None:
    """Validate for code signing at a moment, with only this revocation information, which is required."""
    issuing, root = (asn1.Certificate.load(der) for der in by.chain_der)
    root_crl = build_root_crl(
        by.root, root_key_of(), number=1, this_update=NOW, next_update=NOW + 200 * _WEEK
    )
    context = ValidationContext(
        trust_roots=[root],
        other_certs=[issuing],
        crls=[root_crl, *crls],
        ocsps=ocsps,
        revocation_mode="require",
        moment=at,
        allow_fetching=False,
        retroactive_revinfo=True,
        weak_hash_algos={"md5"},
    )
    validator = CertificateValidator(asn1.Certificate.load(leaf), [issuing], validation_context=context)
    usage = validator.async_validate_usage({"digital_signature"}, {"code_signing"})  # type: ignore[no-untyped-call]
    asyncio.run(usage)


def _shard(by: Authority, entries: list[Entry], at: datetime, url: str = CRL_URL) -> bytes:
    return build_crl(
        by, entries, number=5, this_update=at, next_update=at + _WEEK, url=url, expired_since=NOW
    )


def _answer(by: Authority, leaf: x509.Certificate, at: datetime, revoked: datetime | None = None) -> bytes:
    asked = pyca.OCSPRequestBuilder().add_certificate(leaf, by.certificate, _SHA1).build()
    (cert_id,) = parse_request(asked.public_bytes(Encoding.DER)).cert_ids
    status = CertStatus.GOOD if revoked is None else CertStatus.REVOKED
    single = SingleAnswer(cert_id, status, at, at + _WEEK, revoked, 1)
    return build_response(by, [single], produced_at=at, nonce=None, archive_cutoff=at - 520 * _WEEK)


@pytest.mark.parametrize("at", [NOW, _YEARS_LATER], ids=["in its life", "years later"])
@pytest.mark.parametrize("kind", AUTHORITY_KINDS)
def test_a_signature_is_accepted_by_crl_and_by_ocsp(kind: str, at: datetime) -> None:
    by = authority(kind)
    issued = issue(by)
    _judge(by, issued.der, [_shard(by, [], at)], [])
    _judge(by, issued.der, [], [_answer(by, issued.certificate, at)])


@pytest.mark.parametrize("at", [NOW, _YEARS_LATER], ids=["in its life", "years later"])
@pytest.mark.parametrize("kind", AUTHORITY_KINDS)
def test_a_revocation_holds_from_its_date_on_and_leaves_what_was_before(kind: str, at: datetime) -> None:
    by = authority(kind)
    issued = issue(by)
    date = NOW + timedelta(minutes=3)
    entry = Entry(Serial(issued.certificate.serial_number), int(date.timestamp()), 1)
    crl, answer = _shard(by, [entry], at), _answer(by, issued.certificate, at, date)
    # From an answer "revoked later" it draws no conclusion about before, so that is asked of the CRL alone.
    _judge(by, issued.der, [crl], [], at=date - timedelta(seconds=1))
    for crls, ocsps in (([crl], []), ([], [answer])):
        with pytest.raises(RevokedError) as revoked:
            _judge(by, issued.der, crls, ocsps, at=date + timedelta(seconds=1))
        assert (revoked.value.revocation_dt, revoked.value.reason.native) == (date, "key_compromise")


def test_another_shard_says_nothing_about_the_leaf() -> None:
    by = authority()
    with pytest.raises(InsufficientRevinfoError):
        _judge(by, issue(by).der, [_shard(by, [], NOW, CRL_URL.replace("0a", "0b"))], [])
