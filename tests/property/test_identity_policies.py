"""An address counts for the domain behind its last @ alone, whatever stands before or after."""

from hypothesis import given
from hypothesis import strategies as st

from ca_service.identity.policies import in_domains

LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
DOMAIN = st.lists(LABEL, min_size=2, max_size=4).map(".".join)
TEXT = st.text(st.characters(codec="ascii"), max_size=20)
CASES = st.sampled_from([str.lower, str.upper, str.title, str.swapcase])


@given(TEXT, DOMAIN, CASES)
def test_whatever_is_before_the_last_at_does_not_matter(before: str, domain: str, case: object) -> None:
    assert callable(case)
    assert in_domains(f"{before}@{case(domain)}", frozenset({domain}))


@given(TEXT, DOMAIN)
def test_exactly_the_part_after_the_last_at_decides(address: str, domain: str) -> None:
    expected = "@" in address and address.split("@")[-1].lower() == domain
    assert in_domains(address, frozenset({domain})) is expected


@given(TEXT, DOMAIN, st.text(min_size=1, max_size=5))
def test_no_prefix_and_no_suffix_passes_for_the_domain(before: str, domain: str, extra: str) -> None:
    allowed = frozenset({domain})
    assert not in_domains(f"{before}@{domain}{extra}", allowed) or extra.lower().endswith("@" + domain)
    if "@" not in extra:
        assert not in_domains(f"{before}@{extra}{domain}", allowed)
        assert not in_domains(f"{before}@{extra}.{domain}", allowed)


@given(TEXT.filter(lambda text: "@" not in text), DOMAIN)
def test_without_an_at_there_is_no_domain(text: str, domain: str) -> None:
    assert not in_domains(text, frozenset({domain, text.lower()}))
    assert not in_domains(domain, frozenset({domain}))
