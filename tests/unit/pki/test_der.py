"""The DER writer writes what X.690 says, and the reader takes nothing else."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from ca_service.pki import der


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (0, "00"),
        (127, "7f"),
        (128, "8180"),
        (255, "81ff"),
        (256, "820100"),
        (65535, "82ffff"),
        (65536, "83010000"),
    ],
)
def test_lengths_are_in_their_shortest_form(octets: int, expected: str) -> None:
    assert der.length(octets).hex() == expected


@pytest.mark.parametrize(
    ("dotted", "expected"),
    [
        ("1.2.840.10045.4.3.2", "06082a8648ce3d040302"),
        ("2.5.29.17", "0603551d11"),
        ("1.3.6.1.4.1.57264.1.8", "060a2b0601040183bf300108"),
        ("2.999.3", "0603883703"),
    ],
)
def test_object_identifiers_match_published_encodings_both_ways(dotted: str, expected: str) -> None:
    assert der.oid(dotted).hex() == expected
    assert der.dotted(bytes.fromhex(expected)[2:]) == dotted


def test_integers_stay_positive() -> None:
    assert der.integer(0).hex() == "020100"
    assert der.integer(127).hex() == "02017f"
    assert der.integer(128).hex() == "02020080"


def test_times_change_their_form_with_2050_and_are_in_utc_with_whole_seconds() -> None:
    last = datetime(2049, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
    assert der.time(last) == b"\x17\x0d491231235959Z"
    assert der.time(last + timedelta(seconds=1)) == b"\x18\x0f20500101000000Z"
    elsewhere = datetime(2026, 11, 23, 9, 0, tzinfo=timezone(timedelta(hours=1)))
    assert der.time(elsewhere) == b"\x17\x0d261123080000Z"
    assert der.generalized_time(0) == b"\x18\x0f19700101000000Z"


@pytest.mark.parametrize(
    "broken",
    [
        "",  # nothing
        "30",  # no length
        "3002ff",  # content cut short
        "308000000000",  # indefinite length
        "308101ff",  # length not in its shortest form
        "30820001ff",
        "3085000000000100",  # a length of five octets
        "3f1f00",  # a tag of several octets
        "300100ff",  # something behind
    ],
)
def test_what_is_not_der_is_refused(broken: str) -> None:
    with pytest.raises(der.DerError):
        der.only(bytes.fromhex(broken), 0x30)


def test_numbers_in_a_longer_form_than_needed_are_refused() -> None:
    assert der.number(b"\x00\x80") == 128
    assert der.number(b"\xff") == -1
    for padded in (b"", b"\x00\x7f", b"\xff\x80"):
        with pytest.raises(der.DerError):
            der.number(padded)


@pytest.mark.parametrize("content", ["", "80", "2a80", "2a8001", "2a" * 65])
def test_object_identifiers_cut_short_padded_or_absurd_are_refused(content: str) -> None:
    with pytest.raises(der.DerError):
        der.dotted(bytes.fromhex(content))
