"""Revocation judged by the JDK's PKIX validator, which like a signature verifier asks about a moment."""

import shutil
import subprocess
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conformance.conftest import CASES, NOT_TRUSTED_AFTER, Life
from tests.support.past import delegating, serving
from tests.support.processes import environment

JUDGE = Path(__file__).with_name("jdk") / "Judge.java"
LATER = NOT_TRUSTED_AFTER + timedelta(minutes=1)


class Question(NamedTuple):
    """Is the leaf of this case good, `later` than its `after` is trusted or before, by this evidence?"""

    case: str
    later: bool
    evidence: tuple[str, ...]


ASKED, ASKED_DELEGATE = ("ask", "issuing key"), ("ask", "delegate")
GIVEN, GIVEN_DELEGATE = ("ocsp", "answer-sha1.der"), ("ocsp", "delegated.der")
CRL, OTHER_CRL = ("crl", "shard.crl", "root.crl"), ("crl", "other.crl", "root.crl")
ROOTLESS = ("crl", "shard.crl")
EVIDENCE = (ASKED, ASKED_DELEGATE, GIVEN, GIVEN_DELEGATE, CRL, OTHER_CRL, ROOTLESS)
TODAY = [case for case in CASES if case.startswith("today")]
PAST = [case for case in CASES if case not in TODAY]


@pytest.fixture(scope="module")
def verdicts(life: Life, tmp_path_factory: pytest.TempPathFactory) -> Mapping[Question, str]:
    """Every question, answered by one process."""
    folder = tmp_path_factory.mktemp("jdk")
    for tool in ("javac", "java"):
        assert shutil.which(tool), f"{tool} is missing: scripts/setup test installs it"
    subprocess.run(["javac", "-Xlint:all", "-Werror", "-d", folder, JUDGE], check=True, timeout=120)
    # With a hosts file, and an empty one, no name is ever looked up: what is not handed over is not there.
    (folder / "hosts").touch()
    questions = [
        Question(case, later, evidence) for case in CASES for later in (False, True) for evidence in EVIDENCE
    ]
    with (
        delegating(life.past) as delegate,
        serving(delegate) as by_delegate,
        serving(life.past.app) as itself,
    ):
        urls = {"issuing key": f"{itself}/ocsp", "delegate": f"{by_delegate}/ocsp"}
        lines = []
        for case, later, evidence in questions:
            moment = life.issued[case].leaf.not_valid_before_utc + LATER if later else life.signed(case)
            words = [urls.get(word, word) for word in evidence]
            lines.append("\t".join([str(life.evidence[case]), f"{moment:%Y-%m-%dT%H:%M:%SZ}", *words]))
        judged = subprocess.run(
            ["java", f"-Djdk.net.hosts.file={folder / 'hosts'}", "-cp", folder, "Judge"],
            input="\n".join(lines),
            env=environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
    return dict(zip(questions, judged.stdout.splitlines(), strict=True))


def expected(case: str, *, later: bool) -> str:
    """It compares the date with the moment."""
    revoked = case.endswith("before") or (case.endswith("after") and later)
    return "REVOKED" if revoked else "good"


@pytest.mark.parametrize("later", [False, True], ids=["when signed", "after the date"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("responder", [ASKED, ASKED_DELEGATE], ids=["issuing key", "delegate"])
def test_a_responder_tells_what_was_right_at_the_moment_of_every_year(
    verdicts: Mapping[Question, str], case: str, later: bool, responder: tuple[str, ...]
) -> None:
    assert verdicts[Question(case, later, responder)].split("\t")[0] == expected(case, later=later)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    ("answer", "refusal"),
    [
        (GIVEN, "validity interval is out-of-date"),
        (GIVEN_DELEGATE, "Responder's certificate not within the validity period"),
    ],
    ids=["issuing key", "delegate"],
)
def test_an_answer_that_was_stored_must_be_of_the_moment(
    verdicts: Mapping[Question, str], case: str, answer: tuple[str, ...], refusal: str
) -> None:
    """A known deviation: one that is handed over is judged by the moment, one that is asked for by now."""
    verdict = verdicts[Question(case, True, answer)]
    if case in TODAY:
        assert verdict.split("\t")[0] == expected(case, later=True)
    else:
        assert refusal in verdict


@pytest.mark.parametrize("later", [False, True], ids=["when signed", "after the date"])
@pytest.mark.parametrize("case", TODAY)
def test_todays_lists_tell_what_is_right_today(
    verdicts: Mapping[Question, str], case: str, later: bool
) -> None:
    assert verdicts[Question(case, later, CRL)].split("\t")[0] == expected(case, later=later)


@pytest.mark.parametrize("case", PAST)
def test_lists_that_are_younger_than_the_moment_are_passed_over(
    verdicts: Mapping[Question, str], case: str
) -> None:
    """A known deviation: of a moment long ago it learns by OCSP only."""
    assert verdicts[Question(case, True, CRL)].startswith("UNDETERMINED_REVOCATION_STATUS")


@pytest.mark.parametrize("case", TODAY)
@pytest.mark.parametrize("evidence", [OTHER_CRL, ROOTLESS], ids=["another shard's", "not the root's"])
def test_a_list_of_another_shard_or_none_of_the_root_is_no_evidence(
    verdicts: Mapping[Question, str], case: str, evidence: tuple[str, ...]
) -> None:
    assert verdicts[Question(case, True, evidence)].startswith("UNDETERMINED_REVOCATION_STATUS")
