"""Twelve years of a service, for all programs that judge what it says about its past."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.past import PastService, past_service, years_ago
from tests.support.signing import Issued

FOUNDED = 12.0
TAKES_OVER = (9.1, 6.2, 3.3, 0.4)
"""How many years ago the second issuing key took over from the first, and so on."""

ISSUED = {"twelve-years": FOUNDED, "nine-years": 8.9, "two-years": 2.0, "today": 0.0}
"""How many years ago certificates were issued: by the first, second, fourth and fifth key."""

KINDS = ("good", "before", "after")
"""`good` is not revoked. `before` was, while it was valid, from notBefore on. `after` was revoked when it had
expired long ago (today's: has not yet), from NOT_TRUSTED_AFTER its notBefore on."""

CASES = tuple(f"{year}-{kind}" for year in ISSUED for kind in KINDS)
SIGNED_AFTER, NOT_TRUSTED_AFTER = timedelta(minutes=2), timedelta(minutes=5)


@dataclass
class Life:
    """What was issued, by case, and a folder for each with what a verifier gathers about it today."""

    past: PastService
    issued: dict[str, Issued] = field(default_factory=dict)
    evidence: dict[str, Path] = field(default_factory=dict)

    def signed(self, case: str) -> datetime:
        """When something was signed with it: before the date from which `after` is not trusted."""
        return self.issued[case].leaf.not_valid_before_utc + SIGNED_AFTER

    def take_over(self, years: float) -> None:
        """Prepare the next key ten days before it issues, and go on to there."""
        starts = years_ago(years)
        self.past.go_to(starts - timedelta(days=10))
        self.past.rotate(starts)
        self.past.go_to(starts)

    def issue(self, year: str, *, revoke_after: timedelta) -> None:
        """Issue the three of a year now, and revoke two of them in their time."""
        three = {kind: self.past.issue() for kind in KINDS}
        self.issued |= {f"{year}-{kind}": issued for kind, issued in three.items()}
        self.past.go_to(self.past.now + SIGNED_AFTER)
        self.past.revoke(three["before"])
        self.past.go_to(self.past.now + revoke_after)
        self.past.revoke(three["after"], three["after"].leaf.not_valid_before_utc + NOT_TRUSTED_AFTER)


@pytest.fixture(scope="session")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    """The whole life; its service stands at the present when a test gets it."""
    folder = tmp_path_factory.mktemp("life")
    with past_service(folder / "ca", years_ago(FOUNDED)) as past:
        life = Life(past)
        month = timedelta(days=30)
        life.issue("twelve-years", revoke_after=month)
        life.take_over(TAKES_OVER[0])
        past.go_to(years_ago(ISSUED["nine-years"]))
        life.issue("nine-years", revoke_after=month)
        for years in TAKES_OVER[1:3]:
            life.take_over(years)
        past.go_to(years_ago(ISSUED["two-years"]))
        life.issue("two-years", revoke_after=month)
        life.take_over(TAKES_OVER[3])
        past.go_to(years_ago(0) - timedelta(minutes=8))
        life.issue("today", revoke_after=timedelta(minutes=4))
        past.go_to(datetime.now(UTC).replace(microsecond=0))
        # The root's list is renewed each year, with the root key; today's is what counts today.
        past.service.settings.authority.root_crl.write_bytes(past.root_crl())
        life.evidence = past.evidence(life.issued, folder)
        yield life
