"""What a checkup finds, one thing at a time."""

from dataclasses import dataclass

GOOD, WARNING, FAILED = "good", "warning", "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: good, a warning (works today), or failed."""

    check: str
    verdict: str
    detail: str
