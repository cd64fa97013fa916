"""What administrators ask for, read out of a body or query; an unknown member is refused by its name."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from flask import request

from ca_service.authority.fact_readers import Members, read_seconds
from ca_service.authority.facts import selector_from
from ca_service.authority.status_ports import Selector
from ca_service.errors import MalformedRequest
from ca_service.vocabulary import RevocationReason, Serial, parse_serial
from ca_service.web.bodies import read_body
from ca_service.web.messages import read_object

_MAX_NUMBER = 2**53 - 1

_Value = TypeVar("_Value")


class Order:
    """The body of one request: a JSON object of known members."""

    def __init__(self, value: Mapping[str, object], known: Collection[str]) -> None:
        """Take the object; raises MalformedRequest for a member that is not known."""
        with _as_malformed():
            self._members = Members(value, "the body", known=known)

    def selector(self) -> Selector:
        """The selector, which must be there."""
        selector = self.optional_selector()
        if selector is None:
            raise MalformedRequest(
                "the body lacks selector: an object that says which certificates are meant"
            )
        return selector

    def optional_selector(self) -> Selector | None:
        """The selector, or None."""
        value = self._members.get("selector")
        with _as_malformed():
            return None if value is None else selector_from(value)

    def serial(self) -> Serial:
        """The serial of one certificate."""
        with _as_malformed():
            return self._members.read("serial", parse_serial)

    def reason(self) -> RevocationReason:
        """Why, by its RFC 5280 name; unspecified when absent."""
        return self._optional("reason", RevocationReason.from_label) or RevocationReason.UNSPECIFIED

    def time(self, member: str) -> int | None:
        """A moment in seconds since 1970, or None."""
        return self._optional(member, read_seconds)

    def text(self, member: str) -> str:
        """A text, empty when absent."""
        with _as_malformed():
            return self._members.optional_text(member) or ""

    def flag(self, member: str, *, default: bool) -> bool:
        """True or false."""
        value = self._members.get(member)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise MalformedRequest(f"{member} must be true or false", member=member, expected="a boolean")
        return value

    def number(self, member: str, *, low: int = 1, high: int = _MAX_NUMBER) -> int | None:
        """A whole number within limits, or None when absent."""
        if self._members.get(member) is None:
            return None
        with _as_malformed():
            return _within(self._members.number(member), member, low, high)

    def _optional(self, member: str, read: Callable[[str], _Value]) -> _Value | None:
        with _as_malformed():
            return self._members.optional(member, read)


def read_order(*known: str) -> Order:
    """Read this request's body; raises MalformedRequest."""
    value = read_object(read_body(request))
    for text in _texts(value):
        # Neither database stores these, and nobody who is honest sends them.
        if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
            raise MalformedRequest("a text in the body has a NUL or half a surrogate pair in it")
    return Order(value, known)


def read_query(**known: tuple[int, int, int]) -> dict[str, int]:
    """Read whole numbers from the query: by name the lowest, the default and the highest.

    Raises MalformedRequest for any other name, a name twice, and other values.
    """
    numbers = {name: default for name, (_, default, _) in known.items()}
    for name, values in request.args.lists():
        if name not in known:
            raise MalformedRequest(f"the query has an unknown name; it may have {', '.join(known) or 'none'}")
        low, _, high = known[name]
        if len(values) != 1 or not values[0].isascii() or not values[0].isdigit() or len(values[0]) > 16:
            raise MalformedRequest(f"{name} must be a whole number, given once", member=name)
        numbers[name] = _within(int(values[0]), name, low, high)
    return numbers


def serial_of(text: str) -> Serial:
    """Read a serial in a path; raises MalformedRequest."""
    with _as_malformed():
        return parse_serial(text)


def _within(number: int, member: str, low: int, high: int) -> int:
    if not low <= number <= high:
        raise MalformedRequest(
            f"{member} must be from {low} to {high}", member=member, expected=f"{low} to {high}"
        )
    return number


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield str(name)
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


@contextmanager
def _as_malformed() -> Iterator[None]:
    try:
        yield
    except ValueError as problem:
        raise MalformedRequest(str(problem)) from None
