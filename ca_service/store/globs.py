"""Patterns with `*` (any text) and `?` (any one sign), the same in SQL and in memory."""

import re

_SPECIAL = re.compile(r"[*?]")


def is_glob(pattern: str) -> bool:
    """Whether the pattern means more than itself."""
    return _SPECIAL.search(pattern) is not None


def like_pattern(pattern: str) -> str:
    """Write a pattern for LIKE … ESCAPE '\\'."""
    escaped = re.sub(r"([\\%_])", r"\\\1", re.sub(r"\*+", "*", pattern))
    return escaped.replace("*", "%").replace("?", "_")


def literal_prefix(pattern: str) -> str:
    """What every text that matches begins with."""
    return _SPECIAL.split(pattern, maxsplit=1)[0]


def compiled(pattern: str) -> re.Pattern[str]:
    """Write a pattern as a regular expression for fullmatch."""
    parts = re.split(r"(\*+|\?)", pattern)
    return re.compile("".join(_expression(part) for part in parts), re.DOTALL)


def _expression(part: str) -> str:
    if part.startswith("*"):
        return ".*"
    return "." if part == "?" else re.escape(part)
