"""Wildcard issuers against the rule written down plainly, and against hostile input."""

import re

from hypothesis import given
from hypothesis import strategies as st

from ca_service.identity.issuers import wildcard_pattern

# Few characters, so that patterns and texts meet often.
PATTERNS = st.text(alphabet="ab-./*", min_size=1, max_size=8)
TEXTS = st.text(alphabet="ab-./?\n", max_size=12)


def by_the_rule(pattern: str) -> re.Pattern[str]:
    """Every * is one or more of -_a-zA-Z0-9, the whole anchored at both ends."""
    return re.compile(r"\A" + re.escape(pattern).replace(r"\*", "[-_a-zA-Z0-9]+") + r"\Z")


@given(PATTERNS, TEXTS)
def test_matching_is_the_rule(pattern: str, text: str) -> None:
    assert bool(wildcard_pattern(pattern).fullmatch(text)) == bool(by_the_rule(pattern).match(text))


@given(st.lists(st.sampled_from(["a", "b", "-", "ab"]), min_size=4, max_size=4), st.text("ab-", max_size=10))
def test_matching_is_the_rule_with_several_stars(parts: list[str], text: str) -> None:
    pattern = "*".join(parts)
    assert bool(wildcard_pattern(pattern).fullmatch(text)) == bool(by_the_rule(pattern).match(text))


def test_no_wildcard_reaches_over_the_host_or_into_a_query() -> None:
    meta = wildcard_pattern("https://*.example.com/*")
    for url in (
        "http://localhost?https://x.example.com/y",
        "https://evil.com/https://x.example.com/y",
        "https://x.example.com/y\n",
        "https://x.example.com/y?z",
        "https://a.b.example.com/y",
        "https://.example.com/y",
        "https://x.example.com/",
        "https://x.example.com/y/z",
        "https://xéx.example.com/y",
        "https://xXexample.com/y",
    ):
        assert not meta.fullmatch(url), url
    assert meta.fullmatch("https://x_-9.example.com/Y")


def test_hostile_issuers_are_matched_in_linear_time() -> None:
    meta = wildcard_pattern("https://" + "*-" * 20 + "x.example.com")
    # A pattern that tried every way to share these out among its stars would not end in a lifetime.
    assert not meta.fullmatch("https://" + "a-" * 500 + "y.example.com")
