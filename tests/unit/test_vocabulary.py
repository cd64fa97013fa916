"""Identifiers and times have one written form, and read back whatever people paste."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ca_service.vocabulary import (
    RevocationReason,
    SubjectKind,
    SubjectName,
    format_serial,
    format_time,
    parse_serial,
    parse_time,
)


@given(st.integers(min_value=1, max_value=2**160 - 1))
def test_a_serial_reads_back_from_every_form_it_is_pasted_in(serial: int) -> None:
    text = format_serial(serial)
    assert len(text) % 2 == 0
    assert text == text.lower()
    pairs = [text[at : at + 2] for at in range(0, len(text), 2)]
    for form in (text, text.upper(), ":".join(pairs), f"0x{text}", f" {text}\n", f"00{text}"):
        assert parse_serial(form) == serial


@pytest.mark.parametrize("text", ["", "0", "00:00", "g1", "-1", "1.5", "١٢", "ff" * 21, "0x", "f" * 100_000])
def test_what_is_no_serial_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match="a serial is"):
        parse_serial(text)


def test_times_are_utc_with_whole_seconds() -> None:
    moment = parse_time("2026-11-23T10:00:00+02:00")
    assert moment == datetime(2026, 11, 23, 8, tzinfo=UTC)
    assert format_time(moment) == "2026-11-23T08:00:00Z"
    assert parse_time("2026-11-23") == datetime(2026, 11, 23, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-11-23T10:00:00", "2026-13-01", "1795334580", "9999-12-31T23:59:59-23:00"]
)
def test_what_is_no_time_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match="a time"):
        parse_time(text)


def test_identities_are_compared_without_case() -> None:
    assert SubjectName(SubjectKind.EMAIL, "Ada@Example.COM").normalized == "ada@example.com"


def test_reasons_are_those_of_code_signing() -> None:
    assert RevocationReason.from_label("KEYCOMPROMISE") is RevocationReason.KEY_COMPROMISE
    assert RevocationReason.from_number(9) is RevocationReason.PRIVILEGE_WITHDRAWN
    for label in ("certificateHold", "removeFromCRL", "whim"):
        with pytest.raises(ValueError, match="a reason is one of unspecified, keyCompromise"):
            RevocationReason.from_label(label)
    with pytest.raises(ValueError, match="6 is not"):
        RevocationReason.from_number(6)
