"""A pattern means the same to the database and in memory, and only `*` and `?` are special."""

import sqlite3

import pytest

from ca_service.store.globs import compiled, is_glob, like_pattern, literal_prefix

TEXTS = ["", "a", "ab", "abc", "a%c", "a_c", "a\\c", "a.c", "[ab]c", "a*c", "a\nc", "äbc", "%", "_", "\\"]
PATTERNS = [
    "",
    "*",
    "?",
    "a*",
    "*c",
    "a?c",
    "a%?",
    "a_*",
    "a\\*",
    "[ab]?",
    "***",
    "?*?",
    "a.c",
    "%*",
    "a*b*c",
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_like_and_the_expression_agree(pattern: str) -> None:
    connection = sqlite3.connect(":memory:")
    for text in TEXTS:
        (found,) = connection.execute("SELECT ? LIKE ? ESCAPE '\\'", (text, like_pattern(pattern))).fetchone()
        assert bool(found) == bool(compiled(pattern).fullmatch(text)), (pattern, text)
        if found:
            assert text.startswith(literal_prefix(pattern))
    connection.close()


def test_only_star_and_question_mark_make_a_glob() -> None:
    assert is_glob("a*")
    assert is_glob("a?")
    assert not is_glob("[a]%_\\")
