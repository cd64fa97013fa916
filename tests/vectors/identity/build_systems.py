"""Claims of build systems that are no forges, with the texts that their templates make of them, by hand."""

from tests.vectors.identity.cases import WITHOUT, Case, changed, refused

BUILDKITE: Case = {
    "name": "a branch",
    "issuer": "https://agent.buildkite.com",
    "claims": {
        "aud": "sigstore",
        "sub": (
            "organization:acme-inc:pipeline:super-duper-app:ref:refs/heads/main"
            ":commit:9f3182061f1e2cca4702c368cbc039b7dc9d4485:step:build"
        ),
        "organization_slug": "acme-inc",
        "organization_id": "f02d6a6f-7a0e-481d-9d6d-89b427aec48d",
        "pipeline_slug": "super-duper-app",
        "pipeline_id": "41a5b5b5-6b2d-4a4e-8c0f-b3c5f3b5c5b5",
        "build_number": 1,
        "build_branch": "main",
        "build_tag": None,
        "build_commit": "9f3182061f1e2cca4702c368cbc039b7dc9d4485",
        "build_source": "webhook",
        "step_key": "build",
        "job_id": "0184990a-477b-4fa8-9968-496074483cee",
        "agent_id": "0184990a-4782-42b5-afc1-16715b10b8ff",
        "cluster_id": None,
        "queue_key": "default",
        "runner_environment": "buildkite-hosted",
    },
    "subject": ("uri", "https://buildkite.com/acme-inc/super-duper-app"),
    "extensions": {
        11: "buildkite-hosted",
        13: "9f3182061f1e2cca4702c368cbc039b7dc9d4485",
        20: "webhook",
        21: "https://buildkite.com/acme-inc/super-duper-app/builds/1#0184990a-477b-4fa8-9968-496074483cee",
    },
}
BUILDKITE_CASES = [
    BUILDKITE,
    changed(
        BUILDKITE,
        "a tag, by schedule, on an agent of one's own",
        claims={
            "build_tag": "v1.0.0",
            "build_source": "schedule",
            "build_number": "120000000",
            "runner_environment": "self-hosted",
        },
        extensions={
            11: "self-hosted",
            20: "schedule",
            21: "https://buildkite.com/acme-inc/super-duper-app/builds/120000000#0184990a-477b-4fa8-9968-496074483cee",
        },
    ),
    refused(BUILDKITE, "no build number", "token-claim-missing", "build_number", build_number=WITHOUT),
]

_CODEFRESH = "https://g.codefresh.io"
CODEFRESH: Case = {
    "name": "a push to a branch",
    "issuer": "https://oidc.codefresh.io",
    "claims": {
        "sub": "account:628a80b693a15c0f9c13ab75:pipeline:65e5a53e52853dc51a5b0cc1:initiator:codefresh-user",
        "account_id": "628a80b693a15c0f9c13ab75",
        "account_name": "codefresh-account",
        "pipeline_id": "65e5a53e52853dc51a5b0cc1",
        "pipeline_name": "oidc-test/oidc-test-1",
        "workflow_id": "65e6d5551e47e5bc243ca93f",
        "initiator": "codefresh-user",
        "scm_user_name": "codefresh-user",
        "scm_repo_url": "https://github.com/codefresh-user/oidc-test",
        "scm_ref": "main",
        "scm_pull_request_target_branch": None,
        "runner_environment": "hybrid",
        "platform_url": "https://g.codefresh.io",
        "aud": "sigstore",
    },
    "subject": (
        "uri",
        f"{_CODEFRESH}/codefresh-account/oidc-test/oidc-test-1:628a80b693a15c0f9c13ab75/65e5a53e52853dc51a5b0cc1",
    ),
    "extensions": {
        9: f"{_CODEFRESH}/build/65e6d5551e47e5bc243ca93f",
        11: "hybrid",
        12: "https://github.com/codefresh-user/oidc-test",
        14: "main",
        18: f"{_CODEFRESH}/api/pipelines/65e5a53e52853dc51a5b0cc1",
        21: f"{_CODEFRESH}/build/65e6d5551e47e5bc243ca93f",
    },
}
_ON_PREMISES = "https://codefresh.example.com"
CODEFRESH_CASES = [
    CODEFRESH,
    changed(
        CODEFRESH,
        "started by hand, without a repository, on the default platform",
        claims={
            "scm_repo_url": WITHOUT,
            "scm_ref": WITHOUT,
            "runner_environment": WITHOUT,
            "platform_url": WITHOUT,
        },
        extensions={11: "", 12: "", 14: ""},
    ),
    changed(
        CODEFRESH,
        "a tag, on a platform of one's own, which wins over the default",
        claims={"scm_ref": "v1.0.0", "platform_url": _ON_PREMISES},
        extensions={
            9: f"{_ON_PREMISES}/build/65e6d5551e47e5bc243ca93f",
            14: "v1.0.0",
            18: f"{_ON_PREMISES}/api/pipelines/65e5a53e52853dc51a5b0cc1",
            21: f"{_ON_PREMISES}/build/65e6d5551e47e5bc243ca93f",
        },
        subject=(
            "uri",
            f"{_ON_PREMISES}/codefresh-account/oidc-test/oidc-test-1:628a80b693a15c0f9c13ab75/65e5a53e52853dc51a5b0cc1",
        ),
    ),
    refused(CODEFRESH, "no pipeline", "token-claim-missing", "pipeline_id", pipeline_id=WITHOUT),
]

_PROJECT = "5a1d7c3e-8f2b-4c6d-9e0a-1b2c3d4e5f60"
_DEFINITION = f"https://circleci.com/api/v2/projects/{_PROJECT}/pipeline-definitions/3f2504e0-4f89-41d3-9a0c-0305e82c3301"
CIRCLECI: Case = {
    "name": "a branch, in claims with dots and slashes in their names",
    "issuer": "https://oidc.circleci.com/org/0c4a9a8e-2d7b-4b8e-9f53-7a6c1e2d3f40",
    "claims": {
        "aud": "sigstore",
        "sub": (
            f"org/0c4a9a8e-2d7b-4b8e-9f53-7a6c1e2d3f40/project/{_PROJECT}"
            "/user/9e107d9d-372b-4d82-86cf-0b8d4f2a1c3e"
        ),
        "oidc.circleci.com/context-ids": ["d7a8fbb3-07d7-4094-a9ad-9d4c1e2f3a4b"],
        "oidc.circleci.com/project-id": _PROJECT,
        "oidc.circleci.com/org-id": "0c4a9a8e-2d7b-4b8e-9f53-7a6c1e2d3f40",
        "oidc.circleci.com/pipeline-id": "b5bb9d80-14a0-4f9b-9d61-1c4c1f2e3d4c",
        "oidc.circleci.com/pipeline-definition-id": "3f2504e0-4f89-41d3-9a0c-0305e82c3301",
        "oidc.circleci.com/workflow-id": "7d793037-a076-4be1-8f2a-6d5b4a392817",
        "oidc.circleci.com/job-id": "c157a790-31e1-4bb5-8a1c-0d9e8f7a6b5c",
        "oidc.circleci.com/vcs-origin": "github.com/acme/site",
        "oidc.circleci.com/vcs-ref": "refs/heads/main",
        "oidc.circleci.com/ssh-rerun": False,
    },
    "subject": ("uri", _DEFINITION),
    "extensions": {
        9: _DEFINITION,
        12: "github.com/acme/site",
        14: "refs/heads/main",
        18: "https://circleci.com/api/v2/pipeline/b5bb9d80-14a0-4f9b-9d61-1c4c1f2e3d4c/config",
        21: "https://app.circleci.com/workflow/7d793037-a076-4be1-8f2a-6d5b4a392817/job/c157a790-31e1-4bb5-8a1c-0d9e8f7a6b5c",
    },
}
CIRCLECI_CASES = [
    CIRCLECI,
    changed(
        CIRCLECI,
        "a tag, run again over ssh",
        claims={"oidc.circleci.com/vcs-ref": "refs/tags/v2", "oidc.circleci.com/ssh-rerun": True},
        extensions={11: "ssh-rerun", 14: "refs/tags/v2"},
    ),
    changed(
        CIRCLECI,
        "ssh as text, and no repository",
        claims={
            "oidc.circleci.com/ssh-rerun": "true",
            "oidc.circleci.com/vcs-origin": WITHOUT,
            "oidc.circleci.com/vcs-ref": WITHOUT,
        },
        extensions={11: "ssh-rerun", 12: "", 14: ""},
    ),
    refused(
        CIRCLECI,
        "no definition",
        "token-claim-missing",
        "oidc.circleci.com/pipeline-definition-id",
        **{"oidc.circleci.com/pipeline-definition-id": WITHOUT},
    ),
]

_BUDDY = "https://eu.buddy.works/acme"
BUDDY: Case = {
    "name": "a push, in Europe, a number as pipeline",
    "issuer": "https://eu-oidc.buddyusercontent.com",
    "claims": {
        "aud": "sigstore",
        "sub": "workspace:acme:project:site:pipeline:12",
        "base_url": "https://eu.buddy.works",
        "workspace_id": 3,
        "workspace_domain": "acme",
        "project_name": "site",
        "pipeline_id": 12,
        "pipeline_name": "Deploy",
        "execution_id": "67c1f3a2b4d5e6f708192a3b",
        "triggered_on": "ON_EVENT",
        "runner_environment": "platform-hosted",
        "revision": "da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "ref": "refs/heads/main",
    },
    "subject": ("uri", f"{_BUDDY}/site/pipelines/pipeline/12"),
    "extensions": {
        9: f"{_BUDDY}/site/pipelines/pipeline/12",
        11: "platform-hosted",
        12: f"{_BUDDY}/site",
        13: "da39a3ee5e6b4b0d3255bfef95601890afd80709",
        14: "refs/heads/main",
        16: _BUDDY,
        20: "ON_EVENT",
        21: f"{_BUDDY}/site/pipelines/pipeline/12/execution/67c1f3a2b4d5e6f708192a3b",
    },
}
_BUDDY_US = "https://app.buddy.works/acme"
BUDDY_CASES = [
    BUDDY,
    changed(
        BUDDY,
        "by hand, without a revision, in the default region",
        issuer="https://oidc.buddyusercontent.com",
        claims={
            "base_url": WITHOUT,
            "revision": WITHOUT,
            "ref": WITHOUT,
            "triggered_on": "ON_CLICK",
            "execution_id": 77,
        },
        extensions={
            9: f"{_BUDDY_US}/site/pipelines/pipeline/12",
            12: f"{_BUDDY_US}/site",
            13: "",
            14: "",
            16: _BUDDY_US,
            20: "ON_CLICK",
            21: f"{_BUDDY_US}/site/pipelines/pipeline/12/execution/77",
        },
        subject=("uri", f"{_BUDDY_US}/site/pipelines/pipeline/12"),
    ),
    changed(
        BUDDY,
        "a tag",
        claims={"ref": "refs/tags/v3"},
        extensions={14: "refs/tags/v3"},
    ),
    refused(BUDDY, "no trigger", "token-claim-missing", "triggered_on", triggered_on=WITHOUT),
]

CASES = {
    "buildkite": BUILDKITE_CASES,
    "codefresh": CODEFRESH_CASES,
    "circleci": CIRCLECI_CASES,
    "buddy": BUDDY_CASES,
}
