"""The issuer file: both spellings, what is refused at start, and whose tokens are found."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

from ca_service.errors import ConfigurationError
from ca_service.identity.ci_providers import OLDER_PROVIDERS
from ca_service.identity.issuer_file import parse_issuer_file
from ca_service.identity.issuers import Issuer, IssuerDirectory, IssuerType

SHIPPED = Path(__file__).parents[3] / "config" / "issuers.yaml"

YAML = """
# Anchors are defined where Fulcio's own file defines them.
define:
  - &build "our-build"
oidc-issuers:
  https://accounts.example.com:
    issuer-url: https://accounts.example.com
    client-id: sigstore
    type: email
    issuer-claim: $.federated_claims.connector_id
    challenge-claim: email
    description: "People"
    contact: people@example.com
    environment: production
    skip-email-verification: true
  https://login.example.co.uk:
    client-id: 0123
    type: uri
    subject-domain: https://app.example.co.uk
  https://names.example.com:
    client-id: sigstore
    type: username
    subject-domain: example.com
  https://spire.example.com:
    client-id: sigstore
    type: spiffe
    spiffe-trust-domain: example.com
  https://build.example.com: &defaults
    client-id: sigstore
    type: ci-provider
    ci-provider: *build
  https://build2.example.com:
    <<: *defaults
    client-id: second
meta-issuers:
  https://oidc.eks.*.example.com/id/*:
    client-id: sigstore
    type: kubernetes
ci-issuer-metadata:
  *build:
    default-template-values:
      url: https://build.example.com
      empty: ""
    extension-templates:
      build-signer-uri: "{{ .url }}/{{ .job }}"
      build-trigger: ""
    subject-alternative-name-template: "{{ .url }}/{{ .job }}"
"""

JSON = {
    "OIDCIssuers": {
        "https://accounts.example.com": {
            "IssuerURL": "https://accounts.example.com",
            "ClientID": "sigstore",
            "Type": "email",
            "IssuerClaim": "$.federated_claims.connector_id",
            "ChallengeClaim": "email",
            "Description": "People",
            "Contact": "people@example.com",
            "Environment": "production",
            "SkipEmailVerification": True,
        },
        "https://login.example.co.uk": {
            "ClientID": "0123",
            "Type": "uri",
            "SubjectDomain": "https://app.example.co.uk",
        },
        "https://names.example.com": {
            "ClientID": "sigstore",
            "Type": "username",
            "SubjectDomain": "example.com",
        },
        "https://spire.example.com": {
            "ClientID": "sigstore",
            "Type": "spiffe",
            "SPIFFETrustDomain": "example.com",
        },
        "https://build.example.com": {
            "ClientID": "sigstore",
            "Type": "ci-provider",
            "CIProvider": "our-build",
        },
        "https://build2.example.com": {
            "ClientID": "second",
            "Type": "ci-provider",
            "CIProvider": "our-build",
        },
    },
    "MetaIssuers": {"https://oidc.eks.*.example.com/id/*": {"ClientID": "sigstore", "Type": "kubernetes"}},
    "CIIssuerMetadata": {
        "our-build": {
            "DefaultTemplateValues": {"url": "https://build.example.com", "empty": ""},
            "ExtensionTemplates": {"BuildSignerURI": "{{ .url }}/{{ .job }}", "BuildTrigger": ""},
            "SubjectAlternativeNameTemplate": "{{ .url }}/{{ .job }}",
        }
    },
}


def one(*members: str, url: str = "https://a.example.com", group: str = "oidc-issuers") -> str:
    """A file with one issuer."""
    return f"{group}:\n  {url}:\n" + "".join(f"    {member}\n" for member in members)


def found(directory: IssuerDirectory, url: str) -> Issuer:
    issuer = directory.find(url)
    assert issuer is not None
    return issuer


def test_yaml_with_anchors_aliases_and_merges_is_read() -> None:
    directory = parse_issuer_file(YAML, "issuers.yaml")
    people = found(directory, "https://accounts.example.com")
    assert people.type is IssuerType.EMAIL
    assert people.skip_email_verification
    assert people.issuer_claim is not None
    assert people.issuer_claim.names == ("federated_claims", "connector_id")
    assert (people.description, people.contact, people.environment) == (
        "People",
        "people@example.com",
        "production",
    )
    assert found(directory, "https://login.example.co.uk").client_id == "0123"
    second = found(directory, "https://build2.example.com")
    assert second.client_id == "second"
    assert second.ci_provider is not None
    assert second.ci_provider.defaults == {"url": "https://build.example.com", "empty": ""}
    assert set(second.ci_provider.extensions) == {"build-signer-uri"}
    assert directory.remarks == ()


def test_merges_may_be_merged_and_overridden() -> None:
    text = """
meta-issuers:
  https://*.c.example: &c {<<: &b {<<: &a {client-id: a, type: email}, client-id: b}, client-id: c}
oidc-issuers:
  https://a.example: *a
  https://b.example: *b
  https://c.example: {<<: *c, client-id: d}
"""
    directory = parse_issuer_file(text, "t")
    urls = ("https://a.example", "https://b.example", "https://x.c.example", "https://c.example")
    assert [found(directory, url).client_id for url in urls] == ["a", "b", "c", "d"]


def test_the_json_spelling_means_the_same() -> None:
    as_yaml, as_json = parse_issuer_file(YAML, "a"), parse_issuer_file(json.dumps(JSON), "b")
    assert as_json == as_yaml
    assert parse_issuer_file("\ufeff" + json.dumps(JSON, indent="\t"), "c") == as_yaml


def test_what_the_challenge_is_by_default() -> None:
    directory = parse_issuer_file(YAML, "issuers.yaml")
    assert found(directory, "https://accounts.example.com").challenge == "email"
    assert found(directory, "https://spire.example.com").challenge == "sub"


@pytest.mark.parametrize("text", ["oidc-issuers: {}\n", "oidc-issuers:\n", '{"MetaIssuers": {}}'])
def test_a_file_may_trust_nobody_yet(text: str) -> None:
    directory = parse_issuer_file(text, "issuers.yaml")
    assert directory.find("https://a.example.com") is None


def test_members_nobody_knows_are_ignored_with_a_remark() -> None:
    text = one("client-id: sigstore", "type: email", "skip-email-verfication: true")
    directory = parse_issuer_file(text, "issuers.yaml")
    assert not found(directory, "https://a.example.com").skip_email_verification
    (remark,) = directory.remarks
    assert "skip-email-verfication" in remark
    assert "https://a.example.com" in remark


OK = ("client-id: sigstore", "type: email")
CI = ("client-id: sigstore", "type: ci-provider", "ci-provider: p")
PROVIDER = "ci-issuer-metadata:\n  p:\n    subject-alternative-name-template: '{{ .a }}'\n"

REFUSED: dict[str, tuple[str, tuple[str, ...]]] = {
    "neither YAML nor JSON": ("\t: [", ("neither YAML nor JSON",)),
    "JSON that breaks off": ('{"OIDCIssuers": ', ("neither YAML nor JSON",)),
    "nothing": ("", ("names no issuer",)),
    "what Kubernetes wraps it in": (
        "kind: ConfigMap\ndata:\n  config.yaml: |-\n    oidc-issuers: {}\n",
        ("names no issuer", "ConfigMap", "under config.yaml"),
    ),
    "something else": ("define: {}\n", ("names no issuer", "oidc-issuers")),
    "a list": ("- a\n", ("the file must be a mapping of names to members, not a list",)),
    "issuers as a list": ("oidc-issuers: [a]\n", ("oidc-issuers must be a mapping", "not a list")),
    "an issuer as a text": (
        "oidc-issuers:\n  https://a.example: sigstore\n",
        ("issuer https://a.example must be a mapping", "not a string"),
    ),
    "a mapping with a list as a name": (
        "oidc-issuers:\n  ? [a]\n  : {}\n",
        ("issuers.yaml",),
    ),
    "an issuer that is a text": (
        "oidc-issuers:\n  https://a.example.com: email\n",
        ("https://a.example.com",),
    ),
    "no type": (one("client-id: sigstore"), ("https://a.example.com", "type is ''", "kubernetes")),
    "unknown type": (one("client-id: sigstore", "type: emial"), ("https://a.example.com", "'emial'")),
    "no client-id": (one("type: email"), ("https://a.example.com", "client-id")),
    "a list as client-id": (one("client-id: [a, b]", "type: email"), ("client-id must be one text",)),
    "another issuer-url": (
        one(*OK, "issuer-url: https://b.example.com"),
        ("issuer-url", "https://b.example"),
    ),
    "an issuer that is no URL": (one(*OK, url="accounts"), ("accounts", "issuer-url")),
    "an issuer with a query": (one(*OK, url="https://a.example.com/?a=b"), ("query",)),
    "an issuer with a user": (one(*OK, url="https://me@a.example.com"), ("user information",)),
    "a wildcard among exact issuers": (one(*OK, url="https://*.example.com"), ("meta-issuers",)),
    "an issuer given twice": (one(*OK) + "".join(one(*OK).splitlines(True)[1:]), ("twice",)),
    "an issuer twice in JSON": ('{"OIDCIssuers":{"a":{},"a":{}}}', ("twice",)),
    "a member in two spellings": (one(*OK, "ClientID: b"), ("client-id is given twice",)),
    "issuer-claim on uri": (
        one("client-id: s", "type: uri", "subject-domain: https://example.com", "issuer-claim: $.a"),
        ("issuer-claim",),
    ),
    "an issuer-claim beyond names": (
        one(*OK, "issuer-claim: $..connector_id"),
        ("issuer-claim", "$..connector"),
    ),
    "an issuer-claim without $": (one(*OK, "issuer-claim: connector_id"), ("issuer-claim",)),
    "a flag that is none": (one(*OK, "skip-email-verification: maybe"), ("skip-email-verification", "maybe")),
    "a ca-cert that is none": (one(*OK, "ca-cert: nonsense"), ("ca-cert",)),
    "an algorithm of old": (one(*OK, "algorithms: [RS256, HS256]"), ("algorithms", "HS256")),
    "spiffe without trust domain": (one("client-id: s", "type: spiffe"), ("spiffe-trust-domain",)),
    "spiffe with a wrong trust domain": (
        one("client-id: s", "type: spiffe", "spiffe-trust-domain: Foo/bar"),
        ("spiffe-trust-domain", "Foo/bar"),
    ),
    "spiffe as wildcard": (
        one(
            "client-id: s",
            "type: spiffe",
            "spiffe-trust-domain: a.example",
            url="https://*.a.example",
            group="meta-issuers",
        ),
        ("wildcard",),
    ),
    "uri without domain": (one("client-id: s", "type: uri"), ("subject-domain",)),
    "uri without scheme": (
        one("client-id: s", "type: uri", "subject-domain: example.com"),
        ("subject-domain",),
    ),
    "uri with another scheme": (
        one("client-id: s", "type: uri", "subject-domain: http://example.com"),
        ("scheme", "https"),
    ),
    "uri with another domain": (
        one("client-id: s", "type: uri", "subject-domain: https://example.org"),
        ("registrable", "example.com"),
    ),
    "uri of a neighbour below co.uk": (
        one(
            "client-id: s",
            "type: uri",
            "subject-domain: https://evil.co.uk",
            url="https://login.example.co.uk",
        ),
        ("registrable", "example.co.uk"),
    ),
    "uri of a neighbour below github.io": (
        one(
            "client-id: s", "type: uri", "subject-domain: https://evil.github.io", url="https://me.github.io"
        ),
        ("registrable", "me.github.io"),
    ),
    "uri of another address": (
        one("client-id: s", "type: uri", "subject-domain: https://10.0.0.1", url="https://11.0.0.1"),
        ("registrable", "11.0.0.1"),
    ),
    "username with scheme": (
        one("client-id: s", "type: username", "subject-domain: https://example.com"),
        ("subject-domain", "without a scheme"),
    ),
    "username without domain": (one("client-id: s", "type: username"), ("subject-domain",)),
    "username of another domain": (
        one("client-id: s", "type: username", "subject-domain: example.org"),
        ("registrable",),
    ),
    "a provider that is not defined": (one(*CI), ("https://a.example.com", "ci-provider", "'p'")),
    "no provider": (one("client-id: s", "type: ci-provider"), ("ci-provider",)),
    "a known provider that this file does not define": (
        one("client-id: s", "type: ci-provider", "ci-provider: github-workflow"),
        ("ci-provider", "github-workflow"),
    ),
    "a provider without subject": (
        "ci-issuer-metadata:\n  p: {}\n",
        ("CI provider p", "subject-alternative-name-template"),
    ),
    "a subject that does not parse": (
        PROVIDER.replace("{{ .a }}", "{{ .a "),
        ("CI provider p", "subject-alternative-name-template", "template"),
    ),
    "an extension that does not parse": (
        PROVIDER + "    extension-templates:\n      build-trigger: '{{ range .a }}'\n",
        ("CI provider p", "build-trigger", "template"),
    ),
}


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_a_wrong_file_is_refused_at_start_with_file_issuer_and_member(case: str) -> None:
    text, says = REFUSED[case]
    with pytest.raises(ConfigurationError) as raised:
        parse_issuer_file(text, "/etc/ca/issuers.yaml")
    assert raised.value.message.startswith("issuer file /etc/ca/issuers.yaml: ")
    for word in says:
        assert word in raised.value.message


def test_a_certificate_for_an_issuer_is_taken_as_it_is(certificate_pem: str) -> None:
    text = yaml.safe_dump(
        {
            "oidc-issuers": {
                "https://a.example.com": {"client-id": "s", "type": "email", "ca-cert": certificate_pem}
            }
        }
    )
    ca_cert = found(parse_issuer_file(text, "t"), "https://a.example.com").ca_cert
    assert ca_cert is not None
    assert len(x509.load_pem_x509_certificates(ca_cert.encode())) == 1


def test_an_exact_issuer_wins_over_a_wildcard() -> None:
    text = one("client-id: exact", "type: email", url="https://a.example.com") + one(
        "client-id: meta", "type: email", url="https://*.example.com", group="meta-issuers"
    )
    directory = parse_issuer_file(text, "t")
    assert found(directory, "https://a.example.com").client_id == "exact"
    assert found(directory, "https://b.example.com").client_id == "meta"


def test_a_meta_issuer_without_a_star_is_an_exact_one() -> None:
    directory = parse_issuer_file(one(*OK, group="meta-issuers"), "t")
    assert directory.find("https://a.example.com")
    assert directory.find("https://a.example.comx") is None


@pytest.mark.parametrize("older", sorted(OLDER_PROVIDERS))
def test_older_types_need_no_metadata_and_take_it_when_it_is_there(older: str) -> None:
    issuer = one("client-id: sigstore", f"type: {older}")
    built_in = found(parse_issuer_file(issuer, "t"), "https://a.example.com").ci_provider
    assert built_in is OLDER_PROVIDERS[older]
    defined = parse_issuer_file(issuer + PROVIDER.replace("p:", f"{older}:"), "t")
    own = found(defined, "https://a.example.com").ci_provider
    assert own is not None
    assert own.subject.source == "{{ .a }}"


def test_the_shipped_file_loads_and_agrees_with_the_older_types() -> None:
    text = SHIPPED.read_text(encoding="utf-8")
    directory = parse_issuer_file(text, "config/issuers.yaml")
    assert directory.remarks == ()
    assert directory.find("https://oidc.eks.eu-west-1.amazonaws.com/id/4E5A")
    assert directory.find("https://accounts.google.com")
    providers: dict[str, Any] = {
        i.ci_provider.name: i.ci_provider for i in directory.issuers if i.ci_provider
    }
    assert set(providers) == {*OLDER_PROVIDERS, "circleci-job", "buddy-pipeline"}
    for name, built_in in OLDER_PROVIDERS.items():
        assert providers[name] == built_in


def test_one_more_issuer_can_be_trusted_in_memory() -> None:
    directory = parse_issuer_file(one(*OK), "t")
    more = directory.with_issuer(Issuer("https://dev.example.com", "sigstore", IssuerType.EMAIL))
    assert more.find("https://dev.example.com")
    assert more.find("https://a.example.com")
    assert directory.find("https://dev.example.com") is None
