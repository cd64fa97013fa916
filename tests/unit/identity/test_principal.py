"""What each type of issuer makes of its claims: the name, the challenge, the extensions."""

from pathlib import Path
from typing import Any

import pytest

from ca_service.errors import EmailNotVerified, InvalidRequest, TokenClaimInvalid, TokenClaimMissing
from ca_service.identity.claims import VerifiedClaims, VerifiedToken
from ca_service.identity.issuer_file import parse_issuer_file
from ca_service.identity.principal import Principal, principal_for
from ca_service.vocabulary import SubjectKind, SubjectName

SHIPPED = parse_issuer_file(
    (Path(__file__).parents[3] / "config" / "issuers.yaml").read_text(), "issuers.yaml"
)
URL = "https://idp.example.com"


def principal(members: str, /, **claims: Any) -> Principal:
    """The principal of an issuer with these members (`type: …`) for these claims, and a sub unless given."""
    lines = "".join(f"    {line}\n" for line in members.split("; "))
    directory = parse_issuer_file(f"oidc-issuers:\n  {URL}:\n    client-id: sigstore\n{lines}", "t")
    good = {"iss": URL, "sub": "1234", **claims}
    return principal_for(VerifiedToken(directory.issuers[0], URL, VerifiedClaims(good)))


def shipped(url: str, **claims: Any) -> Principal:
    """The principal that the shipped issuer file makes."""
    issuer = SHIPPED.find(url)
    assert issuer is not None
    return principal_for(VerifiedToken(issuer, url, VerifiedClaims({"iss": url, **claims})))


EMAIL: dict[str, Any] = {"email": "someone@example.com", "email_verified": True}


def test_an_email_issuer_names_the_address_and_takes_its_signature() -> None:
    made = principal("type: email", **EMAIL)
    assert made.subject == SubjectName(SubjectKind.EMAIL, "someone@example.com")
    assert made.challenges == ("someone@example.com",)
    assert made.extensions == {"issuer": URL, "token-subject": "1234"}
    assert (made.oidc_issuer, made.oidc_subject) == (URL, "1234")


@pytest.mark.parametrize("verified", [True, "true", "True"])
def test_the_ways_to_say_verified(verified: object) -> None:
    assert principal("type: email", **{**EMAIL, "email_verified": verified}).subject.value


@pytest.mark.parametrize("verified", [False, None, "false", "TRUE", "yes", 1, 1.0, [], [True], {}])
def test_whatever_else_is_not_verified(verified: object) -> None:
    with pytest.raises(EmailNotVerified) as raised:
        principal("type: email", **{**EMAIL, "email_verified": verified})
    assert "email_verified" in raised.value.message
    skipped = principal("type: email; skip-email-verification: true", **{**EMAIL, "email_verified": verified})
    assert skipped.subject.value == "someone@example.com"


@pytest.mark.parametrize(
    "address",
    [
        "a@example.com",
        "first.last+tag@sub.example.co.uk",
        "o'neil@example.com",
        "x@xn--bcher-kva.example",
        f"{'a' * 64}@example.com",
    ],
)
def test_addresses_that_a_certificate_can_hold(address: str) -> None:
    assert principal("type: email", **{**EMAIL, "email": address}).subject.value == address


@pytest.mark.parametrize(
    "address",
    [
        "someone",
        "@example.com",
        "someone@",
        "someone@localhost",
        "a@b@example.com",
        "some one@example.com",
        "someone@exa mple.com",
        "someone@example.com\n",
        "someone@example.com\x00.evil.com",
        "<someone@example.com>",
        '"some one"@example.com',
        "someone@[127.0.0.1]",
        "someone@-example.com",
        "someone@example..com",
        ".someone@example.com",
        "someone@bücher.example",
        "jörg@example.com",
        f"{'a' * 65}@example.com",
        f"a@{'b' * 60}.{'c' * 60}.{'d' * 60}.{'e' * 60}.{'f' * 60}.com",
        "someone@example.com,other@example.com",
    ],
)
def test_addresses_that_it_cannot_hold_and_the_sentence_keeps_them_to_itself(address: str) -> None:
    with pytest.raises(TokenClaimInvalid) as raised:
        principal("type: email", **{**EMAIL, "email": address})
    assert address not in f"{raised.value.message} {raised.value.facts}"
    assert raised.value.facts["claim"] == "email"
    assert raised.value.facts["expected"] == "an e-mail address that a certificate can hold"


def test_an_internationalised_domain_is_told_how_to_write_itself() -> None:
    with pytest.raises(TokenClaimInvalid, match="xn--"):
        principal("type: email", **{**EMAIL, "email": "someone@bücher.example"})


def test_an_issuer_claim_replaces_the_issuer_extension() -> None:
    members = "type: email; issuer-claim: $.federated_claims.connector_id"
    made = principal(members, **EMAIL, federated_claims={"connector_id": "https://github.com/login/oauth"})
    assert made.extensions["issuer"] == made.oidc_issuer == "https://github.com/login/oauth"
    for federated in (None, {}, {"connector_id": ""}, "text"):
        with pytest.raises(TokenClaimMissing, match="federated_claims"):
            principal(members, **EMAIL, federated_claims=federated)
    with pytest.raises(TokenClaimInvalid):
        principal(members, **EMAIL, federated_claims={"connector_id": 7})


def test_a_challenge_claim_of_ones_own() -> None:
    assert principal("type: email; challenge-claim: sub", **EMAIL).challenges == (
        "1234",
        "someone@example.com",
    )
    assert principal("type: email; challenge-claim: name", **EMAIL, name="Some").challenges == ("Some",)
    with pytest.raises(TokenClaimMissing, match="name"):
        principal("type: email; challenge-claim: name", **EMAIL)


URI = "type: uri; subject-domain: https://app.example.com"


def test_a_uri_issuer_names_the_subject() -> None:
    made = principal(URI, sub="https://app.example.com/users/1")
    assert made.subject == SubjectName(SubjectKind.URI, "https://app.example.com/users/1")
    assert made.challenges == ("https://app.example.com/users/1",)


@pytest.mark.parametrize(
    "sub",
    [
        "http://app.example.com/users/1",
        "https://other.example.com/",
        "https://app.example.com.evil.com/",
        "https://app.example.com@evil.com/",
        "https://evil.com\\@app.example.com/",
        "https://me@app.example.com/",
        "someone@example.com",
        "users/1",
        "https:///users/1",
        "https://app.example.com/\n",
        "https://app.example.com/%zz",
        "https://app.example.com/" + "a" * 2048,
        "https://[::1/",
        "https://[evil]/",
        "https://evil\u2100.example/",
    ],
)
def test_a_subject_elsewhere_is_refused(sub: str) -> None:
    with pytest.raises(TokenClaimInvalid) as raised:
        principal(URI, sub=sub)
    assert raised.value.facts["claim"] == "sub"
    assert "evil" not in f"{raised.value.message} {raised.value.facts}"


def test_characters_that_no_uri_has_are_encoded() -> None:
    made = principal(URI, sub="HTTPS://app.example.com/a b/ü%20{x}?q=1#f")
    assert made.subject.value == "https://app.example.com/a%20b/%C3%BC%20%7Bx%7D?q=1#f"


USERNAME = "type: username; subject-domain: example.com"


def test_a_username_issuer_joins_name_and_domain() -> None:
    made = principal(USERNAME, sub="jörg")
    assert made.subject == SubjectName(SubjectKind.USERNAME, "jörg!example.com")
    assert made.challenges == ("jörg",)


@pytest.mark.parametrize("sub", ["a!b", "someone@example.com", "jörg@bücher.example", "a\nb", "a" * 1025])
def test_names_that_could_be_mistaken_are_refused(sub: str) -> None:
    with pytest.raises(TokenClaimInvalid):
        principal(USERNAME, sub=sub)


SPIFFE = "type: spiffe; spiffe-trust-domain: example.com"


@pytest.mark.parametrize("sub", ["spiffe://example.com/ns/prod/sa/Signer_1.x", "spiffe://example.com"])
def test_a_spiffe_issuer_names_the_id(sub: str) -> None:
    assert principal(SPIFFE, sub=sub).subject == SubjectName(SubjectKind.URI, sub)


@pytest.mark.parametrize(
    "sub",
    [
        "spiffe://other.com/a",
        "https://example.com/a",
        "SPIFFE://example.com/a",
        "spiffe://EXAMPLE.com/a",
        "spiffe://example.com/",
        "spiffe://example.com//a",
        "spiffe://example.com/a/",
        "spiffe://example.com/../a",
        "spiffe://example.com/a%20b",
        "spiffe://example.com/a?b",
        "spiffe://example.com:8443/a",
        "spiffe://me@example.com/a",
        "spiffe://",
        "spiffe://example.com/" + "a" * 2048,
    ],
)
def test_what_is_no_spiffe_id_of_the_domain_is_refused(sub: str) -> None:
    with pytest.raises(TokenClaimInvalid, match="SPIFFE"):
        principal(SPIFFE, sub=sub)


def test_a_kubernetes_issuer_names_the_service_account() -> None:
    made = principal(
        "type: kubernetes",
        sub="system:serviceaccount:prod:signer",
        **{"kubernetes.io": {"namespace": "prod", "serviceaccount": {"name": "signer", "uid": "x"}}},
    )
    assert made.subject.value == "https://kubernetes.io/namespaces/prod/serviceaccounts/signer"
    assert made.challenges == ("system:serviceaccount:prod:signer",)


@pytest.mark.parametrize(
    "claim",
    [
        None,
        [],
        {},
        {"namespace": "prod"},
        {"namespace": "", "serviceaccount": {"name": "a"}},
        {"namespace": "prod", "serviceaccount": "a"},
        {"namespace": "prod", "serviceaccount": {"name": ""}},
        {"namespace": "prod", "serviceaccount": {"name": 1}},
        {"namespace": "prod/x", "serviceaccount": {"name": "a"}},
        {"namespace": "prod", "serviceaccount": {"name": ".."}},
    ],
)
def test_a_kubernetes_token_needs_both_names(claim: object) -> None:
    with pytest.raises((TokenClaimMissing, TokenClaimInvalid), match="kubernetes"):
        principal("type: kubernetes", **{"kubernetes.io": claim})


def test_chainguard_names_the_path_below_the_issuer_and_signs_the_address_when_it_has_one() -> None:
    made = principal("type: chainguard-identity", sub="a/b", email="someone@example.com")
    assert made.subject == SubjectName(SubjectKind.URI, f"{URL}/a/b")
    assert made.challenges == ("someone@example.com",)
    assert principal("type: chainguard-identity", sub="a/b").challenges == ("a/b",)


@pytest.mark.parametrize("sub", ["../a", "a//b", "a/./b", "/a", "a?b", "a#b", "a\nb"])
def test_chainguard_subjects_stay_below_the_issuer(sub: str) -> None:
    with pytest.raises(TokenClaimInvalid):
        principal("type: chainguard-identity", sub=sub)


@pytest.mark.parametrize("members", [URI, USERNAME, SPIFFE])
def test_where_the_subject_is_signed_a_signature_over_the_address_is_good_too(members: str) -> None:
    sub = {URI: "https://app.example.com/1", USERNAME: "someone", SPIFFE: "spiffe://example.com/a"}[members]
    assert principal(members, sub=sub, email="me@example.com").challenges == (sub, "me@example.com")
    for nothing in (None, "", 7, ["me@example.com"]):
        assert principal(members, sub=sub, email=nothing).challenges == (sub,)


GITHUB = {
    "sub": "repo:octo/repo:ref:refs/heads/main",
    "event_name": "push",
    "sha": "0123abc",
    "workflow": "Release",
    "repository": "octo/repo",
    "ref": "refs/heads/main",
    "job_workflow_ref": "octo/repo/.github/workflows/release.yml@refs/heads/main",
    "job_workflow_sha": "4567def",
    "runner_environment": "github-hosted",
    "repository_id": "42",
    "repository_owner": "octo",
    "repository_owner_id": "7",
    "workflow_ref": "octo/repo/.github/workflows/top.yml@refs/heads/main",
    "workflow_sha": "89ab",
    "run_id": "100",
    "run_attempt": "1",
    "repository_visibility": "public",
}


def test_a_github_workflow() -> None:
    url = "https://token.actions.githubusercontent.com"
    made = shipped(url, **GITHUB)
    workflow = "https://github.com/octo/repo/.github/workflows/release.yml@refs/heads/main"
    assert made.subject == SubjectName(SubjectKind.URI, workflow)
    assert made.challenges == (GITHUB["sub"],)
    assert made.extensions == {
        "issuer": url,
        "token-subject": GITHUB["sub"],
        "github-workflow-trigger": "push",
        "github-workflow-sha": "0123abc",
        "github-workflow-name": "Release",
        "github-workflow-repository": "octo/repo",
        "github-workflow-ref": "refs/heads/main",
        "build-signer-uri": workflow,
        "build-signer-digest": "4567def",
        "runner-environment": "github-hosted",
        "source-repository-uri": "https://github.com/octo/repo",
        "source-repository-digest": "0123abc",
        "source-repository-ref": "refs/heads/main",
        "source-repository-identifier": "42",
        "source-repository-owner-uri": "https://github.com/octo",
        "source-repository-owner-identifier": "7",
        "build-config-uri": "https://github.com/octo/repo/.github/workflows/top.yml@refs/heads/main",
        "build-config-digest": "89ab",
        "build-trigger": "push",
        "run-invocation-uri": "https://github.com/octo/repo/actions/runs/100/attempts/1",
        "source-repository-visibility-at-signing": "public",
    }
    assert shipped(url, **GITHUB, environment="prod").extensions["deployment-environment"] == "prod"
    with pytest.raises(TokenClaimMissing, match="'run_id'"):
        shipped(url, **{**GITHUB, "run_id": None})


def test_an_enterprise_on_github_has_its_own_issuer() -> None:
    url = "https://token.actions.githubusercontent.com/octo-corp"
    assert shipped(url, **GITHUB).oidc_issuer == url


GITLAB = {
    "sub": "project_path:group/project:ref_type:branch:ref:main",
    "ci_config_ref_uri": "gitlab.com/group/project//.gitlab-ci.yml@refs/heads/main",
    "ci_config_sha": "aa",
    "runner_environment": "gitlab-hosted",
    "project_path": "group/project",
    "sha": "bb",
    "ref": "main",
    "project_id": 1,
    "namespace_path": "group",
    "namespace_id": 2,
    "pipeline_source": "push",
    "job_id": 3,
    "project_visibility": "public",
}


@pytest.mark.parametrize(("ref_type", "ref"), [("branch", "refs/heads/main"), ("tag", "refs/tags/main")])
def test_a_gitlab_pipeline(ref_type: str, ref: str) -> None:
    made = shipped("https://gitlab.com", **GITLAB, ref_type=ref_type)
    assert made.subject.value == "https://gitlab.com/group/project//.gitlab-ci.yml@refs/heads/main"
    assert made.extensions["source-repository-ref"] == ref
    assert made.extensions["source-repository-identifier"] == "1"
    assert made.extensions["run-invocation-uri"] == "https://gitlab.com/group/project/-/jobs/3"
    assert "deployment-environment" not in made.extensions


def test_the_other_build_systems() -> None:
    buildkite = shipped(
        "https://agent.buildkite.com",
        sub="organization:acme:pipeline:x:ref:refs/heads/main:commit:c:step:build",
        organization_slug="acme",
        pipeline_slug="x",
        build_number=1,
        job_id="0184",
        runner_environment="self-hosted",
        build_commit="c",
        build_source="webhook",
    )
    assert buildkite.subject.value == "https://buildkite.com/acme/x"
    assert buildkite.extensions["run-invocation-uri"] == "https://buildkite.com/acme/x/builds/1#0184"
    codefresh = shipped(
        "https://oidc.codefresh.io",
        sub="account:a:pipeline:b",
        account_id="a",
        account_name="acme",
        pipeline_id="b",
        pipeline_name="proj/pipe",
        workflow_id="w",
    )
    assert codefresh.subject.value == "https://g.codefresh.io/acme/proj/pipe:a/b"
    assert "source-repository-uri" not in codefresh.extensions
    circle = shipped(
        "https://oidc.circleci.com/org/0c4a",
        sub="org/o/project/p/user/u",
        **{
            "oidc.circleci.com/project-id": "p",
            "oidc.circleci.com/pipeline-id": "l",
            "oidc.circleci.com/pipeline-definition-id": "d",
            "oidc.circleci.com/workflow-id": "w",
            "oidc.circleci.com/job-id": "j",
            "oidc.circleci.com/ssh-rerun": True,
        },
    )
    assert circle.subject.value == "https://circleci.com/api/v2/projects/p/pipeline-definitions/d"
    assert circle.extensions["runner-environment"] == "ssh-rerun"
    buddy = shipped(
        "https://eu-oidc.buddyusercontent.com",
        sub="project:x",
        base_url="https://eu.buddy.works",
        workspace_domain="acme",
        project_name="site",
        pipeline_id=12,
        triggered_on="EVENT",
        runner_environment="platform-hosted",
        execution_id="e1",
    )
    assert buddy.subject.value == "https://eu.buddy.works/acme/site/pipelines/pipeline/12"


def test_a_subject_template_that_makes_no_uri_is_refused() -> None:
    text = (
        f"oidc-issuers:\n  {URL}:\n    client-id: s\n    type: ci-provider\n    ci-provider: p\n"
        "ci-issuer-metadata:\n  p:\n    subject-alternative-name-template: '{{ .a }}'\n"
    )
    issuer = parse_issuer_file(text, "t").issuers[0]
    for value in ("no-scheme", "https://a/\n", "https://a/%"):
        claims = VerifiedClaims({"iss": URL, "sub": "x", "a": value})
        with pytest.raises(TokenClaimInvalid, match="URI"):
            principal_for(VerifiedToken(issuer, URL, claims))


@pytest.mark.parametrize("sub", [None, "", 7, []])
def test_every_token_needs_a_subject(sub: object) -> None:
    with pytest.raises(InvalidRequest, match="'sub'"):
        principal("type: email", **{**EMAIL, "sub": sub})
