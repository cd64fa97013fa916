"""Reading the members of a JSON object that somebody else wrote, with a sentence for what is wrong."""

import re
from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from ca_service.vocabulary import parse_time

_KEY_SHA256 = re.compile(r"[0-9a-f]{64}")
_LOG_INDEX = re.compile(r"([a-z0-9-]+):(0|[1-9][0-9]{0,17})")

_Value = TypeVar("_Value")


def read_key_sha256(text: str) -> str:
    """Read the SHA-256 of a key, with or without colons, in any case; raises ValueError."""
    bare = text.strip().lower().replace(":", "")
    if not _KEY_SHA256.fullmatch(bare):
        raise ValueError(f"expected 64 hex digits, not {text[:80]!r}")
    return bare


def read_log_index(text: str) -> tuple[str, int]:
    """Read a log index, SHARD:N; raises ValueError."""
    found = _LOG_INDEX.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"expected SHARD:N, such as 2026:17, not {text[:80]!r}")
    return found[1], int(found[2])


def read_seconds(text: str) -> int:
    """Read an RFC 3339 time as seconds since 1970; raises ValueError."""
    return int(parse_time(text).timestamp())


class NotAsDescribed(ValueError):
    """The JSON is not of the shape that it should be; the message is a sentence for a person."""


class Members:
    """The members of one JSON object; every reader raises NotAsDescribed that names the member."""

    def __init__(self, value: object, name: str, *, known: Collection[str] | None = None) -> None:
        """Take a JSON value that must be an object, of which no members but `known` may be there."""
        if not isinstance(value, Mapping):
            raise NotAsDescribed(f"{name} is a JSON object, not {_kind(value)}")
        if known is not None and (strange := [str(member) for member in value if member not in known]):
            raise NotAsDescribed(
                f"{name} has no member {strange[0][:80]!r}; it may have {', '.join(sorted(known))}"
            )
        self._members = value
        self._name = name

    def get(self, member: str) -> object:
        """The member as it is; None when it is null or not there."""
        value: object = self._members.get(member)
        return value

    def optional_text(self, member: str) -> str | None:
        """A text, or None."""
        value = self.get(member)
        if value is not None and not isinstance(value, str):
            raise NotAsDescribed(f"{member} of {self._name} is a text, not {_kind(value)}")
        return value

    def text(self, member: str) -> str:
        """A text."""
        value = self.optional_text(member)
        if value is None:
            raise NotAsDescribed(f"{self._name} lacks {member}")
        return value

    def optional(self, member: str, read: Callable[[str], _Value]) -> _Value | None:
        """What `read` makes of a text, or None."""
        text = self.optional_text(member)
        if text is None:
            return None
        try:
            return read(text)
        except ValueError as error:
            raise NotAsDescribed(f"{member} of {self._name}: {error}") from None

    def read(self, member: str, read: Callable[[str], _Value]) -> _Value:
        """What `read` makes of a text."""
        value = self.optional(member, read)
        if value is None:
            raise NotAsDescribed(f"{self._name} lacks {member}")
        return value

    def number(self, member: str) -> int:
        """A whole number."""
        value = self.get(member)
        if not isinstance(value, int) or isinstance(value, bool):
            raise NotAsDescribed(f"{member} of {self._name} is a whole number, not {_kind(value)}")
        return value

    def many(self, member: str) -> list[object]:
        """A list, empty when it is not there."""
        value = self.get(member)
        if value is None:
            return []
        if not isinstance(value, list):
            raise NotAsDescribed(f"{member} of {self._name} is a list, not {_kind(value)}")
        return value

    def counts(self, member: str) -> dict[str, int]:
        """An object whose members are whole numbers."""
        inner = Members(self.get(member), f"{member} of {self._name}")
        return {str(name): inner.number(name) for name in inner._members}


def _kind(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true or false"
    for kind, name in ((str, "a text"), (int, "a number"), (float, "a number"), (list, "a list")):
        if isinstance(value, kind):
            return name
    return "an object"
