"""Reads Fulcio's issuer file, YAML or JSON, in either spelling, and checks it before the service starts.

Unknown members are ignored, as Fulcio ignores them, but each leaves a remark for the operator.
"""

import json
from collections.abc import Mapping
from typing import Any, NoReturn

import yaml

from ca_service.errors import ConfigurationError
from ca_service.identity.ci_providers import EXTENSION_NAMES, OLDER_PROVIDERS
from ca_service.identity.claim_path import ClaimPath
from ca_service.identity.claims import json_kind
from ca_service.identity.issuer_rules import check_issuer
from ca_service.identity.issuers import DEFAULT_ALGORITHMS, CiProvider, Issuer, IssuerDirectory, IssuerType
from ca_service.identity.templates import Template

_TOP = ("oidc-issuers", "meta-issuers", "ci-issuer-metadata")
_ISSUER_MEMBERS = (
    "issuer-url",
    "client-id",
    "type",
    "ci-provider",
    "issuer-claim",
    "subject-domain",
    "spiffe-trust-domain",
    "challenge-claim",
    "description",
    "contact",
    "environment",
    "ca-cert",
    "skip-email-verification",
    "strict-audience",
    "algorithms",
)
_PROVIDER_MEMBERS = ("default-template-values", "extension-templates", "subject-alternative-name-template")
# Fulcio sets these two from the token itself, whatever the file says.
_NOT_TEMPLATED = ("issuer", "token-subject", "subject")
_TYPES = ", ".join(IssuerType)


def parse_issuer_file(text: str, source: str) -> IssuerDirectory:
    """Read and check an issuer file; `source` is its name for messages.

    Raises ConfigurationError, which names the file, the issuer or provider, and the member that is wrong.
    """
    return _Reader(source).read(text)


class _Reader:
    """Reads one file; every complaint carries the file's name."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._remarks: list[str] = []

    def read(self, text: str) -> IssuerDirectory:
        document = self._document(text)
        top = self._members(document, "the file", _TOP, remark=False)
        providers = {
            name: self._provider(name, body)
            for name, body in self._mapping(top.get("ci-issuer-metadata"), "ci-issuer-metadata").items()
        }
        exact = self._mapping(top.get("oidc-issuers"), "oidc-issuers")
        meta = self._mapping(top.get("meta-issuers"), "meta-issuers")
        issuers = [self._issuer(url, body, providers, wildcard=False) for url, body in exact.items()]
        wildcards = [self._issuer(url, body, providers, wildcard=True) for url, body in meta.items()]
        # An empty list says so on purpose, as a fresh directory's does; a file without any list is another's.
        if "oidc-issuers" not in top and "meta-issuers" not in top:
            self._refuse(
                f"it names no issuer; expected oidc-issuers or meta-issuers{self._wrapped(document)}"
            )
        # A meta issuer without a star is an exact one, and is looked up as such.
        plain = [issuer for issuer in wildcards if "*" not in issuer.issuer_url]
        return IssuerDirectory(
            issuers=(*issuers, *(i for i in plain if i.issuer_url not in exact)),
            wildcards=tuple(issuer for issuer in wildcards if "*" in issuer.issuer_url),
            remarks=tuple(self._remarks),
        )

    @staticmethod
    def _wrapped(document: Mapping[str, object]) -> str:
        """What to say about the form in which a Fulcio on Kubernetes has its file."""
        if document.get("kind") != "ConfigMap":
            return ""
        data = document.get("data")
        inside = " or ".join(sorted(map(str, data))) if isinstance(data, dict) else "data"
        return f". This is a Kubernetes ConfigMap; the file is the text in it, under {inside}"

    def _document(self, text: str) -> Mapping[str, object]:
        try:
            text = text.removeprefix("\ufeff")
            if text.lstrip().startswith("{"):
                document = json.loads(text, object_pairs_hook=_unique)
            else:
                document = yaml.load(text, Loader=_Loader)  # noqa: S506 -- the loader below makes only strings, lists and mappings
        except (ValueError, RecursionError, yaml.YAMLError) as problem:
            self._refuse(f"it is neither YAML nor JSON: {' '.join(str(problem).split())}")
        return self._mapping(document, "the file")

    def _issuer(
        self, url: str, body: object, providers: Mapping[str, CiProvider], *, wildcard: bool
    ) -> Issuer:
        where = f"issuer {url}"
        members = self._members(self._mapping(body, where), where, _ISSUER_MEMBERS)
        texts = {name: self._text(members.get(name), where, name) for name in members if name != "algorithms"}
        if texts.get("issuer-url", url) not in (url, ""):
            self._refuse(f"{where}: issuer-url is {texts['issuer-url']}; expected the URL it is listed under")
        if not texts.get("client-id"):
            self._refuse(
                f"{where}: client-id is missing; expected the audience of its tokens, such as sigstore"
            )
        try:
            issuer_type = IssuerType(texts.get("type", ""))
        except ValueError:
            self._refuse(f"{where}: type is {texts.get('type', '')!r}; expected one of {_TYPES}")
        issuer = Issuer(
            issuer_url=url,
            client_id=texts["client-id"],
            type=issuer_type,
            wildcard=wildcard,
            ci_provider=self._provider_of(issuer_type, texts.get("ci-provider", ""), providers, where),
            issuer_claim=self._claim_path(texts.get("issuer-claim", ""), where),
            subject_domain=texts.get("subject-domain", ""),
            spiffe_trust_domain=texts.get("spiffe-trust-domain", ""),
            challenge_claim=texts.get("challenge-claim", ""),
            description=texts.get("description", ""),
            contact=texts.get("contact", ""),
            environment=texts.get("environment", ""),
            ca_cert=texts.get("ca-cert") or None,
            skip_email_verification=self._flag(texts, "skip-email-verification", where),
            strict_audience=self._flag(texts, "strict-audience", where),
            algorithms=self._algorithms(members.get("algorithms"), where),
        )
        try:
            check_issuer(issuer)
        except ValueError as problem:
            self._refuse(f"{where}: {problem}")
        return issuer

    def _provider_of(
        self, issuer_type: IssuerType, named: str, providers: Mapping[str, CiProvider], where: str
    ) -> CiProvider | None:
        if issuer_type is not IssuerType.CI_PROVIDER:
            # The older types are named after the provider whose templates they use.
            return providers.get(issuer_type.value, OLDER_PROVIDERS.get(issuer_type.value))
        if named not in providers:
            known = ", ".join(sorted(providers)) or "none"
            self._refuse(
                f"{where}: ci-provider is {named!r}, which is not defined; ci-issuer-metadata has {known}"
            )
        return providers[named]

    def _provider(self, name: str, body: object) -> CiProvider:
        where = f"CI provider {name}"
        members = self._members(self._mapping(body, where), where, _PROVIDER_MEMBERS)
        defaults = self._mapping(members.get("default-template-values"), f"{where}, default-template-values")
        templates = self._members(
            self._mapping(members.get("extension-templates"), f"{where}, extension-templates"),
            f"{where}, extension-templates",
            (*EXTENSION_NAMES, *_NOT_TEMPLATED),
        )
        subject = self._text(
            members.get("subject-alternative-name-template"), where, "subject-alternative-name-template"
        )
        if not subject.strip():
            self._refuse(
                f"{where}: subject-alternative-name-template is missing; a certificate needs a subject"
            )
        extensions = {
            extension: self._text(template, where, extension)
            for extension, template in templates.items()
            if extension not in _NOT_TEMPLATED
        }
        return CiProvider(
            name=name,
            subject=self._template(subject, where, "subject-alternative-name-template", needs_all=True),
            extensions={
                extension: self._template(template, where, f"extension-templates, {extension}")
                for extension, template in extensions.items()
                if template.strip()
            },
            defaults={key: self._text(value, where, key) for key, value in defaults.items()},
        )

    def _template(self, text: str, where: str, member: str, *, needs_all: bool = False) -> Template:
        try:
            return Template.parse(text, needs_all=needs_all)
        except ValueError as problem:
            self._refuse(f"{where}: {member}: the template cannot be used: {problem}")

    def _claim_path(self, text: str, where: str) -> ClaimPath | None:
        try:
            return ClaimPath.parse(text) if text else None
        except ValueError as problem:
            self._refuse(f"{where}: issuer-claim: {problem}")

    def _algorithms(self, value: object, where: str) -> tuple[str, ...]:
        names = value.replace(",", " ").split() if isinstance(value, str) else value
        if not names:
            return DEFAULT_ALGORITHMS
        unknown = (
            [name for name in names if name not in DEFAULT_ALGORITHMS] if isinstance(names, list) else [value]
        )
        if unknown or not isinstance(names, list):
            self._refuse(f"{where}: algorithms: {unknown[0]!r} is not one of {', '.join(DEFAULT_ALGORITHMS)}")
        return tuple(names)

    def _flag(self, texts: Mapping[str, str], name: str, where: str) -> bool:
        value = texts.get(name, "").lower()
        if value not in ("", "true", "false"):
            self._refuse(f"{where}: {name} is {texts[name]!r}; expected true or false")
        return value == "true"

    def _members(
        self, body: Mapping[str, object], where: str, known: tuple[str, ...], *, remark: bool = True
    ) -> dict[str, object]:
        """Bring member names to the YAML spelling: `OIDCIssuers` and `oidc-issuers` are one."""
        names = {_plain(name): name for name in known}
        found: dict[str, object] = {}
        for spelled, value in body.items():
            name = names.get(_plain(spelled))
            if name is None:
                if remark:
                    self._remarks.append(
                        f"{self._source}: {where}: {spelled} is not a known member and is ignored"
                    )
                continue
            if name in found:
                self._refuse(f"{where}: {name} is given twice, in two spellings")
            found[name] = value
        return found

    def _mapping(self, value: object, where: str) -> Mapping[str, object]:
        if value is None:
            return {}
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            came = "one with a name that is no text" if isinstance(value, dict) else json_kind(value)
            self._refuse(f"{where} must be a mapping of names to members, not {came}")
        return value

    def _text(self, value: object, where: str, member: str) -> str:
        if not isinstance(value, str | int | float | None):
            self._refuse(f"{where}: {member} must be one text, not a list or a mapping")
        if isinstance(value, bool):
            return "true" if value else "false"
        return "" if value is None else str(value)

    def _refuse(self, problem: str) -> NoReturn:
        raise ConfigurationError(f"issuer file {self._source}: {problem}", file=self._source)


def _plain(name: str) -> str:
    return name.replace("-", "").replace("_", "").lower()


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(name for name in found if sum(name == other for other, _ in pairs) > 1)
        raise ValueError(f"{twice!r} is given twice")
    return found


class _Loader(yaml.SafeLoader):
    """YAML as Fulcio's Go decoder reads it into strings: no guessing of types, no member given twice."""

    # Only nulls and merge keys keep a meaning of their own; 1.20, on and 2026-11-23 stay what was written.
    yaml_implicit_resolvers = {  # noqa: RUF012 -- PyYAML wants this name as a class attribute
        first: [(tag, pattern) for tag, pattern in resolvers if tag.endswith((":null", ":merge"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        # Here the members are still those that were written; what << merges in may be overridden.
        names = [key.value for key, _value in node.value if isinstance(key, yaml.ScalarNode)]
        if len(names) != len(set(names)):
            twice = next(name for name in names if names.count(name) > 1)
            raise yaml.composer.ComposerError(None, None, f"{twice!r} is given twice", node.start_mark)
        return node
