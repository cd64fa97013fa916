"""What a case is, and how one is made from another."""

from typing import Any

Case = dict[str, Any]
WITHOUT: Any = object()
"""Takes a claim out of a case."""


def changed(case: Case, name: str, *, claims: Case, extensions: dict[int, str], **others: Any) -> Case:
    """The case under another name, with some claims and texts replaced."""
    merged = {claim: value for claim, value in {**case["claims"], **claims}.items() if value is not WITHOUT}
    return {
        **case,
        "name": name,
        "claims": merged,
        "extensions": {**case["extensions"], **extensions},
        **others,
    }


def refused(case: Case, name: str, reason: str, claim: str, **claims: Any) -> Case:
    """The case with claims that must be refused for this reason, naming this claim."""
    return changed(case, name, claims=claims, extensions={}, refused={"reason": reason, "claim": claim})
