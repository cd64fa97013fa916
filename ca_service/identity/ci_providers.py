"""Extension names, and the CI providers of Fulcio's older issuer types for files that do not define them."""

from collections.abc import Mapping

from ca_service.identity.issuers import CiProvider
from ca_service.identity.templates import Template

EXTENSION_NAMES = (
    "github-workflow-trigger",
    "github-workflow-sha",
    "github-workflow-name",
    "github-workflow-repository",
    "github-workflow-ref",
    "build-signer-uri",
    "build-signer-digest",
    "runner-environment",
    "source-repository-uri",
    "source-repository-digest",
    "source-repository-ref",
    "source-repository-identifier",
    "source-repository-owner-uri",
    "source-repository-owner-identifier",
    "build-config-uri",
    "build-config-digest",
    "build-trigger",
    "run-invocation-uri",
    "source-repository-visibility-at-signing",
    "deployment-environment",
)
"""What a provider may template, by Fulcio's names: extensions .2-.6 and .9-.23 of arc 1.3.6.1.4.1.57264.1."""


def _provider(
    name: str, subject: str, extensions: Mapping[str, str], defaults: Mapping[str, str]
) -> CiProvider:
    compiled = {extension: Template.parse(text) for extension, text in extensions.items()}
    return CiProvider(name, Template.parse(subject, needs_all=True), compiled, dict(defaults))


_GITHUB = _provider(
    "github-workflow",
    "{{ .url }}/{{ .job_workflow_ref }}",
    {
        "github-workflow-trigger": "event_name",
        "github-workflow-sha": "sha",
        "github-workflow-name": "workflow",
        "github-workflow-repository": "repository",
        "github-workflow-ref": "ref",
        "build-signer-uri": "{{ .url }}/{{ .job_workflow_ref }}",
        "build-signer-digest": "job_workflow_sha",
        "runner-environment": "runner_environment",
        "source-repository-uri": "{{ .url }}/{{ .repository }}",
        "source-repository-digest": "sha",
        "source-repository-ref": "ref",
        "source-repository-identifier": "repository_id",
        "source-repository-owner-uri": "{{ .url }}/{{ .repository_owner }}",
        "source-repository-owner-identifier": "repository_owner_id",
        "build-config-uri": "{{ .url }}/{{ .workflow_ref }}",
        "build-config-digest": "workflow_sha",
        "build-trigger": "event_name",
        "run-invocation-uri": (
            "{{ .url }}/{{ .repository }}/actions/runs/{{ .run_id }}/attempts/{{ .run_attempt }}"
        ),
        "source-repository-visibility-at-signing": "repository_visibility",
        "deployment-environment": "environment",
    },
    {"url": "https://github.com", "environment": ""},
)

_GITLAB = _provider(
    "gitlab-pipeline",
    "https://{{ .ci_config_ref_uri }}",
    {
        "build-signer-uri": "https://{{ .ci_config_ref_uri }}",
        "build-signer-digest": "ci_config_sha",
        "runner-environment": "runner_environment",
        "source-repository-uri": "{{ .url }}/{{ .project_path }}",
        "source-repository-digest": "sha",
        "source-repository-ref": 'refs/{{if eq .ref_type "branch"}}heads/{{ else }}tags/{{end}}{{ .ref }}',
        "source-repository-identifier": "project_id",
        "source-repository-owner-uri": "{{ .url }}/{{ .namespace_path }}",
        "source-repository-owner-identifier": "namespace_id",
        "build-config-uri": "https://{{ .ci_config_ref_uri }}",
        "build-config-digest": "ci_config_sha",
        "build-trigger": "pipeline_source",
        "run-invocation-uri": "{{ .url }}/{{ .project_path }}/-/jobs/{{ .job_id }}",
        "source-repository-visibility-at-signing": "project_visibility",
        "deployment-environment": "environment",
    },
    {"url": "https://gitlab.com", "environment": ""},
)

_BUILDKITE = _provider(
    "buildkite-job",
    "{{ .url }}/{{ .organization_slug }}/{{ .pipeline_slug }}",
    {
        "run-invocation-uri": (
            "{{ .url }}/{{ .organization_slug }}/{{ .pipeline_slug }}"
            "/builds/{{ .build_number }}#{{ .job_id }}"
        ),
        "runner-environment": "runner_environment",
        "source-repository-digest": "build_commit",
        "build-trigger": "build_source",
    },
    {"url": "https://buildkite.com"},
)

_CODEFRESH = _provider(
    "codefresh-workflow",
    "{{ .platform_url }}/{{ .account_name }}/{{ .pipeline_name }}:{{ .account_id }}/{{ .pipeline_id }}",
    {
        "build-signer-uri": "{{ .platform_url }}/build/{{ .workflow_id }}",
        "runner-environment": "runner_environment",
        "source-repository-uri": "scm_repo_url",
        "source-repository-ref": "scm_ref",
        "build-config-uri": "{{ .platform_url }}/api/pipelines/{{ .pipeline_id }}",
        "run-invocation-uri": "{{ .platform_url }}/build/{{ .workflow_id }}",
    },
    {"platform_url": "https://g.codefresh.io", "scm_repo_url": "", "scm_ref": "", "runner_environment": ""},
)

OLDER_PROVIDERS: Mapping[str, CiProvider] = {
    provider.name: provider for provider in (_GITHUB, _GITLAB, _BUILDKITE, _CODEFRESH)
}
"""The provider each older issuer type stands for, unless the file defines one of that name."""
