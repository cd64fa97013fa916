"""Timestamps: their bytes are RFC 6962's, and only a log's own signature over this certificate passes."""

import struct

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca_service.pki import sct
from ca_service.pki.profile import build_certificate
from tests.support.pki import NOW_MS, authority, issue, log_key, public_good, sct_list, signing_key


def test_a_certificate_of_the_public_good_instance_verifies_with_its_logs_key() -> None:
    leaf, chain, ctfe = public_good()
    found = sct.verify_sct(leaf, chain[0], ctfe)
    assert found.timestamp == 1710888075966
    assert found.leaf_index is None


def test_a_certificate_of_another_issuer_key_or_another_certificate_does_not_verify() -> None:
    leaf, chain, ctfe = public_good()
    with pytest.raises(ValueError, match="does not verify"):
        sct.verify_sct(leaf, chain[1], ctfe)
    swapped = leaf.public_bytes(Encoding.DER).replace(b"release.yml", b"release.yaml"[:11], 1)
    with pytest.raises(ValueError, match="does not verify"):
        sct.verify_sct(x509.load_der_x509_certificate(swapped), chain[0], ctfe)


@pytest.mark.parametrize("kind", ["ecdsa-p256", "ecdsa-p384", "rsa-2048"])
def test_our_certificates_verify_under_authorities_of_every_kind_and_tell_their_index(kind: str) -> None:
    issued = issue(authority(kind))
    found = sct.verify_sct(issued.certificate, authority(kind).certificate, log_key().public_key())
    assert (found.leaf_index, found.timestamp) == (7, NOW_MS)


def test_a_log_that_did_not_sign_is_not_believed() -> None:
    issued, stranger = issue(), signing_key("ecdsa-p256", "another log")
    with pytest.raises(ValueError, match="no timestamp of the log"):
        sct.verify_sct(issued.certificate, authority().certificate, stranger.public_key())


def test_every_changed_bit_of_the_signed_fields_is_noticed() -> None:
    issued = issue()
    original = sct_list(authority(), issued.precertificate)
    for octet in (37, 44, 52, len(original) - 1):  # timestamp, its end, leaf index, signature
        changed = bytearray(original)
        changed[octet] ^= 1
        der = build_certificate(authority(), issued.precertificate, bytes(changed))
        with pytest.raises(ValueError, match=r"timestamp|signature|SCT"):
            sct.verify_sct(
                x509.load_der_x509_certificate(der), authority().certificate, log_key().public_key()
            )


def test_the_leaf_is_a_merkle_tree_leaf_field_by_field() -> None:
    leaf = sct.precertificate_leaf(NOW_MS, 0x0102030405, b"h" * 32, b"t" * 300)
    assert leaf == (
        b"\x00\x00" + struct.pack(">Q", NOW_MS) + b"\x00\x01" + b"h" * 32 + b"\x00\x01\x2c" + b"t" * 300
        + b"\x00\x08\x00\x00\x05\x01\x02\x03\x04\x05"
    )  # fmt: skip


def test_an_index_beyond_forty_bits_is_an_error() -> None:
    with pytest.raises(OverflowError):
        sct.leaf_index_extensions(1 << 40)


def test_lists_round_trip_and_broken_ones_are_refused() -> None:
    one = sct.encode_sct(sct.log_id_of(log_key().public_key()), 5, b"", b"\x04\x03\x00\x02ab")
    encoded = sct.encode_sct_list([one, one])
    assert [each.timestamp for each in sct.parse_sct_list(encoded)] == [5, 5]
    assert sct.parse_sct_list(b"\x00\x00") == []
    for end in range(len(encoded)):
        with pytest.raises(ValueError, match="SCT"):
            sct.parse_sct_list(encoded[:end])
    with pytest.raises(ValueError, match="follow"):
        sct.parse_sct_list(encoded + b"\x00")
    with pytest.raises(ValueError, match="version"):
        sct.parse_sct_list(sct.encode_sct_list([b"\x01" + one[1:]]))


def test_a_certificate_without_timestamps_has_none() -> None:
    assert sct.scts_of(authority().certificate) == []


def test_extra_data_is_the_precertificate_and_its_chain() -> None:
    assert sct.precertificate_extra_data(b"pre", [b"ca", b"r"]) == (
        b"\x00\x00\x03pre" + b"\x00\x00\x09" + b"\x00\x00\x02ca" + b"\x00\x00\x01r"
    )


def test_an_rsa_log_signs_with_its_own_algorithm_number() -> None:
    key = signing_key("rsa-2048", "rsa log")
    signature = sct.digitally_sign(key, b"message")
    assert signature[:4] == b"\x04\x01\x01\x00"
    assert len(signature) == 4 + 256
