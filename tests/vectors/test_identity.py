"""Each provider's claims become the very bytes that the vectors hold, by the shipped issuer file."""

import json
from pathlib import Path
from typing import Any

import pytest

from ca_service.errors import CAError
from ca_service.identity.claims import VerifiedClaims, VerifiedToken
from ca_service.identity.issuer_file import parse_issuer_file
from ca_service.identity.issuers import Issuer
from ca_service.identity.principal import principal_for
from ca_service.pki.extensions import encode
from tests.support.pki import issue
from tests.vectors.identity.derive import HERE, documents
from tests.vectors.identity.reading import subject_and_fulcio

CONFIG = Path(__file__).parents[2] / "config" / "issuers.yaml"
SHIPPED = parse_issuer_file(CONFIG.read_text(), "issuers.yaml")
CASES = [(path.stem, case) for path in sorted(HERE.glob("*.json")) for case in json.loads(path.read_text())]


def of_kind(refused: bool) -> list[Any]:
    return [
        pytest.param(case, id=f"{provider}: {case['name']}")
        for provider, case in CASES
        if ("refused" in case) is refused
    ]


def issuer_of(case: dict[str, Any]) -> Issuer:
    """The issuer as it is shipped, or as the case describes one that is not."""
    directory = SHIPPED
    if case["members"]:
        issuers = {"oidc-issuers": {case["issuer"]: {"client-id": "sigstore", **case["members"]}}}
        directory = parse_issuer_file(json.dumps(issuers), "case")
    issuer = directory.find(case["issuer"])
    assert issuer is not None, "the issuer file does not know it"
    return issuer


def token(case: dict[str, Any]) -> VerifiedToken:
    return VerifiedToken(issuer_of(case), case["issuer"], VerifiedClaims(case["claims"]))


def test_the_vectors_are_those_that_were_derived() -> None:
    derived = {path.name: text for path, text in documents()}
    assert {path.name: path.read_text() for path in HERE.glob("*.json")} == derived


def test_every_provider_of_the_shipped_file_has_vectors() -> None:
    def kind(issuer: Issuer) -> tuple[str, str]:
        return issuer.type, issuer.ci_provider.name if issuer.ci_provider else ""

    found = [SHIPPED.find(case["issuer"]) for _, case in CASES]
    shipped = {kind(issuer) for issuer in (*SHIPPED.issuers, *SHIPPED.wildcards)}
    assert {kind(issuer) for issuer in found if issuer} == shipped


@pytest.mark.parametrize("case", of_kind(refused=False))
def test_claims_become_the_subject_and_the_extensions(case: dict[str, Any]) -> None:
    principal = principal_for(token(case))
    assert principal.subject.kind == case["subject"]["kind"]
    assert principal.subject.value == case["subject"]["text"]
    assert list(principal.challenges) == case["challenges"]
    expected = {oid: extension["der"] for oid, extension in case["extensions"].items()}
    assert {oid: value.hex() for oid, value in encode(principal.extensions)} == expected

    leaf = issue(subject=principal.subject, extensions=principal.extensions)
    assert subject_and_fulcio(leaf.der) == (case["subject"]["der"], expected)


@pytest.mark.parametrize("case", of_kind(refused=True))
def test_claims_that_make_no_identity_are_refused_by_name(case: dict[str, Any]) -> None:
    with pytest.raises(CAError) as raised:
        principal_for(token(case))
    assert raised.value.reason == case["refused"]["reason"]
    assert raised.value.facts["claim"] == case["refused"]["claim"]


@pytest.mark.parametrize(
    ("provider", "older_type"),
    [
        ("github", "github-workflow"),
        ("gitlab", "gitlab-pipeline"),
        ("buildkite", "buildkite-job"),
        ("codefresh", "codefresh-workflow"),
    ],
)
def test_the_older_types_make_the_same_of_them(provider: str, older_type: str) -> None:
    made = [case for name, case in CASES if name == provider and "refused" not in case]
    assert made
    for case in made:
        older = {**case, "members": {"type": older_type}}
        assert principal_for(token(older)) == principal_for(token(case))
