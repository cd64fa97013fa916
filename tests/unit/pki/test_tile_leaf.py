"""Data tiles: written to the octet as static-ct-api says, read back, and nothing malformed is read."""

import hashlib

import pytest

from ca_service.pki.sct import precertificate_leaf
from ca_service.pki.tile_leaf import TileLeaf, encode_tile_leaf, parse_data_tile

PRINTS = (hashlib.sha256(b"issuing").digest(), hashlib.sha256(b"root").digest())


def leaf(index: int) -> bytes:
    return precertificate_leaf(1_790_000_000_000 + index, index, b"k" * 32, b"tbs" * (index + 1))


def test_an_entry_is_written_to_the_octet() -> None:
    expected = (
        (1_790_000_000_002).to_bytes(8, "big")
        + b"\x00\x01"
        + b"k" * 32
        + b"\x00\x00\x09"
        + b"tbs" * 3
        + b"\x00\x08"
        + b"\x00\x00\x05\x00\x00\x00\x00\x02"
        + b"\x00\x00\x04"
        + b"pre!"
        + b"\x00\x40"
        + PRINTS[0]
        + PRINTS[1]
    )
    assert encode_tile_leaf(leaf(2), b"pre!", PRINTS) == expected


def test_a_tile_is_read_back() -> None:
    entries = [TileLeaf(leaf(index), b"p" * (index * 40), PRINTS[: index % 3]) for index in range(256)]
    content = b"".join(encode_tile_leaf(one.leaf, one.precertificate, one.fingerprints) for one in entries)
    assert parse_data_tile(content) == entries
    assert parse_data_tile(b"") == []


def test_final_certificates_have_no_precertificate_beside_them() -> None:
    entry = b"\x00" * 8 + b"\x00\x00" + b"\x00\x00\x03der" + b"\x00\x00"
    assert parse_data_tile(entry + b"\x00\x20" + PRINTS[0]) == [
        TileLeaf(b"\x00\x00" + entry, b"", (PRINTS[0],))
    ]


def test_what_is_cut_or_altered_is_refused() -> None:
    whole = encode_tile_leaf(leaf(0), b"precertificate", PRINTS)
    for end in range(1, len(whole)):
        with pytest.raises(ValueError, match="cut short"):
            parse_data_tile(whole[:end])
    with pytest.raises(ValueError, match="unknown type 2"):
        parse_data_tile(whole[:9] + b"\x02" + whole[10:])
    odd = encode_tile_leaf(leaf(0), b"precertificate", [PRINTS[0][:-1]])
    with pytest.raises(ValueError, match="fingerprints"):
        parse_data_tile(odd)
