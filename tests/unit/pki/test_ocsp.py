"""OCSP requests are read to the letter, and responses say exactly what was asked and decided."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp as pyca

from ca_service.pki import der, ocsp
from tests.support.pki import AUTHORITY_KINDS, NOW, authority, issue, signing_key

_NEXT = NOW + timedelta(days=4)
_SHA1 = hashes.SHA1()  # noqa: S303 - it names an issuer here, it protects nothing
_CUTOFF = NOW - timedelta(days=3653)


def _request(nonce: bytes | None = None, algorithm: hashes.HashAlgorithm | None = None) -> bytes:
    builder = pyca.OCSPRequestBuilder().add_certificate(
        issue().certificate,
        authority().certificate,
        algorithm or hashes.SHA256(),
    )
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


def _cert_id(serial: int = 5, algorithm: bytes | None = None) -> bytes:
    sha256 = der.sequence(der.oid("2.16.840.1.101.3.4.2.1"))
    return der.sequence(
        algorithm or sha256, der.octet_string(b"n" * 32), der.octet_string(b"k" * 32), der.integer(serial)
    )


def _ask(*cert_ids: bytes, before: bytes = b"", extensions: bytes = b"", after: bytes = b"") -> bytes:
    entries = der.sequence(*(der.sequence(cert_id) for cert_id in cert_ids))
    wrapped = der.explicit(2, der.sequence(extensions)) if extensions else b""
    return der.sequence(der.sequence(before, entries, wrapped), after)


def _nonce(content: bytes) -> bytes:
    return der.extension("1.3.6.1.5.5.7.48.1.2", der.octet_string(content))


# -- requests ----------------------------------------------------------------------------------------


def test_a_request_is_read_as_its_maker_meant_it() -> None:
    leaf = issue().certificate
    for algorithm, name in (
        (_SHA1, "sha1"),
        (hashes.SHA256(), "sha256"),
        (hashes.SHA384(), "sha384"),
    ):
        builder = pyca.OCSPRequestBuilder().add_certificate(leaf, authority().certificate, algorithm)
        made = builder.build()
        (cert_id,) = ocsp.parse_request(made.public_bytes(Encoding.DER)).cert_ids
        assert cert_id.hash_name == name
        assert cert_id.serial == leaf.serial_number
        assert (cert_id.issuer_name_hash, cert_id.issuer_key_hash) == (
            made.issuer_name_hash,
            made.issuer_key_hash,
        )
        assert cert_id.issuer_name_hash == hashlib.new(name, authority().subject_der).digest()


def test_many_certificates_are_read_in_their_order_and_echoed_as_sent() -> None:
    sent = [_cert_id(serial, der.sequence(der.oid("1.3.14.3.2.26"), der.NULL)) for serial in range(1, 33)]
    asked = ocsp.parse_request(_ask(*sent))
    assert [each.der for each in asked.cert_ids] == sent
    assert {each.hash_name for each in asked.cert_ids} == {"sha1"}


def test_hashes_that_are_not_answered_are_reported_all_the_same() -> None:
    md5 = _cert_id(algorithm=der.sequence(der.oid("1.2.840.113549.2.5"), der.NULL))
    odd = _cert_id(algorithm=der.sequence(der.oid("1.2.3.4")))
    assert [each.hash_name for each in ocsp.parse_request(_ask(md5, odd)).cert_ids] == ["md5", "1.2.3.4"]


def test_requestor_name_version_signature_and_known_extensions_are_read_over() -> None:
    before = der.explicit(0, der.integer(0)) + der.explicit(1, der.explicit(4, der.EMPTY_SEQUENCE))
    responses = der.extension(
        "1.3.6.1.5.5.7.48.1.4", der.sequence(der.oid("1.3.6.1.5.5.7.48.1.1")), critical=True
    )
    unknown = der.extension("1.2.3.4", der.NULL)
    signature = der.explicit(0, der.sequence(der.EMPTY_SEQUENCE, der.bit_string(b"")))
    asked = ocsp.parse_request(
        _ask(_cert_id(), before=before, extensions=responses + unknown, after=signature)
    )
    assert len(asked.cert_ids) == 1


@pytest.mark.parametrize("octets", [1, 16, 32, 128])
def test_nonces_of_1_to_128_octets_are_taken(octets: int) -> None:
    assert ocsp.parse_request(_request(b"\x01" * octets)).nonce == b"\x01" * octets


_UNKNOWN_CRITICAL = der.extension("1.2.3.4", der.NULL, critical=True)


@pytest.mark.parametrize(
    ("request_der", "reason"),
    [
        (b"", "DER"),
        (b"\x30\x00", "missing"),
        (_ask(), "names 0 certificates"),
        (_ask(*[_cert_id()] * 33), "names 33 certificates"),
        (b"\x30" * (64 * 1024 + 1), "65537 bytes"),
        (_ask(_cert_id(), before=der.explicit(0, der.integer(1))), "version"),
        (_ask(_cert_id(), extensions=_nonce(b"")), "0 octets"),
        (_ask(_cert_id(), extensions=_nonce(b"n" * 129)), "129 octets"),
        (_ask(_cert_id(), extensions=_nonce(b"n" * 16) + _nonce(b"m" * 16)), "twice"),
        (_ask(_cert_id(), extensions=der.extension("1.3.6.1.5.5.7.48.1.2", b"raw")), "DER"),
        (_ask(_cert_id(), extensions=_UNKNOWN_CRITICAL), "critical and not known"),
        (_ask(_cert_id(2**160)), "more than 20 octets"),
        (_ask(_cert_id()) + b"\x00", "follow"),
        (_ask(_cert_id(), after=der.NULL), "unexpected"),
        (_ask(_cert_id(), before=der.sequence()), "DER|unexpected"),
        (
            der.sequence(
                der.sequence(
                    der.sequence(der.sequence(_cert_id(), der.explicit(0, der.sequence(_UNKNOWN_CRITICAL))))
                )
            ),
            "critical and not known",
        ),
    ],
)
def test_what_cannot_be_answered_is_malformed_for_its_reason(request_der: bytes, reason: str) -> None:
    with pytest.raises(ocsp.OcspMalformed, match=reason):
        ocsp.parse_request(request_der)


# -- responses ---------------------------------------------------------------------------------------


def _answer(request: bytes, status: ocsp.CertStatus, **members: Any) -> list[ocsp.SingleAnswer]:
    return [
        ocsp.SingleAnswer(each, status, NOW, _NEXT, **members)
        for each in ocsp.parse_request(request).cert_ids
    ]


def _respond(answers: list[ocsp.SingleAnswer], kind: str = "ecdsa-p256", nonce: bytes | None = None) -> bytes:
    return ocsp.build_response(authority(kind), answers, produced_at=NOW, nonce=nonce, archive_cutoff=_CUTOFF)


@pytest.mark.parametrize("kind", AUTHORITY_KINDS)
def test_a_good_answer_is_signed_by_the_authority_itself_and_named_by_key(kind: str) -> None:
    request = _request()
    response = pyca.load_der_ocsp_response(_respond(_answer(request, ocsp.CertStatus.GOOD), kind))
    assert response.response_status is pyca.OCSPResponseStatus.SUCCESSFUL
    assert response.certificate_status is pyca.OCSPCertStatus.GOOD
    assert (response.produced_at_utc, response.this_update_utc, response.next_update_utc) == (NOW, NOW, _NEXT)
    assert response.certificates == [authority(kind).certificate]
    ski = x509.SubjectKeyIdentifier.from_public_key(
        authority(kind).certificate.public_key()
    )  # SHA-1 of the bits
    assert (response.responder_name, response.responder_key_hash) == (None, ski.digest)
    assert response.serial_number == pyca.load_der_ocsp_request(request).serial_number
    signed_by: Any = authority(kind).certificate.public_key()
    algorithm: Any = response.signature_hash_algorithm
    how = (PKCS1v15(), algorithm) if kind == "rsa-2048" else (ECDSA(algorithm),)
    signed_by.verify(response.signature, response.tbs_response_bytes, *how)


def _single_extensions(response: pyca.OCSPResponse) -> dict[str, bytes]:
    return {each.oid.dotted_string: each.value.public_bytes() for each in response.single_extensions}


_ARCHIVE_CUTOFF, _INVALIDITY_DATE = "1.3.6.1.5.5.7.48.1.6", "2.5.29.24"


def test_archive_cutoff_stands_in_answers_about_what_was_issued() -> None:
    good = pyca.load_der_ocsp_response(_respond(_answer(_request(), ocsp.CertStatus.GOOD)))
    assert _single_extensions(good) == {_ARCHIVE_CUTOFF: b"\x18\x0f20161122080000Z"}
    unknown = pyca.load_der_ocsp_response(_respond(_answer(_request(), ocsp.CertStatus.UNKNOWN)))
    assert unknown.certificate_status is pyca.OCSPCertStatus.UNKNOWN
    assert _single_extensions(unknown) == {}


def test_a_revoked_answer_has_date_reason_and_equal_invalidity_date() -> None:
    when = int(NOW.timestamp()) - 3600
    answers = _answer(_request(), ocsp.CertStatus.REVOKED, revocation_date=when, reason=1)
    response = pyca.load_der_ocsp_response(_respond(answers))
    assert response.revocation_time_utc == datetime.fromtimestamp(when, UTC)
    assert response.revocation_reason is x509.ReasonFlags.key_compromise
    assert _single_extensions(response)[_INVALIDITY_DATE] == b"\x18\x0f20261123070000Z"
    plain = _answer(_request(), ocsp.CertStatus.REVOKED, revocation_date=when)
    assert pyca.load_der_ocsp_response(_respond(plain)).revocation_reason is None


def test_the_nonce_comes_back_as_it_was_sent() -> None:
    nonce = ocsp.parse_request(_request(b"n" * 32)).nonce
    response = pyca.load_der_ocsp_response(_respond(_answer(_request(), ocsp.CertStatus.GOOD), nonce=nonce))
    assert response.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == b"n" * 32
    without = pyca.load_der_ocsp_response(_respond(_answer(_request(), ocsp.CertStatus.GOOD)))
    assert list(without.extensions) == []


def test_every_certificate_asked_for_gets_its_answer_with_the_name_it_was_asked_by() -> None:
    request = _ask(_cert_id(1), _cert_id(2), _cert_id(3))
    answers = [
        ocsp.SingleAnswer(cert_id, ocsp.CertStatus.GOOD, NOW, _NEXT)
        for cert_id in ocsp.parse_request(request).cert_ids
    ]
    response = pyca.load_der_ocsp_response(_respond(answers))
    assert [single.serial_number for single in response.responses] == [1, 2, 3]
    assert _cert_id(2) in _respond(answers)


def test_a_delegated_signer_sends_its_certificate_and_names_itself() -> None:
    key = signing_key("ecdsa-p256", "responder")
    certificate = authority(name="Responder").certificate  # any certificate will do for the form
    signer = ocsp.DelegatedSigner(certificate, key)
    answers = _answer(_request(), ocsp.CertStatus.GOOD)
    der_response = ocsp.build_response(signer, answers, produced_at=NOW, nonce=None, archive_cutoff=None)
    response = pyca.load_der_ocsp_response(der_response)
    assert response.certificates == [certificate]
    ski = x509.SubjectKeyIdentifier.from_public_key(certificate.public_key())
    assert response.responder_key_hash == ski.digest


def test_revoked_without_a_date_and_a_date_without_revoked_cannot_be_said() -> None:
    with pytest.raises(ValueError, match="goes with"):
        _answer(_request(), ocsp.CertStatus.REVOKED)
    with pytest.raises(ValueError, match="goes with"):
        _answer(_request(), ocsp.CertStatus.GOOD, revocation_date=5)


@pytest.mark.parametrize("status", list(ocsp.ErrorStatus))
def test_errors_are_unsigned_and_say_only_their_status(status: ocsp.ErrorStatus) -> None:
    assert ocsp.error_response(status) == bytes((0x30, 0x03, 0x0A, 0x01, status))
    assert pyca.load_der_ocsp_response(ocsp.error_response(status)).response_status.value == status


def test_success_is_no_error_status() -> None:
    with pytest.raises(ValueError, match="0 is not a valid"):
        ocsp.error_response(0)
