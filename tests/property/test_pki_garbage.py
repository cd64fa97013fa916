"""Bytes from strangers: any of them get an answer or the one named refusal, and soon."""

import contextlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp as pyca
from hypothesis import given, settings
from hypothesis import strategies as st

from ca_service.errors import CsrMalformed, ProofInvalid, PublicKeyMalformed, PublicKeyRefused
from ca_service.pki.keys import KINDS, read_csr, read_public_key, spki_der
from ca_service.pki.ocsp import OcspMalformed, OcspRequest, parse_request
from ca_service.pki.sct import encode_sct, parse_sct_list
from ca_service.vocabulary import LogId
from tests.support.pki import authority, issue, sct_list
from tests.support.signing import csr_pem, new_key, public_pem

_ALL = frozenset(KINDS)
_KEYS = [new_key(kind) for kind in ("ecdsa-p256", "ecdsa-p521", "rsa-2048", "ed25519")]
_CSRS = [csr_pem(key) for key in _KEYS]


def _ocsp_request() -> bytes:
    builder = pyca.OCSPRequestBuilder().add_certificate(
        issue().certificate, authority().certificate, hashes.SHA256()
    )
    return builder.add_extension(x509.OCSPNonce(b"n" * 16), critical=False).build().public_bytes(Encoding.DER)


@st.composite
def _damaged(draw: st.DrawFn, honest: list[bytes]) -> bytes:
    """An honest input with a few octets changed, cut out or put in: garbage that gets far."""
    data = bytearray(draw(st.sampled_from(honest)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        cut = draw(st.integers(0, 3))
        data[at : at + cut] = draw(st.binary(max_size=3))
    return bytes(data)


@settings(max_examples=600)
@given(st.binary(max_size=300) | _damaged([spki_der(key.public_key()) for key in _KEYS]))
def test_any_bytes_are_a_key_or_refused_by_name(content: bytes) -> None:
    with contextlib.suppress(PublicKeyMalformed, PublicKeyRefused):
        assert read_public_key(content, _ALL).kind in KINDS


@settings(max_examples=300)
@given(st.binary(max_size=300) | _damaged([public_pem(key).encode() for key in _KEYS]))
def test_any_text_is_a_key_or_refused_by_name(content: bytes) -> None:
    with contextlib.suppress(PublicKeyMalformed, PublicKeyRefused):
        assert read_public_key(content, _ALL).kind in KINDS


@settings(max_examples=600)
@given(
    st.binary(max_size=300)
    | _damaged(_CSRS)
    | _damaged([x509.load_pem_x509_csr(request).public_bytes(Encoding.DER) for request in _CSRS])
)
def test_any_bytes_are_a_request_or_refused_by_name(content: bytes) -> None:
    with contextlib.suppress(CsrMalformed, ProofInvalid, PublicKeyMalformed, PublicKeyRefused):
        assert read_csr(content, _ALL).kind in KINDS


@settings(max_examples=1000)
@given(st.binary(max_size=300) | _damaged([_ocsp_request()]))
def test_any_bytes_are_a_status_request_or_malformed(content: bytes) -> None:
    with contextlib.suppress(OcspMalformed):
        asked = parse_request(content)
        assert isinstance(asked, OcspRequest)
        assert all(each.der in content for each in asked.cert_ids)


@settings(max_examples=300)
@given(st.binary(max_size=100) | _damaged([sct_list(authority(), issue().precertificate)]))
def test_any_bytes_are_an_sct_list_or_a_value_error(content: bytes) -> None:
    with contextlib.suppress(ValueError):
        for sct in parse_sct_list(content):
            assert encode_sct(LogId(sct.log_id), sct.timestamp, sct.extensions, sct.signature) in content


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "pattern", [b"\x30\x80", b"\x30\x84\x7f\xff\xff\xff", b"-----BEGIN A-----", b"0", b"\n", b"\xa0"]
)
def test_megabytes_are_refused_at_once(pattern: bytes) -> None:
    content = pattern * (8_000_000 // len(pattern))
    for read, refusal in (
        (lambda: read_public_key(content, _ALL), PublicKeyMalformed),
        (lambda: read_csr(content, _ALL), CsrMalformed),
        (lambda: parse_request(content), OcspMalformed),
    ):
        with pytest.raises(refusal):
            read()


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "pattern", [b"\x30\x00", b"\x30\x80", b"-----BEGIN A-----", b"-----BEGIN A-----A", b"\xa0\x01\x00"]
)
def test_the_largest_input_that_is_read_takes_no_time_either(pattern: bytes) -> None:
    content = (pattern * 16_384)[: 16 * 1024]
    for opening in (b"", b"\x30\x82\x3f\xfc"):
        whole = (opening + content)[: 16 * 1024]
        with contextlib.suppress(PublicKeyMalformed, PublicKeyRefused):
            read_public_key(whole, _ALL)
        with contextlib.suppress(CsrMalformed):
            read_csr(whole, _ALL)
        with contextlib.suppress(OcspMalformed):
            parse_request(whole * 4)
