"""What how-to documents say to type, typed: passphrase, backup, TLS, and moving from another authority."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from cryptography import x509
from sigstore._internal.sct import verify_sct
from sigstore._internal.trust import KeyringPurpose
from sigstore.models import TrustedRoot

from ca_service.identity.issuer_file import parse_issuer_file
from tests.support.processes import CA_SERVICE, RunningService, dev_service, environment, running, succeed
from tests.support.signing import Issued, issue
from tests.support.tokens import TokenDesk

HOW_TO = Path(__file__).resolve().parents[2] / "docs" / "how-to"
EMAIL = "ada@example.com"


def blocks(document: str, heading: str) -> list[str]:
    """The shell blocks under a heading."""
    parts = re.split(r"^## (.+)$", (HOW_TO / document).read_text("utf-8"), flags=re.MULTILINE)
    body = dict(zip(parts[1::2], parts[2::2], strict=True))[heading]
    return re.findall(r"^```sh\n(.*?)^```$", body, re.MULTILINE | re.DOTALL)


def typed(block: str, folder: Path, **replaced: str) -> str:
    for shown, here in replaced.items():
        (line,) = re.findall(rf"^{shown}=.*$", block, re.MULTILINE)
        block = block.replace(line, f"{shown}={here}")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=folder,
        env={**environment(), "PATH": f"{CA_SERVICE.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_the_passphrase_of_all_keys_is_changed(tmp_path: Path) -> None:
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("the old one\n")
    passphrase.chmod(0o600)
    succeed("init", "--dir", tmp_path / "ca", "--passphrase-file", passphrase)
    before = {file: file.read_bytes() for file in (tmp_path / "ca" / "private").glob("*.key")}
    assert len(before) == 2
    (block,) = blocks("rotate-each-key.md", "Passphrase of the key files")
    said = typed(
        block, tmp_path, DIR=f"{tmp_path}/ca", OLD=str(passphrase), NEW=str(tmp_path / "passphrase.new")
    )
    assert "FAIL" not in said
    assert passphrase.read_text() != "the old one\n"
    assert passphrase.with_name("passphrase.before").read_text() == "the old one\n"
    for file, content in before.items():
        assert file.read_bytes() != content
        assert file.stat().st_mode & 0o077 == 0
    assert not list((tmp_path / "ca" / "private").glob("*.next"))


def test_what_a_backup_holds_is_inspected_and_put_in_place(tmp_path: Path) -> None:
    succeed("init", "--dir", tmp_path / "srv" / "ca")

    def here(block: str) -> str:
        owner = f"{os.getuid()}:{os.getgid()}"
        assert block.count("chown -R ca-service:") <= 1
        block = block.replace("chown -R ca-service:", f"chown -R {owner}")
        return block.replace("/srv/", f"{tmp_path}/srv/").replace("/backup/", f"{tmp_path}/backup/")

    backup, inspect = blocks("back-up-and-restore.md", "SQLite")
    put_back = blocks("back-up-and-restore.md", "Restore")[0]
    typed(here(backup), tmp_path)
    assert "Everything agrees." in typed(here(inspect), tmp_path)
    # Not into what is there: cp would put it inside, and the old database would be served.
    with pytest.raises(AssertionError):
        typed(here(put_back), tmp_path)
    (tmp_path / "srv" / "ca").rename(tmp_path / "lost")
    typed(here(put_back), tmp_path)
    mark = tmp_path / "lost" / "mark"
    agrees = succeed(
        *("fsck", "--config", tmp_path / "srv" / "ca"),
        environ={"CASVC_HIGH_WATER_MARK__PATH": str(mark / "high-water.json")},
    )
    assert "Everything agrees." in agrees


CERTBOT = """\
#!/bin/bash
# What certbot does with a first certificate: hooks in its folder are for renewals, --deploy-hook is run.
while [ "$1" != --deploy-hook ]; do shift; done
[ -x "$2" ]
RENEWED_LINEAGE=LIVE "$2"
"""


def test_the_first_certificate_from_certbot_reaches_nginx(tmp_path: Path) -> None:
    programs, live, tls = tmp_path / "programs", tmp_path / "live", tmp_path / "etc" / "nginx" / "tls"
    for folder in (programs, live, tls):
        folder.mkdir(parents=True)
    made, hook = blocks("deploy-on-one-machine.md", "nginx and TLS")
    (request,) = re.findall(r"^openssl req .*?(?<!\\)$", made, re.MULTILINE | re.DOTALL)
    typed(request.replace("/etc/", f"{tmp_path}/etc/"), tmp_path)
    typed(request.replace("/etc/nginx/tls/ca.example.com", f"{live}/new"), tmp_path)
    (live / "new.pem").rename(live / "fullchain.pem")
    (live / "new.key").rename(live / "privkey.pem")
    for name, script in (
        ("certbot", CERTBOT.replace("LIVE", str(live))),
        ("systemctl", f'#!/bin/sh\necho "$@" >> {tmp_path}/systemctl\n'),
    ):
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
    typed(f"PATH={programs}:$PATH\n" + hook.replace("/etc/", f"{tmp_path}/etc/"), tmp_path)
    assert (tls / "ca.example.com.pem").read_bytes() == (live / "fullchain.pem").read_bytes()
    assert (tls / "ca.example.com.key").read_bytes() == (live / "privkey.pem").read_bytes()
    assert (tls / "ca.example.com.key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "systemctl").read_text() == "reload nginx\n"


@pytest.fixture(scope="module")
def old_and_new(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, tuple[RunningService, Issued]]]:
    """Two authorities that know nothing of each other, and a certificate of each."""
    folder = tmp_path_factory.mktemp("move")
    services = {name: dev_service(folder / name / "ca", workers=1) for name in ("old", "new")}
    with running(services["old"]), running(services["new"]), requests.Session() as session:
        session.trust_env = False
        yield {
            name: (one, issue(session, one.url, TokenDesk(one).token(EMAIL), EMAIL))
            for name, one in services.items()
        }


def test_verifiers_with_both_roots_accept_what_either_signed(
    old_and_new: dict[str, tuple[RunningService, Issued]], tmp_path: Path
) -> None:
    (old, by_old), (new, by_new) = old_and_new["old"], old_and_new["new"]
    old.export_trust(tmp_path / "old")
    (tmp_path / "ca").symlink_to(new.directory)
    (merge,) = blocks("move-from-fulcio.md", "2. Give verifiers both")
    said = typed(merge, tmp_path)
    assert [line.split()[0] for line in said.splitlines()[-2:]] == [old.url, new.url]
    both = TrustedRoot.from_file(str(tmp_path / "trusted_root.json"))
    authorities = both.get_fulcio_certs()
    for issued in (by_old, by_new):
        assert issued.issuing in authorities
        verify_sct(issued.leaf, list(issued.chain[1:]), both.ct_keyring(KeyringPurpose.VERIFY))
    # Once the old one has stopped, nothing signed later passes.
    (end,) = blocks("move-from-fulcio.md", "4. Afterwards")
    typed(end, tmp_path)
    ended = json.loads((tmp_path / "trusted_root.json").read_text())["certificateAuthorities"]
    assert [one["validFor"].get("end") for one in ended] == ["2026-12-01T00:00:00Z", None]
    kept = TrustedRoot.from_file(str(tmp_path / "trusted_root.json")).get_fulcio_certs()
    assert {one.subject for one in kept} == {one.subject for one in authorities}
    assert all(isinstance(one, x509.Certificate) for one in kept)


FULCIO = """\
# As the public instance's configuration is written: anchors under define, aliases in issuers.
define:
  - &github-type "github-workflow"
  - &gitlab-type "gitlab-pipeline"
oidc-issuers:
  https://accounts.google.com:
    issuer-url: https://accounts.google.com
    client-id: sigstore
    type: email
    contact: tac@sigstore.dev
    description: "Google OIDC auth"
  https://oauth2.sigstore.dev/auth:
    issuer-url: https://oauth2.sigstore.dev/auth
    client-id: sigstore
    type: email
    issuer-claim: $.federated_claims.connector_id
    contact: tac@sigstore.dev
    description: "dex address for fulcio"
  https://token.actions.githubusercontent.com:
    issuer-url: https://token.actions.githubusercontent.com
    client-id: sigstore
    type: ci-provider
    ci-provider: *github-type
    contact: tac@sigstore.dev
    description: "GitHub Actions OIDC auth"
  https://gitlab.com:
    issuer-url: https://gitlab.com
    client-id: sigstore
    type: ci-provider
    ci-provider: *gitlab-type
    contact: distribution-be@gitlab.com
    description: "GitLab OIDC auth"
  https://agent.buildkite.com:
    issuer-url: https://agent.buildkite.com
    client-id: sigstore
    type: buildkite-job
  https://allow.pub:
    issuer-url: https://allow.pub
    client-id: sigstore
    type: spiffe
    spiffe-trust-domain: allow.pub
  https://issuer.enforce.dev:
    issuer-url: https://issuer.enforce.dev
    client-id: sigstore
    type: chainguard-identity
meta-issuers:
  https://*.oic.prod-aks.azure.com/*:
    client-id: sigstore
    type: kubernetes
  https://container.googleapis.com/v1/projects/*/locations/*/clusters/*:
    client-id: sigstore
    type: kubernetes
  https://oidc.eks.*.amazonaws.com/id/*:
    client-id: sigstore
    type: kubernetes
  https://token.actions.githubusercontent.com/*:
    client-id: sigstore
    type: ci-provider
    ci-provider: *github-type
ci-issuer-metadata:
  *github-type:
    default-template-values:
      url: "https://github.com"
    extension-templates:
      build-trigger: "event_name"
      github-workflow-trigger: "event_name"
      github-workflow-sha: "sha"
      github-workflow-name: "workflow"
      github-workflow-repository: "repository"
      github-workflow-ref: "ref"
      build-signer-uri: "{{ .url }}/{{ .job_workflow_ref }}"
      build-signer-digest: "job_workflow_sha"
      runner-environment: "runner_environment"
      source-repository-uri: "{{ .url }}/{{ .repository }}"
      source-repository-digest: "sha"
      source-repository-ref: "ref"
      source-repository-identifier: "repository_id"
      source-repository-owner-uri: "{{ .url }}/{{ .repository_owner }}"
      source-repository-owner-identifier: "repository_owner_id"
      build-config-uri: "{{ .url }}/{{ .workflow_ref }}"
      build-config-digest: "workflow_sha"
      run-invocation-uri: "{{ .url }}/{{ .repository }}/actions/runs/{{ .run_id }}"
      source-repository-visibility-at-signing: "repository_visibility"
    subject-alternative-name-template: "{{ .url }}/{{ .job_workflow_ref }}"
  *gitlab-type:
    default-template-values:
      url: "https://gitlab.com"
    extension-templates:
      build-signer-uri: "https://{{ .ci_config_ref_uri }}"
      source-repository-ref: 'refs/{{if eq .ref_type "branch"}}heads/{{ else }}tags/{{end}}{{ .ref }}'
      source-repository-uri: "{{ .url }}/{{ .project_path }}"
    subject-alternative-name-template: "https://{{ .ci_config_ref_uri }}"
"""


def as_json() -> str:
    """The same as Fulcio's JSON spells it, where anchors are written out."""
    import yaml

    names = {
        "oidc-issuers": "OIDCIssuers",
        "meta-issuers": "MetaIssuers",
        "ci-issuer-metadata": "CIIssuerMetadata",
        "issuer-url": "IssuerURL",
        "client-id": "ClientID",
        "ci-provider": "CIProvider",
        "spiffe-trust-domain": "SPIFFETrustDomain",
        "issuer-claim": "IssuerClaim",
        "type": "Type",
        "contact": "Contact",
        "description": "Description",
        "default-template-values": "DefaultTemplateValues",
        "extension-templates": "ExtensionTemplates",
        "subject-alternative-name-template": "SubjectAlternativeNameTemplate",
    }

    def as_in_go(name: str) -> str:
        """Such as BuildSignerURI."""
        return "".join(
            word.upper() if word in ("uri", "sha") else word.capitalize() for word in name.split("-")
        )

    def renamed(value: object, within: str = "") -> object:
        if not isinstance(value, dict):
            return value
        if within == "extension-templates":
            return {as_in_go(name): template for name, template in value.items()}
        return {names.get(name, name): renamed(below, name) for name, below in value.items()}

    loaded = yaml.safe_load(FULCIO)
    del loaded["define"]
    return json.dumps(renamed(loaded))


@pytest.mark.parametrize("name", ["config.yaml", "config.json"])
def test_a_fulcio_configuration_is_served_as_it_is(name: str, tmp_path: Path) -> None:
    text = FULCIO if name.endswith("yaml") else as_json()
    succeed("init", "--dir", tmp_path / "ca")
    (tmp_path / "ca" / name).write_text(text)
    said = succeed(
        *("doctor", "--offline", "--config", tmp_path / "ca" / "ca.toml"), environ={"CASVC_ISSUERS": name}
    )
    assert (said.count("  ok    issuer https://"), said.count("  ok    issuers https://")) == (7, 4), said
    assert parse_issuer_file(text, name) == parse_issuer_file(FULCIO, "config.yaml")
