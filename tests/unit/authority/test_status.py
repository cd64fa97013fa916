"""OCSP says good only of what was issued here, revoked at once, and nothing when it cannot know."""

from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from ca_service.authority.status import StatusResponder
from ca_service.errors import SignerUnavailable, StoreUnavailable
from ca_service.pki.authority_certificates import Authority
from ca_service.pki.ocsp import DelegatedSigner, create_delegate
from ca_service.store.revocations import SqlRevocations
from ca_service.vocabulary import KeyId
from tests.unit.authority.conftest import SmallAuthority


def question(
    certificate: x509.Certificate,
    issuer: x509.Certificate,
    *,
    algorithm: HashAlgorithm | None = None,
    nonce: bytes | None = None,
) -> bytes:
    builder = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, algorithm or SHA256())
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


def asked(small: SmallAuthority, request: bytes) -> ocsp.OCSPResponse:
    return ocsp.load_der_ocsp_response(small.responder.respond(request).der)


@pytest.mark.parametrize("algorithm", [SHA1(), SHA256()], ids=lambda each: each.name)  # noqa: S303 - older clients name certificates so
def test_good_then_revoked_at_once(small: SmallAuthority, algorithm: HashAlgorithm) -> None:
    certificate = small.issue()
    request = question(certificate, small.authority.certificate, algorithm=algorithm)
    assert asked(small, request).certificate_status is ocsp.OCSPCertStatus.GOOD
    assert asked(small, request).certificate_status is ocsp.OCSPCertStatus.GOOD
    small.revoke(certificate)
    answer = asked(small, request)
    assert answer.certificate_status is ocsp.OCSPCertStatus.REVOKED
    assert answer.revocation_time_utc == certificate.not_valid_before_utc
    assert answer.revocation_reason is x509.ReasonFlags.key_compromise


def test_a_second_answer_is_the_same_bytes_until_something_is_revoked(small: SmallAuthority) -> None:
    certificate, other = small.issue(), small.issue()
    request = question(certificate, small.authority.certificate)
    first = small.responder.respond(request)
    assert small.responder.respond(request) is first
    small.revoke(other)
    assert small.responder.respond(request) is not first


def test_a_serial_never_issued_is_unknown_and_not_remembered(small: SmallAuthority) -> None:
    serial = 0x1234567890ABCDEF
    request = (
        ocsp.OCSPRequestBuilder()
        .add_certificate_by_hash(*_hashes(small), serial, SHA256())
        .build()
        .public_bytes(Encoding.DER)
    )
    answer = small.responder.respond(request)
    assert not answer.cacheable
    assert ocsp.load_der_ocsp_response(answer.der).certificate_status is ocsp.OCSPCertStatus.UNKNOWN


def test_another_authoritys_certificate_is_unauthorized(small: SmallAuthority) -> None:
    request = question(small.issue(), small.authority.root)
    assert asked(small, request).response_status is ocsp.OCSPResponseStatus.UNAUTHORIZED


def test_whose_a_certificate_is_cannot_be_told_while_a_key_in_use_is_missing(small: SmallAuthority) -> None:
    request = question(small.issue(), small.authority.root)
    small.give_lists_to(KeyId("0" * 40))
    assert asked(small, request).response_status is ocsp.OCSPResponseStatus.TRY_LATER
    assert small.responder.respond(request).later, "so that a proxy asks another node"


def test_a_nonce_is_repeated_and_its_answer_kept_by_nobody(small: SmallAuthority) -> None:
    request = question(small.issue(), small.authority.certificate, nonce=b"n" * 32)
    answer = small.responder.respond(request)
    assert not answer.cacheable
    repeated = ocsp.load_der_ocsp_response(answer.der).extensions.get_extension_for_class(x509.OCSPNonce)
    assert repeated.value.nonce == b"n" * 32


def test_an_unreadable_store_is_try_later_even_for_what_was_cached(
    small: SmallAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = question(small.issue(), small.authority.certificate)
    assert asked(small, request).certificate_status is ocsp.OCSPCertStatus.GOOD

    def unreadable(self: SqlRevocations) -> int:
        raise StoreUnavailable("the disk is gone")

    monkeypatch.setattr(SqlRevocations, "generation", unreadable)
    assert asked(small, request).response_status is ocsp.OCSPResponseStatus.TRY_LATER


@pytest.mark.parametrize("junk", [b"", b"\x30", b"\x30\x80\x00\x00", b"x" * 70_000])
def test_junk_is_a_malformed_request(small: SmallAuthority, junk: bytes) -> None:
    assert asked(small, junk).response_status is ocsp.OCSPResponseStatus.MALFORMED_REQUEST


def test_the_signature_verifies_with_the_issuing_key(small: SmallAuthority) -> None:
    answer = asked(small, question(small.issue(), small.authority.certificate))
    key = small.authority.certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(answer.signature, answer.tbs_response_bytes, ec.ECDSA(SHA256()))


def test_the_cache_stays_within_its_size(small: SmallAuthority) -> None:
    from dataclasses import replace

    responder: StatusResponder = small.responder
    responder._policy = replace(responder._policy, cache_size=2)
    for _ in range(4):
        responder.respond(question(small.issue(), small.authority.certificate))
    assert len(responder._cache) == 2


def _hashes(small: SmallAuthority) -> tuple[bytes, bytes]:
    request = ocsp.load_der_ocsp_request(question(small.issue(), small.authority.certificate))
    return request.issuer_name_hash, request.issuer_key_hash


def test_no_answer_of_a_delegate_holds_longer_than_its_certificate(small: SmallAuthority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    founded = datetime.fromtimestamp(small.clock.seconds, UTC)
    certificate = create_delegate(small.authority, key.public_key(), not_before=founded, serial=77)
    small.responder._signer_of = lambda _: DelegatedSigner(certificate, key)
    request = question(small.issue(), small.authority.certificate)
    small.clock.seconds = int(certificate.not_valid_after_utc.timestamp()) - 30
    answer = small.responder.respond(request)
    response = ocsp.load_der_ocsp_response(answer.der)
    assert response.next_update_utc == certificate.not_valid_after_utc
    assert response.certificates == [certificate]
    key.public_key().verify(response.signature, response.tbs_response_bytes, ec.ECDSA(SHA256()))
    assert answer.max_age < 30, "nor is it kept longer by a cache"
    assert small.responder.respond(request) is answer
    small.clock.seconds += 30
    assert small.responder.respond(request) is not answer


def test_without_a_signer_the_answer_is_try_later(small: SmallAuthority) -> None:
    def nobody(_: Authority) -> DelegatedSigner:
        raise SignerUnavailable("the disk is full")

    small.responder._signer_of = nobody
    request = question(small.issue(), small.authority.certificate)
    assert asked(small, request).response_status is ocsp.OCSPResponseStatus.TRY_LATER


def test_a_revoked_answer_of_the_second_of_a_good_one_is_not_told_apart_by_its_date(
    small: SmallAuthority,
) -> None:
    certificate = small.issue()
    request = question(certificate, small.authority.certificate)
    good = small.responder.respond(request)
    small.revoke(certificate)
    revoked = small.responder.respond(request)
    assert good.produced_at == revoked.produced_at
    assert (good.dated, revoked.dated) == (True, False)
    small.clock.seconds += 301
    assert small.responder.respond(request).dated
