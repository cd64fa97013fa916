"""JSON from strangers: no member twice, no NaN, no deep nesting, no text that cannot be written as UTF-8."""

import json
from typing import NoReturn

# Honest tokens hold a handful of objects and lists. Counting openings bounds the nesting without a scan.
_MAX_OPENINGS = 256


def read_object(text: bytes, *, max_openings: int = _MAX_OPENINGS) -> dict[str, object]:
    """Read a JSON object (RFC 8259) strictly; raises ValueError, whose sentence repeats nothing of it."""
    if text.count(b"{") + text.count(b"[") > max_openings:
        raise ValueError("it has too many objects and lists")
    try:
        value = _DECODER.decode(text.decode("utf-8"))
        if b"\\u" in text:
            # A lone surrogate passes the decoder, and would fail much later, where nobody expects it.
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeError:
        raise ValueError("it is not UTF-8 text") from None
    except json.JSONDecodeError:
        raise ValueError("it is not JSON") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")  # noqa: TRY004 -- the shape of the text is wrong, not a type
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member occurs twice")
    return members


def _no_constant(_name: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
