"""What the DER writer writes its reader reads back; any bytes are read, or refused with DerError alone."""

import contextlib
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from ca_service.pki import der

_ARCS = st.lists(st.integers(0, 2**40), max_size=8)


@given(st.integers(0, 2**170))
def test_integers_round_trip(value: int) -> None:
    assert der.number(der.only(der.integer(value), der.INTEGER)) == value


@given(st.integers(0, 2), st.integers(0, 39), _ARCS)
def test_object_identifiers_round_trip(first: int, second: int, rest: list[int]) -> None:
    dotted = ".".join(map(str, (first, second, *rest)))
    assert der.dotted(der.only(der.oid(dotted), der.OID)) == dotted


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_sequences_round_trip_at_every_length(parts: list[bytes]) -> None:
    written = der.sequence(*(der.octet_string(part) for part in parts))
    assert [each.content for each in der.elements(der.only(written, der.SEQUENCE))] == parts


@given(st.integers(0, 7_000_000_000), st.integers(0, 999_999))
def test_times_round_trip(seconds: int, microseconds: int) -> None:
    moment = datetime.fromtimestamp(seconds, UTC)
    text = der.generalized_time(moment.replace(microsecond=microseconds))[2:].decode()
    assert datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC) == moment
    assert der.generalized_time(seconds) == der.generalized_time(moment)


@given(st.binary(max_size=200))
def test_the_reader_fails_in_one_way_only(data: bytes) -> None:
    with contextlib.suppress(der.DerError):
        for element in der.elements(data):
            assert element.der == der.tlv(element.tag, element.content)
            der.number(element.content)
            der.dotted(element.content)
