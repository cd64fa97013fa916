"""Reading a JSON body by protobuf's JSON mapping, and saying which member is wrong.

Members are known in lowerCamelCase and in snake_case, null means absent, unknown members are ignored.
"""

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import NoReturn

from ca_service.errors import MalformedRequest
from ca_service.web.base64_text import decode_base64

_UPPER = re.compile(r"[A-Z]")
_PLAIN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}", re.ASCII)


class Message:
    """One JSON object of a request; `path` is where it stands in the body, for the sentences of errors."""

    __slots__ = ("_members", "_path")

    def __init__(self, members: Mapping[str, object], path: str = "") -> None:
        """Take the members as they were read; `path` is empty for the body itself."""
        self._members = members
        self._path = path

    def name(self, member: str) -> str:
        """Return a member's full name, such as publicKeyRequest.publicKey."""
        return f"{self._path}.{member}" if self._path else member

    def has(self, member: str) -> bool:
        """Say whether the member is there and neither null nor its empty default."""
        return self._value(member) not in (None, "")

    def text(self, member: str) -> str:
        """Return a string member, or "" when it is absent or null; MalformedRequest for any other type."""
        value = self._value(member)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise MalformedRequest(
                f"{self.name(member)} must be a string, not {_kind(value)}",
                member=self.name(member),
                expected="a string",
                received=_kind(value),
            )
        return value

    def octets(self, member: str) -> bytes:
        """Return a bytes member out of its base64, or b"" when absent; MalformedRequest for what is none."""
        try:
            return decode_base64(self.text(member))
        except ValueError:
            raise MalformedRequest(
                f"{self.name(member)} must be base64 (standard or URL-safe alphabet)",
                member=self.name(member),
                expected="base64",
                received="other text",
            ) from None

    def message(self, member: str) -> "Message | None":
        """Return a member that is an object, or None when absent or null; MalformedRequest for any other."""
        value = self._value(member)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise MalformedRequest(
                f"{self.name(member)} must be an object, not {_kind(value)}",
                member=self.name(member),
                expected="an object",
                received=_kind(value),
            )
        return Message(value, self.name(member))

    def _value(self, member: str) -> object:
        snake = _snake(member)
        value = self._members.get(member)
        if snake == member or snake not in self._members:
            return value
        if value is not None:
            raise MalformedRequest(f"{self.name(member)} is given twice, also as {snake}; send it once")
        return self._members[snake]


def read_message(body: bytes) -> Message:
    """Read a request body as `read_object` does, by protobuf's JSON mapping."""
    return Message(read_object(body))


def read_object(body: bytes) -> dict[str, object]:
    """Read a request body as one JSON object in UTF-8 (RFC 8259), each member at most once.

    Raises MalformedRequest for anything else, with where it stopped being JSON.
    """
    try:
        value = _DECODER.decode(_text(body))
    except UnicodeDecodeError:
        raise MalformedRequest("the body must be JSON in UTF-8, but it is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise MalformedRequest(
            f"the body must be JSON, but it is not from line {error.lineno} column {error.colno} on"
        ) from None
    except RecursionError:
        raise MalformedRequest("the body must be JSON, but it is nested too deeply") from None
    except ValueError:
        raise MalformedRequest("the body must be JSON, but a number in it is too long") from None
    if not isinstance(value, dict):
        raise MalformedRequest(
            f"the body must be a JSON object, not {_kind(value)}",
            expected="a JSON object",
            received=_kind(value),
        )
    return value


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        # Only a name that looks like one is repeated to the caller: it ends in a log line.
        shown = f"member {repeated}" if _PLAIN_NAME.fullmatch(repeated) else "a member"
        raise MalformedRequest(f"the body must be JSON with each member once, but {shown} occurs twice")
    return members


def _text(body: bytes) -> str:
    text = body.decode("utf-8")
    if text.startswith("\ufeff"):
        raise json.JSONDecodeError("a byte order mark", text, 0)
    return text


def _refuse_constant(constant: str) -> NoReturn:
    raise MalformedRequest(f"the body must be JSON, which has no {constant}")


_DECODER = json.JSONDecoder(object_pairs_hook=_without_repeats, parse_constant=_refuse_constant)


@cache
def _snake(member: str) -> str:
    return _UPPER.sub(lambda found: "_" + found[0].lower(), member)


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case str():
            return "a string"
        case int() | float():
            return "a number"
        case list():
            return "a list"
        case _:
            return "an object"
