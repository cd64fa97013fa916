"""Whom an issuer's tokens may speak for: the operator's restrictions, and how a token is held to them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ca_service.errors import IdentityRefused, TokenClaimMissing
from ca_service.identity.claim_path import ClaimPath
from ca_service.identity.claims import VerifiedToken
from ca_service.identity.issuers import DEFAULT_ALGORITHMS, ClaimRules, Issuer, IssuerDirectory, IssuerType
from ca_service.identity.names import check_domain

ClaimValue = str | bool | int | float

_MOST_SHOWN = 3


@dataclass(frozen=True, slots=True)
class IssuerPolicy:
    """Restrictions for the issuer of this URL or wildcard; what is empty or false restricts nothing.

    `required_claims` maps the name of a claim, or a path such as `$['kubernetes.io'].namespace`, to the
    values it may have.
    """

    issuer: str
    algorithms: tuple[str, ...] = ()
    required_claims: Mapping[str, tuple[ClaimValue, ...]] = field(default_factory=dict)
    allowed_email_domains: tuple[str, ...] = ()
    strict_audience: bool = False


def restrict(directory: IssuerDirectory, policies: Sequence[IssuerPolicy]) -> IssuerDirectory:
    """Return the directory with its issuers under these policies.

    Raises ValueError, with a sentence that names the issuer, for a policy that names no issuer of the
    directory or that its issuer cannot fulfil, and for two policies of one issuer.
    """
    by_url = {policy.issuer: policy for policy in policies}
    if len(by_url) != len(policies):
        twice = next(url for url in by_url if sum(url == policy.issuer for policy in policies) > 1)
        raise ValueError(f"{twice} has two policies; write one")
    known = {issuer.issuer_url for issuer in (*directory.issuers, *directory.wildcards)}
    for url in by_url:
        if url not in known:
            raise ValueError(
                f"{url} is not in the issuer file; expected an issuer exactly as it is listed there"
            )

    def restricted(issuer: Issuer) -> Issuer:
        policy = by_url.get(issuer.issuer_url)
        return issuer if policy is None else _under(issuer, policy)

    return replace(
        directory,
        issuers=tuple(map(restricted, directory.issuers)),
        wildcards=tuple(map(restricted, directory.wildcards)),
    )


def check_policy(token: VerifiedToken) -> None:
    """Hold a verified token to its issuer's policy.

    Raises TokenClaimMissing or IdentityRefused, which name the claim and what is expected, never its value.
    """
    rules = token.issuer.rules
    for name, (path, allowed) in rules.required.items():
        value = _value_at(token.claims, path)
        if value is None:
            raise TokenClaimMissing(
                f"the token has no claim {name!r}, which this service requires; expected {_any_of(allowed)}",
                claim=name,
                expected=_any_of(allowed),
                received="no such claim",
            )
        # Of a list, such as groups, one that is allowed is enough.
        if not fulfils(token.claims, path, allowed):
            raise IdentityRefused(
                f"the token's claim {name!r} does not have a value this service gives certificates for; "
                f"expected {_any_of(allowed)}",
                claim=name,
                expected=_any_of(allowed),
                received="another value",
            )
    if rules.email_domains and not in_domains(token.claims.get("email"), rules.email_domains):
        expected = _any_of(tuple(sorted(rules.email_domains)))
        raise IdentityRefused(
            "the token's claim 'email' is not an address of a domain this service gives certificates for; "
            f"expected {expected}",
            claim="email",
            expected=expected,
            received="another domain",
        )


def in_domains(address: object, domains: frozenset[str]) -> bool:
    """Say whether the part after an address's last @ is one of these domains, in whatever case.

    `domains` are in lower case and exact: example.com takes neither sub.example.com nor notexample.com.
    """
    if not isinstance(address, str) or not address.isascii():
        return False
    _local_part, at, domain = address.rpartition("@")
    return bool(at) and domain.lower() in domains


def fulfils(claims: Mapping[str, object], path: Sequence[str], allowed: Sequence[ClaimValue]) -> bool:
    """Say whether the claim at the end of this path has one of these values; of a list one is enough."""
    value = _value_at(claims, path)
    values = value if isinstance(value, list) else [value]
    return any(_same(one, expected) for one in values for expected in allowed)


def claim_names(name: str) -> tuple[str, ...]:
    """Read a claim as operators name it: a name, or a path such as `$['kubernetes.io'].namespace`.

    Raises ValueError, with a sentence, for a path that is none.
    """
    return ClaimPath.parse(name).names if name.startswith("$") else (name,)


def _under(issuer: Issuer, policy: IssuerPolicy) -> Issuer:
    algorithms = issuer.algorithms
    if policy.algorithms:
        unknown = [name for name in policy.algorithms if name not in DEFAULT_ALGORITHMS]
        if unknown:
            raise ValueError(
                f"{issuer.issuer_url}: algorithms: {unknown[0]!r} is not one of "
                + ", ".join(DEFAULT_ALGORITHMS)
            )
        algorithms = tuple(name for name in algorithms if name in policy.algorithms)
        if not algorithms:
            raise ValueError(
                f"{issuer.issuer_url}: algorithms: the issuer file allows {', '.join(issuer.algorithms)},"
                " so that none is left"
            )
    if policy.allowed_email_domains and issuer.type is not IssuerType.EMAIL:
        raise ValueError(
            f"{issuer.issuer_url}: allowed_email_domains is for issuers of type email, not {issuer.type};"
            " expected required_claims for this one"
        )
    for domain in policy.allowed_email_domains:
        try:
            check_domain(domain)
        except ValueError as problem:
            raise ValueError(
                f"{issuer.issuer_url}: allowed_email_domains: {domain!r} is not used: {problem}"
            ) from None
    rules = ClaimRules(
        required={name: (_path(issuer, name), allowed) for name, allowed in policy.required_claims.items()},
        email_domains=frozenset(domain.lower() for domain in policy.allowed_email_domains),
    )
    return replace(
        issuer,
        algorithms=algorithms,
        strict_audience=issuer.strict_audience or policy.strict_audience,
        rules=rules,
    )


def _path(issuer: Issuer, name: str) -> tuple[str, ...]:
    try:
        return claim_names(name)
    except ValueError as problem:
        raise ValueError(f"{issuer.issuer_url}: required_claims: {problem}") from None


def _value_at(claims: Mapping[str, object], path: Sequence[str]) -> object:
    value: object = claims
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _same(value: object, expected: ClaimValue) -> bool:
    """Compare as JSON does: true is not 1, and "1" is not 1."""
    if isinstance(value, bool) or isinstance(expected, bool):
        return value is expected
    if isinstance(expected, str):
        return isinstance(value, str) and value == expected
    return isinstance(value, int | float) and value == expected


def _any_of(allowed: tuple[ClaimValue, ...]) -> str:
    """Write the operator's values for people: a few of them, as they stand in a token."""
    texts = [str(one).lower() if isinstance(one, bool) else str(one) for one in allowed[:_MOST_SHOWN]]
    more = f" or {len(allowed) - _MOST_SHOWN} others" if len(allowed) > _MOST_SHOWN else ""
    return " or ".join(texts) + more
