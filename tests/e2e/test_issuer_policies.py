"""A private deployment says in ca.toml who gets certificates, and everybody else is told why not."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.e2e.conftest import TWO_NODES
from tests.support.issuer import POLICY, LocalIssuer
from tests.support.processes import RunningService, free_port, production_service, running
from tests.support.signing import bearer, issue, key_body, new_key

EMAIL = "signer@example.com"


def directory(folder: Path, issuer: LocalIssuer) -> RunningService:
    service = production_service(folder / "ca", issuers=issuer.issuer_file(), workers=1)
    service.environ = {**service.environ, "CASVC_METRICS__BIND": f"127.0.0.1:{free_port()}"}
    with service.config.open("a") as file:
        file.write(POLICY.format(issuer=issuer.url))
    return service


@pytest.fixture(scope="module")
def issuer(place: str, request: pytest.FixtureRequest) -> Iterator[LocalIssuer]:
    if place == TWO_NODES:
        yield request.getfixturevalue("cluster").choosy
        return
    with LocalIssuer() as started:
        yield started


@pytest.fixture(scope="module")
def restricted(
    place: str,
    issuer: LocalIssuer,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RunningService]:
    if place == TWO_NODES:
        yield request.getfixturevalue("two_nodes")
        return
    with running(directory(tmp_path_factory.mktemp("policies"), issuer)) as started:
        yield started


def token(issuer: LocalIssuer, email: str = EMAIL, **claims: object) -> str:
    good = {"hd": "example.com", "groups": ["staff", "signers"], **claims}
    return issuer.token(email, claims={name: value for name, value in good.items() if value is not None})


def test_who_is_named_by_the_policy_gets_a_certificate(
    restricted: RunningService, issuer: LocalIssuer, session: requests.Session
) -> None:
    issue(session, restricted.url, token(issuer), EMAIL)
    issue(session, restricted.url, token(issuer, groups="release"), EMAIL)
    issue(session, restricted.url, token(issuer, "Capital@EXAMPLE.com"), "Capital@EXAMPLE.com")


REFUSED: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "another domain": ({"email": "secret@evil.test"}, "identity-refused", "email", "example.com"),
    "a domain below": ({"email": "secret@sub.example.com"}, "identity-refused", "email", "example.com"),
    "a domain that ends alike": (
        {"email": "secret@notexample.com"},
        "identity-refused",
        "email",
        "example.com",
    ),
    "another value": ({"hd": "secret.test"}, "identity-refused", "hd", "example.com"),
    "other groups": ({"groups": ["secret"]}, "identity-refused", "groups", "signers or release"),
    "no such claim": ({"hd": None}, "token-claim-missing", "hd", "example.com"),
    "an audience more": ({"aud": ["sigstore", "other"]}, "token-audience-mismatch", "aud", "sigstore alone"),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_who_is_not_is_told_the_claim_and_what_is_expected(
    restricted: RunningService, issuer: LocalIssuer, session: requests.Session, name: str
) -> None:
    claims, reason, claim, expected = REFUSED[name]
    reply = session.post(
        f"{restricted.url}/api/v2/signingCert",
        json=key_body(new_key(), EMAIL),
        headers=bearer(token(issuer, **claims)),
        timeout=60,
    )
    assert reply.status_code == 400
    (info,) = reply.json()["details"]
    assert info["reason"] == reason
    assert (info["metadata"]["claim"], info["metadata"]["expected"]) == (claim, expected)
    assert f"'{claim}'" in reply.json()["message"] or claim == "aud"
    assert "secret" not in reply.text
    assert "secret" not in restricted.printed()


def test_fetches_for_keys_that_nobody_knows_are_counted(
    restricted: RunningService, issuer: LocalIssuer, session: requests.Session
) -> None:
    issue(session, restricted.url, token(issuer), EMAIL)
    claims = {"iss": issuer.url, "sub": "1", "aud": "sigstore"}
    for number in range(3):
        reply = session.post(
            f"{restricted.url}/api/v2/signingCert",
            json=key_body(new_key(), EMAIL),
            headers=bearer(issuer.sign(claims, {"kid": f"made-up-{number}"})),
            timeout=60,
        )
        assert reply.json()["details"][0]["reason"] == "token-key-unknown"
        assert "made-up" not in reply.text
    counted = f'casvc_issuer_keys_fetched_for_unknown_kid_total{{issuer="{issuer.url}"}} '
    found = [line for line in restricted.metrics().splitlines() if line.startswith(counted)]
    # Each process keeps the keys for itself.
    assert 1 <= sum(float(line.rpartition(" ")[2]) for line in found) <= len(restricted.workers())


def test_a_policy_of_an_issuer_that_is_not_in_the_file_stops_the_start(tmp_path: Path) -> None:
    with LocalIssuer() as known:
        service = directory(tmp_path, known)
        with service.config.open("a") as file:
            file.write(POLICY.format(issuer="https://elsewhere.example.com"))
        refused = service.cli("serve")
        assert refused.returncode == 2
        assert "[[issuer_policy]]" in refused.stderr
        assert "https://elsewhere.example.com is not in the issuer file" in refused.stderr


def test_doctor_asks_each_issuer_and_says_what_it_found(tmp_path: Path) -> None:
    with LocalIssuer() as good, LocalIssuer() as gone, LocalIssuer() as other:
        service = directory(tmp_path, good)
        gone_url = gone.url
        (service.directory / "issuers.yaml").write_text(
            good.issuer_file()
            + gone.issuer_file().removeprefix("oidc-issuers:\n")
            + other.issuer_file().removeprefix("oidc-issuers:\n")
            + "    unheard-of: 1\n    algorithms: [ES256]\n"
            + "meta-issuers:\n"
            + "  https://oidc.example.com/id/*:\n    client-id: sigstore\n    type: kubernetes\n"
        )
        gone.__exit__()
        examined = service.cli("doctor")
        assert examined.returncode == 1
        lines = [line.strip() for line in examined.stdout.splitlines()]

        def about(start: str) -> str:
            (found,) = [line for line in lines if line.startswith(start)]
            return found

        healthy = about(f"ok    issuer {good.url}")
        for found in (
            *(
                "type email",
                "audience sigstore alone",
                "required claims hd, groups",
                "addresses of example.com",
            ),
            *("discovery document names it", "1 usable key for RS256"),
        ):
            assert found in healthy
        assert "could not be fetched" in about(f"FAIL  issuer {gone_url}")
        assert "no key that its tokens could be verified with" in about(f"FAIL  issuer {other.url}")
        assert "a pattern" in about("ok    issuers https://oidc.example.com/id/*")
        assert "unheard-of is not a known member" in about("note  issuers")

        offline = service.cli("doctor", "--offline")
        assert offline.returncode == 0, offline.stdout
        assert "not asked" in offline.stdout
