"""The words every room shares: identifiers, times and names, each with its one written form.

What one command prints, every other accepts: serials as even-length lower-case hex, log ids and key ids as
lower-case hex, times as RFC 3339 in UTC. Pure values: no input or output, no other room is imported here.
"""

import enum
import re
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NewType

Serial = NewType("Serial", int)
"""A certificate's serial number (positive, at most 20 octets); written as even-length lower-case hex."""

KeyId = NewType("KeyId", str)
"""Lower-case hex of a certificate key's subject key identifier (RFC 7093 §2 method 1: 20 octets)."""

LogId = NewType("LogId", bytes)
"""SHA-256 of a log key's DER SubjectPublicKeyInfo, 32 octets (RFC 6962 §3.2); written as hex or base64."""

LeafIndex = NewType("LeafIndex", int)
"""The position of an entry in its log, counted from 0."""

TimestampMs = NewType("TimestampMs", int)
"""Milliseconds since 1970-01-01T00:00:00Z, leap seconds ignored (RFC 6962 §3.1)."""

_HEX = re.compile(r"[0-9a-fA-F]+")
_MAX_SERIAL_OCTETS = 20


def format_serial(serial: int) -> str:
    """Write a serial as even-length lower-case hex."""
    text = f"{serial:x}"
    return text if len(text) % 2 == 0 else "0" + text


def parse_serial(text: str) -> Serial:
    """Read a serial written as hex, with or without colons or a 0x prefix, in any case.

    Raises ValueError, with a sentence for a person, when it is not such a number or has over 20 octets.
    """
    bare = text.strip().replace(":", "").replace(" ", "")
    bare = bare[2:] if bare[:2] in ("0x", "0X") else bare
    if not _HEX.fullmatch(bare):
        shown = text[:80]
        raise ValueError(f"a serial is written as hex digits (colons allowed), not {shown!r}")
    serial = int(bare.lstrip("0")[: 2 * _MAX_SERIAL_OCTETS + 1] or "0", 16)
    if serial == 0 or serial.bit_length() > 8 * _MAX_SERIAL_OCTETS:
        raise ValueError(f"a serial is positive and has at most {_MAX_SERIAL_OCTETS} octets")
    return Serial(serial)


def format_time(moment: datetime) -> str:
    """Write a moment as RFC 3339 in UTC with whole seconds: 2026-11-23T08:00:00Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def format_seconds(seconds: int) -> str:
    """Write seconds since 1970 as RFC 3339 in UTC."""
    return format_time(datetime.fromtimestamp(seconds, UTC))


def parse_time(text: str) -> datetime:
    """Read an RFC 3339 time; a date alone means its first second in UTC.

    Raises ValueError, with a sentence for a person, when it is not such a time or has no zone.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
        if moment.tzinfo is not None:
            moment = moment.astimezone(UTC)
    except (ValueError, OverflowError):  # in UTC it may lie outside of the calendar
        raise ValueError(
            f"a time is written as RFC 3339, like 2026-11-23T08:00:00Z, not {text[:80]!r}"
        ) from None
    if moment.tzinfo is None:
        if len(text.strip()) > len("2026-11-23"):
            raise ValueError(f"a time needs its zone, like 2026-11-23T08:00:00Z, not {text[:80]!r}")
        moment = moment.replace(tzinfo=UTC)
    return moment


class SubjectKind(enum.StrEnum):
    """Which form of subject alternative name carries an identity."""

    EMAIL = "email"
    URI = "uri"
    USERNAME = "username"


@dataclass(frozen=True, slots=True)
class SubjectName:
    """The one subject alternative name of a certificate: its form and its text as it stands in the leaf."""

    kind: SubjectKind
    value: str

    @property
    def normalized(self) -> str:
        """The form under which identities are searched and blocked.

        Case does not count, nor does how letters with marks are composed (Unicode NFC).
        """
        name = self.value.strip()
        if name.isascii():
            return name.casefold()
        return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


class RevocationReason(enum.Enum):
    """Why a certificate was taken back: the reasons RFC 5280 §5.3.1 knows and code signing allows.

    certificateHold and removeFromCRL are left out: a code-signing CRL has no suspended entries.
    """

    UNSPECIFIED = (0, "unspecified")
    KEY_COMPROMISE = (1, "keyCompromise")
    AFFILIATION_CHANGED = (3, "affiliationChanged")
    SUPERSEDED = (4, "superseded")
    CESSATION_OF_OPERATION = (5, "cessationOfOperation")
    PRIVILEGE_WITHDRAWN = (9, "privilegeWithdrawn")

    def __init__(self, number: int, label: str) -> None:
        self.number = number
        self.label = label

    @classmethod
    def from_label(cls, label: str) -> "RevocationReason":
        """Find a reason by its RFC 5280 name, in any case; raises ValueError that lists the names."""
        for reason in cls:
            if reason.label.casefold() == label.strip().casefold():
                return reason
        names = ", ".join(reason.label for reason in cls)
        raise ValueError(f"a reason is one of {names}, not {label[:80]!r}")

    @classmethod
    def from_number(cls, number: int) -> "RevocationReason":
        """Find a reason by its CRLReason number (RFC 5280 §5.3.1); raises ValueError for any other."""
        for reason in cls:
            if reason.number == number:
                return reason
        raise ValueError(f"{number} is not a revocation reason of this service")
