"""The OIDC issuers that are trusted, as the issuer file describes them, and how a token's issuer is found."""

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from ca_service.identity.claim_path import ClaimPath
from ca_service.identity.templates import Template

DEFAULT_ALGORITHMS = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
    "Ed25519",
)
"""What tokens may be signed with unless `algorithms` says less (RFC 7518 §3.1, RFC 8037, RFC 9864)."""

_WILDCARD = "[-_a-zA-Z0-9]+"


class IssuerType(enum.StrEnum):
    """How the claims of an issuer's tokens become an identity (docs of the issuer file, member `type`)."""

    EMAIL = "email"
    URI = "uri"
    USERNAME = "username"
    SPIFFE = "spiffe"
    KUBERNETES = "kubernetes"
    CI_PROVIDER = "ci-provider"
    GITHUB_WORKFLOW = "github-workflow"
    GITLAB_PIPELINE = "gitlab-pipeline"
    BUILDKITE_JOB = "buildkite-job"
    CODEFRESH_WORKFLOW = "codefresh-workflow"
    CHAINGUARD_IDENTITY = "chainguard-identity"


@dataclass(frozen=True, slots=True)
class CiProvider:
    """How the claims of a CI provider become a subject and certificate extensions, by extension name."""

    name: str
    subject: Template
    extensions: Mapping[str, Template]
    defaults: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ClaimRules:
    """What the operator asks of an issuer's tokens, beside what its type asks; made by policies.restrict.

    `required` maps a claim, as the operator names it, to the way down to it and the values it may have;
    `email_domains`, in lower case, are those that addresses may have, any when empty.
    """

    required: Mapping[str, tuple[tuple[str, ...], tuple[str | bool | int | float, ...]]] = field(
        default_factory=dict
    )
    email_domains: frozenset[str] = frozenset()


NO_RULES = ClaimRules()


@dataclass(frozen=True)
class Issuer:
    """One trusted issuer; `issuer_url` holds `*` for a wildcard. Members are those of the issuer file."""

    issuer_url: str
    client_id: str
    type: IssuerType
    wildcard: bool = False
    ci_provider: CiProvider | None = None
    issuer_claim: ClaimPath | None = None
    subject_domain: str = ""
    spiffe_trust_domain: str = ""
    challenge_claim: str = ""
    description: str = ""
    contact: str = ""
    environment: str = ""
    ca_cert: str | None = None
    skip_email_verification: bool = False
    strict_audience: bool = False
    algorithms: tuple[str, ...] = DEFAULT_ALGORITHMS
    rules: ClaimRules = NO_RULES

    @property
    def challenge(self) -> str:
        """The name of the claim whose value a client signs to prove that it holds its key."""
        return self.challenge_claim or ("email" if self.type is IssuerType.EMAIL else "sub")


@dataclass(frozen=True)
class IssuerDirectory:
    """Every trusted issuer: `issuers` by exact URL, `wildcards` in the order of the file.

    `remarks` are sentences for the operator about members of the file that were ignored.
    """

    issuers: tuple[Issuer, ...]
    wildcards: tuple[Issuer, ...] = ()
    remarks: tuple[str, ...] = field(default=(), compare=False)

    def find(self, issuer_url: str) -> Issuer | None:
        """Find the issuer of a token by its exact `iss`; an exact issuer wins over a wildcard."""
        exact = self._by_url.get(issuer_url)
        if exact is not None:
            return exact
        for pattern, issuer in self._patterns:
            if pattern.fullmatch(issuer_url):
                return issuer
        return None

    def with_issuer(self, issuer: Issuer) -> "IssuerDirectory":
        """Return a directory that also trusts one more exact issuer, in place of any of the same URL."""
        others = tuple(known for known in self.issuers if known.issuer_url != issuer.issuer_url)
        return IssuerDirectory((*others, issuer), self.wildcards, self.remarks)

    @cached_property
    def _by_url(self) -> dict[str, Issuer]:
        return {issuer.issuer_url: issuer for issuer in self.issuers}

    @cached_property
    def _patterns(self) -> tuple[tuple[re.Pattern[str], Issuer], ...]:
        return tuple((wildcard_pattern(issuer.issuer_url), issuer) for issuer in self.wildcards)


def wildcard_pattern(wildcard_url: str) -> re.Pattern[str]:
    """Compile a wildcard URL for `fullmatch`: each `*` is one or more of `-_a-zA-Z0-9`, never `.` or `/`.

    The first place where the text after a `*` fits is final (atomic groups), so that matching stays linear
    in the length of an attacker's `iss`; a later place could not fit where the first does not.
    """
    first, *rest = (re.escape(part) for part in wildcard_url.split("*"))
    if not rest:
        return re.compile(first)
    *middle, last = rest
    return re.compile(first + "".join(f"(?>{_WILDCARD}?{part})" for part in middle) + _WILDCARD + last)
