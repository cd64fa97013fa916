"""What the inspection reads of a logged leaf is what the certificate says, and nothing else is read."""

import hashlib
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from ca_service.pki.logged import (
    poisoned,
    read_certificate,
    read_leaf,
    signature_beside,
    signature_of,
    signature_verifier,
)
from ca_service.pki.precertificates import beside_tbs
from ca_service.pki.profile import build_precertificate
from ca_service.pki.sct import precertificate_leaf
from ca_service.pki.signatures import algorithm_identifier
from ca_service.vocabulary import format_serial
from tests.property.test_pki_profile import _LEAVES
from tests.support.pki import AUTHORITY_KINDS, authority, leaf_profile


@settings(max_examples=150)
@given(_LEAVES, st.sampled_from(AUTHORITY_KINDS), st.integers(0, 2**40 - 1))
def test_a_logged_leaf_is_read_as_it_was_written(leaf: dict[str, Any], kind: str, index: int) -> None:
    by = authority(kind)
    leaf["not_after"] = leaf["not_before"] + timedelta(minutes=10)
    profile = leaf_profile(**leaf)
    precertificate = build_precertificate(by, profile)
    read = read_leaf(precertificate_leaf(1234567, index, by.issuer_key_hash, precertificate.tbs))
    assert read == (1234567, by.issuer_key_hash, precertificate.tbs, index)

    certificate = read_certificate(read.tbs)
    assert tuple(certificate) == (
        bytes.fromhex(format_serial(profile.serial)),
        int(profile.not_before.timestamp()),
        int(profile.not_after.timestamp()),
        hashlib.sha256(profile.spki).digest(),
        profile.subject.kind,
        profile.subject.value,
        by.key_id,
        profile.crl_url,
        profile.extensions.get("issuer", ""),
        algorithm_identifier(by.private_key),
        certificate.extensions,
    )
    message = poisoned(read.tbs, certificate.extensions)
    assert message == x509.load_der_x509_certificate(precertificate.der).tbs_certificate_bytes
    verify = signature_verifier(by.certificate.public_key())
    signature = signature_of(precertificate.der, message)
    assert signature == signature_beside(beside_tbs(precertificate.der, read.tbs), certificate.algorithm)
    verify(signature, message)
    with pytest.raises(ValueError, match="does not verify"):
        verify(signature, message + b"\0")


@settings(max_examples=300)
@given(st.floats(0, 1, exclude_max=True), st.none() | st.integers(0, 255))
def test_what_is_cut_or_changed_is_read_as_something_or_refused(where: float, octet: int | None) -> None:
    tbs = build_precertificate(authority(), leaf_profile()).tbs
    place = int(where * len(tbs))
    broken = tbs[:place] if octet is None else tbs[:place] + bytes((octet,)) + tbs[place + 1 :]
    try:
        poisoned(broken, read_certificate(broken).extensions)
    except ValueError:
        assert broken != tbs
