"""From verified claims to the identity a certificate carries, by the type of the issuer."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ca_service.errors import EmailNotVerified, TokenClaimInvalid, TokenClaimMissing
from ca_service.identity.claims import VerifiedToken, json_kind, text_claim
from ca_service.identity.issuers import IssuerType
from ca_service.identity.names import (
    check_email_address,
    check_spiffe_id,
    is_email_address,
    origin_of,
    uri_name,
)
from ca_service.identity.policies import check_policy
from ca_service.vocabulary import SubjectKind, SubjectName

_VERIFIED = (True, "true", "True")
_KUBERNETES_NAME = re.compile(r"[A-Za-z0-9](?:[-.A-Za-z0-9]{0,251}[A-Za-z0-9])?")
_MAX_USERNAME = 1024


@dataclass(frozen=True, slots=True)
class Principal:
    """Who signs: the certificate's subject and extensions, and what the client must have signed.

    A proof over any one of `challenges` is good. `extensions` maps Fulcio's extension names to their texts;
    `oidc_issuer` is the text of the issuer extension, `oidc_subject` the token's `sub`.
    """

    subject: SubjectName
    challenges: tuple[str, ...]
    extensions: Mapping[str, str]
    oidc_issuer: str
    oidc_subject: str


def principal_for(token: VerifiedToken) -> Principal:
    """Make the principal of a verified token by the rules of its issuer's type.

    Raises TokenClaimMissing, TokenClaimInvalid, EmailNotVerified or, by the operator's policy,
    IdentityRefused, which name the claim and never its value.
    """
    issuer = token.issuer
    subject, found = _SUBJECTS[issuer.type](token)
    check_policy(token)
    claim_path = issuer.issuer_claim
    oidc_issuer = claim_path.read(token.claims) if claim_path else token.issuer_url
    oidc_subject = text_claim(token.claims, "sub")
    extensions = {"issuer": oidc_issuer, "token-subject": oidc_subject, **found}
    return Principal(subject, _challenges(token), extensions, oidc_issuer, oidc_subject)


def _challenges(token: VerifiedToken) -> tuple[str, ...]:
    """What the client may have signed.

    Clients sign the token's `email` whenever there is one, so it is accepted where Fulcio takes only `sub`.
    """
    issuer, claims = token.issuer, token.claims
    email = claims.get("email")
    also_email = (email,) if isinstance(email, str) and email else ()
    if issuer.type is IssuerType.CHAINGUARD_IDENTITY and also_email and not issuer.challenge_claim:
        return also_email
    challenge = text_claim(claims, issuer.challenge)
    return (
        (challenge, *also_email) if issuer.challenge == "sub" and also_email != (challenge,) else (challenge,)
    )


_Found = tuple[SubjectName, Mapping[str, str]]


def _email(token: VerifiedToken) -> _Found:
    address = text_claim(token.claims, "email")
    verified = token.claims.get("email_verified")
    if not token.issuer.skip_email_verification and not (
        isinstance(verified, bool | str) and verified in _VERIFIED
    ):
        came = "absent" if verified is None else "not true"
        raise EmailNotVerified(
            f"the token's claim 'email_verified' is {came}; expected true",
            claim="email_verified",
            expected="true",
            received=came,
        )
    try:
        check_email_address(address)
    except ValueError as problem:
        raise TokenClaimInvalid(
            f"the token's claim 'email' is not an e-mail address that a certificate can hold: {problem}",
            claim="email",
            expected="an e-mail address that a certificate can hold",
            received=str(problem),
        ) from None
    return SubjectName(SubjectKind.EMAIL, address), {}


def _uri(token: VerifiedToken) -> _Found:
    sub = text_claim(token.claims, "sub")
    if is_email_address(sub):
        raise _invalid("sub", "it is an e-mail address; expected a URI")
    try:
        origin, name = origin_of(sub), uri_name(sub)
    except ValueError as problem:
        raise _invalid("sub", str(problem)) from None
    if origin != origin_of(token.issuer.subject_domain):
        raise _invalid("sub", f"its scheme and host are not those of {token.issuer.subject_domain}")
    return SubjectName(SubjectKind.URI, name), {}


def _username(token: VerifiedToken) -> _Found:
    sub = text_claim(token.claims, "sub")
    if "!" in sub:
        raise _invalid("sub", "a user name may not hold an exclamation mark")
    if is_email_address(sub):
        raise _invalid("sub", "it is an e-mail address; expected a user name")
    if not sub.isprintable() or len(sub) > _MAX_USERNAME:
        raise _invalid("sub", f"a user name has at most {_MAX_USERNAME} printable characters")
    return SubjectName(SubjectKind.USERNAME, f"{sub}!{token.issuer.subject_domain}"), {}


def _spiffe(token: VerifiedToken) -> _Found:
    sub = text_claim(token.claims, "sub")
    try:
        check_spiffe_id(sub, token.issuer.spiffe_trust_domain)
    except ValueError as problem:
        raise _invalid("sub", f"it is not a SPIFFE ID of this issuer: {problem}") from None
    return SubjectName(SubjectKind.URI, sub), {}


def _kubernetes(token: VerifiedToken) -> _Found:
    claim = token.claims.get("kubernetes.io")
    if claim is None:
        raise TokenClaimMissing(
            "the token has no claim 'kubernetes.io', which a Kubernetes service account's token needs",
            claim="kubernetes.io",
            expected="an object",
            received="no such claim",
        )
    if not isinstance(claim, Mapping):
        raise _invalid("kubernetes.io", f"it must be an object, not {json_kind(claim)}")
    account = claim.get("serviceaccount")
    namespace = claim.get("namespace")
    name = account.get("name") if isinstance(account, Mapping) else None
    for member, value in (("namespace", namespace), ("serviceaccount.name", name)):
        if not isinstance(value, str) or not value:
            raise TokenClaimMissing(
                f"the token's claim 'kubernetes.io' has no {member}; expected a Kubernetes name",
                claim=f"kubernetes.io/{member}",
                expected="a Kubernetes name",
                received="no such claim",
            )
        if not _KUBERNETES_NAME.fullmatch(value):
            raise _invalid(f"kubernetes.io/{member}", "it is not a Kubernetes name (RFC 1123)")
    return SubjectName(
        SubjectKind.URI, f"https://kubernetes.io/namespaces/{namespace}/serviceaccounts/{name}"
    ), {}


def _ci_provider(token: VerifiedToken) -> _Found:
    provider = token.issuer.ci_provider
    if provider is None:
        raise ValueError(
            f"issuer {token.issuer.issuer_url} has no CI provider; the issuer file's checks see to that"
        )
    # A null claim is as good as absent: the default, if there is one, stands in for it.
    values = {
        **provider.defaults,
        **{name: value for name, value in token.claims.items() if value is not None},
    }
    try:
        subject = SubjectName(SubjectKind.URI, uri_name(provider.subject.render(values)))
    except ValueError as problem:
        raise TokenClaimInvalid(
            f"the subject that the template of CI provider {provider.name} makes is not a URI: {problem}",
            claim="subject-alternative-name-template",
            expected="claims that make a URI",
            received=str(problem),
        ) from None
    rendered = {name: template.render(values) for name, template in provider.extensions.items()}
    return subject, {name: text for name, text in rendered.items() if text}


def _chainguard(token: VerifiedToken) -> _Found:
    sub = text_claim(token.claims, "sub")
    if "?" in sub or "#" in sub or {"", ".", ".."}.intersection(sub.split("/")):
        raise _invalid("sub", "it must be a path that stays below the issuer's URL")
    try:
        return SubjectName(SubjectKind.URI, uri_name(f"{token.issuer_url.rstrip('/')}/{sub}")), {}
    except ValueError as problem:
        raise _invalid("sub", str(problem)) from None


def _invalid(claim: str, problem: str) -> TokenClaimInvalid:
    return TokenClaimInvalid(
        f"the token's claim {claim!r} is not accepted: {problem}",
        claim=claim,
        expected="a value that this issuer's type accepts",
        received=problem,
    )


_SUBJECTS: Mapping[IssuerType, Callable[[VerifiedToken], _Found]] = {
    IssuerType.EMAIL: _email,
    IssuerType.URI: _uri,
    IssuerType.USERNAME: _username,
    IssuerType.SPIFFE: _spiffe,
    IssuerType.KUBERNETES: _kubernetes,
    IssuerType.CI_PROVIDER: _ci_provider,
    IssuerType.GITHUB_WORKFLOW: _ci_provider,
    IssuerType.GITLAB_PIPELINE: _ci_provider,
    IssuerType.BUILDKITE_JOB: _ci_provider,
    IssuerType.CODEFRESH_WORKFLOW: _ci_provider,
    IssuerType.CHAINGUARD_IDENTITY: _chainguard,
}
