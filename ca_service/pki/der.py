"""A small DER writer and strict reader (X.690): for what `cryptography` cannot write, or not fast enough.

Writers return whole TLVs as bytes. The reader refuses what is BER but not DER and raises DerError only.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

INTEGER = 0x02
BIT_STRING = 0x03
OCTET_STRING = 0x04
OID = 0x06
SEQUENCE = 0x30

NULL = b"\x05\x00"
TRUE = b"\x01\x01\xff"
EMPTY_SEQUENCE = b"\x30\x00"

_FIRST_GENERALIZED_YEAR = 2050  # RFC 5280 §4.1.2.5: UTCTime until 2049
_MAX_OID_OCTETS = 64


class DerError(ValueError):
    """The bytes are not the DER that was expected."""


# -- writing -------------------------------------------------------------------------------------------


def length(octets: int) -> bytes:
    """The length octets for a content of so many octets, in the definite form (X.690 §8.1.3)."""
    return _LENGTHS[octets] if octets < _TABULATED else _length(octets)


def _length(octets: int) -> bytes:
    if octets < 0x80:
        return bytes((octets,))
    if octets < 0x100:
        return bytes((0x81, octets))
    if octets < 0x10000:
        return b"\x82" + octets.to_bytes(2, "big")
    size = (octets.bit_length() + 7) // 8
    return bytes((0x80 | size,)) + octets.to_bytes(size, "big")


# A certificate has some thirty lengths, and nearly all values in it are shorter than this.
_TABULATED = 2048
_LENGTHS = tuple(_length(octets) for octets in range(_TABULATED))
_TAGS = tuple(bytes((tag,)) for tag in range(256))


def tlv(tag: int, content: bytes) -> bytes:
    """One value: identifier octet, length, content."""
    return _TAGS[tag] + length(len(content)) + content


def sequence(*parts: bytes) -> bytes:
    """A SEQUENCE of the given TLVs."""
    content = b"".join(parts)
    return b"\x30" + length(len(content)) + content


def integer(value: int) -> bytes:
    """An INTEGER of zero or more, in its shortest form."""
    return tlv(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def octet_string(content: bytes) -> bytes:
    """An OCTET STRING."""
    return b"\x04" + length(len(content)) + content


def bit_string(content: bytes) -> bytes:
    """A BIT STRING of whole octets."""
    return tlv(BIT_STRING, b"\x00" + content)


def explicit(number: int, content: bytes) -> bytes:
    """A context-specific constructed tag around TLVs."""
    return tlv(0xA0 | number, content)


def utf8_string(text: str) -> bytes:
    """A UTF8String; raises UnicodeEncodeError for a lone surrogate."""
    return tlv(0x0C, text.encode())


@lru_cache(maxsize=256)
def oid(dotted: str) -> bytes:
    """An OBJECT IDENTIFIER from its dotted form (X.690 §8.19)."""
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    content = bytearray()
    for arc in (40 * first + second, *rest):
        digits = [arc & 0x7F]
        while arc := arc >> 7:
            digits.append(0x80 | arc & 0x7F)
        content += bytes(reversed(digits))
    return tlv(OID, bytes(content))


def extension(dotted: str, value: bytes, *, critical: bool = False) -> bytes:
    """An Extension of X.509 (RFC 5280 §4.1): `value` is the DER that its OCTET STRING wraps."""
    return sequence(oid(dotted), TRUE if critical else b"", octet_string(value))


def generalized_time(moment: datetime | int) -> bytes:
    """A GeneralizedTime in UTC with whole seconds; takes seconds since 1970 or a datetime with a zone."""
    return tlv(0x18, f"{_utc(moment):%Y%m%d%H%M%SZ}".encode())


@lru_cache(maxsize=256)
def time(moment: datetime | int) -> bytes:
    """A Time as in certificates and CRLs: UTCTime until 2049, then GeneralizedTime (RFC 5280 §4.1.2.5)."""
    utc = _utc(moment)
    return (
        generalized_time(utc)
        if utc.year >= _FIRST_GENERALIZED_YEAR
        else tlv(0x17, f"{utc:%y%m%d%H%M%SZ}".encode())
    )


def _utc(moment: datetime | int) -> datetime:
    return datetime.fromtimestamp(moment, UTC) if isinstance(moment, int) else moment.astimezone(UTC)


# -- reading -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Element:
    """One value read: its identifier octet, its content, and the whole TLV as it stood."""

    tag: int
    content: bytes
    der: bytes


def header(data: bytes, start: int = 0) -> tuple[int, int, int]:
    """Read identifier and length at `start`; returns tag, start and end of the content.

    Raises DerError when it is cut short, has a multi-octet tag, or a length that is not DER.
    """
    if start + 2 > len(data):
        raise DerError("the bytes end where a value was expected")
    tag, size = data[start], data[start + 1]
    if tag & 0x1F == 0x1F:
        raise DerError("a tag number above 30 was not expected")
    content = start + 2
    if size >= 0x80:
        octets = size & 0x7F
        content += octets
        if not 1 <= octets <= 4 or content > len(data):
            raise DerError("a length is indefinite, too large or cut short")
        size = int.from_bytes(data[start + 2 : content], "big")
        if size < 0x80 or size >> 8 * (octets - 1) == 0:
            raise DerError("a length is not in its shortest form")
    end = content + size
    if end > len(data):
        raise DerError("a value is longer than the bytes that came")
    return tag, content, end


def elements(data: bytes) -> Iterator[Element]:
    """Read the values that stand one after the other in `data`, to its end; raises DerError."""
    start = 0
    while start < len(data):
        tag, content, end = header(data, start)
        yield Element(tag, data[content:end], data[start:end])
        start = end


def only(data: bytes, tag: int) -> bytes:
    """The content of the one value that `data` is; raises DerError for another tag or trailing bytes."""
    found, content, end = header(data)
    if found != tag:
        raise DerError(f"expected tag 0x{tag:02x}, found 0x{found:02x}")
    if end != len(data):
        raise DerError("bytes follow after the value")
    return data[content:end]


def number(content: bytes) -> int:
    """The number in an INTEGER's content; raises DerError when it is empty or not in its shortest form."""
    if not content or (len(content) > 1 and content[0] in (0, 0xFF) and content[0] >> 7 == content[1] >> 7):
        raise DerError("an INTEGER is empty or not in its shortest form")
    return int.from_bytes(content, "big", signed=True)


def dotted(content: bytes) -> str:
    """The dotted form of an OBJECT IDENTIFIER's content; raises DerError for one that is cut or padded."""
    if not content or content[-1] & 0x80 or len(content) > _MAX_OID_OCTETS:
        raise DerError("an OBJECT IDENTIFIER is empty, too long or cut short")
    arcs: list[int] = []
    arc, fresh = 0, True
    for octet in content:
        if fresh and octet == 0x80:
            raise DerError("an OBJECT IDENTIFIER is not in its shortest form")
        arc, fresh = arc << 7 | octet & 0x7F, octet < 0x80
        if fresh:
            arcs.append(arc)
            arc = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, (first, arcs[0] - 40 * first, *arcs[1:])))
