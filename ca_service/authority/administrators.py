"""Who may administer: the roles, and the rules by which the owner of a verified token holds one."""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ca_service.errors import TokenAudienceMismatch, TokenClaimInvalid, TokenClaimMissing, TokenExpired
from ca_service.identity.claims import VerifiedToken, json_kind, text_claim
from ca_service.identity.policies import ClaimValue, claim_names, fulfils
from ca_service.vocabulary import format_seconds

_MAX_NAME = 200


class Role(enum.IntEnum):
    """What somebody may do; each role includes the ones before it."""

    VIEWER = 1
    """Search certificates, preview revocations, read blocks and the audit record."""
    REVOKER = 2
    """Revoke and block too: what can only make the authority stricter."""
    ADMINISTRATOR = 3
    """Unblock and withdraw revocations too."""

    @property
    def label(self) -> str:
        """The role as settings and answers write it."""
        return self.name.lower()

    @classmethod
    def of(cls, label: str) -> "Role":
        """Find a role by its label; raises KeyError."""
        return cls[label.upper()]

    @property
    def included(self) -> tuple[str, ...]:
        """The labels of this role and of all that it includes."""
        return tuple(role.label for role in Role if role <= self)


@dataclass(frozen=True, slots=True)
class RoleRule:
    """Gives a role to the accounts of one issuer whose claims fit.

    `claims` maps the way down to each claim to the values it may have; all must fit.
    """

    role: Role
    issuer: str
    claims: Mapping[tuple[str, ...], tuple[ClaimValue, ...]]

    @classmethod
    def read(cls, role: str, issuer: str, claims: Mapping[str, Sequence[ClaimValue]]) -> "RoleRule":
        """Read a rule as operators write it; raises ValueError, with a sentence, for what cannot be one."""
        if not claims or not all(claims.values()):
            raise ValueError("it names no claim, and so everybody whom the issuer knows")
        return cls(
            Role.of(role), issuer, {claim_names(name): tuple(allowed) for name, allowed in claims.items()}
        )

    def fits(self, token: VerifiedToken) -> bool:
        """Say whether the owner of a verified token is meant: exactly this issuer, and every claim."""
        return token.issuer_url == self.issuer and all(
            fulfils(token.claims, path, allowed)
            # An address that nobody verified is whatever its owner typed.
            and (path != ("email",) or token.claims.get("email_verified") is True)
            for path, allowed in self.claims.items()
        )


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What an administrator's token must be beside verified: for whom, by which client, how old at most."""

    audience: str
    client_id: str
    max_age_seconds: int


@dataclass(frozen=True, slots=True)
class Administrator:
    """The owner of an accepted token; `role` is None for somebody who may do nothing here.

    `name` is what their identity provider calls them, "" when it does not say; nothing is decided by it.
    """

    issuer: str
    subject: str
    name: str
    role: Role | None
    expires: int

    @property
    def actor_name(self) -> str:
        """How the audit record names them: an issuer never gives the same subject to two people."""
        return f"{self.issuer}#{self.subject}"

    def may(self, needed: Role) -> bool:
        """Say whether they hold this role."""
        return self.role is not None and self.role >= needed


def administrator_of(
    token: VerifiedToken, rules: Sequence[RoleRule], demanded: TokenRules, now: int
) -> Administrator:
    """Find out who owns a verified token and which role is theirs; `now` is seconds since 1970.

    The verifier has checked signature, issuer, the one audience, and `exp`. Raises TokenClaimMissing,
    TokenClaimInvalid, TokenExpired or TokenAudienceMismatch when the token is older than it may be, or was
    made for another client.
    """
    expires = min(_number(token, "exp"), _checked_age(token, demanded, now))
    # OpenID Connect Core §3.1.3.7 (5): who asked for the token, when the issuer says so.
    asked_by = token.claims.get("azp")
    if asked_by is not None and asked_by not in (demanded.client_id, demanded.audience):
        raise TokenAudienceMismatch(
            "the token was given to another client (claim 'azp'); expected one for "
            f"{demanded.client_id}, as `ca-service login` gets it",
            claim="azp",
            expected=demanded.client_id,
            received="another client",
        )
    held = [rule.role for rule in rules if rule.fits(token)]
    return Administrator(
        issuer=token.issuer_url,
        subject=text_claim(token.claims, "sub"),
        name=_name(token),
        role=max(held, default=None),
        expires=expires,
    )


def _checked_age(token: VerifiedToken, demanded: TokenRules, now: int) -> int:
    issued = _number(token, "iat")
    if issued + demanded.max_age_seconds <= now:
        raise TokenExpired(
            f"the token was issued at {format_seconds(issued)}; administrators' tokens are taken for "
            f"{demanded.max_age_seconds} seconds, and it is now {format_seconds(now)}",
            claim="iat",
            expected=f"later than {format_seconds(now - demanded.max_age_seconds)}",
            received=format_seconds(issued),
        )
    return issued + demanded.max_age_seconds


def _number(token: VerifiedToken, name: str) -> int:
    value = token.claims.get(name)
    if value is None:
        raise TokenClaimMissing(
            f"the token has no claim {name!r}, so that its age is not known",
            claim=name,
            expected="a number",
            received="no such claim",
        )
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TokenClaimInvalid(
            f"the token's claim {name!r} must be a number of seconds, not {json_kind(value)}",
            claim=name,
            expected="a number",
            received=json_kind(value),
        )
    return int(value)


def _name(token: VerifiedToken) -> str:
    email = token.claims.get("email") if token.claims.get("email_verified") is True else None
    for name in (email, token.claims.get("name")):
        if isinstance(name, str) and name.isprintable():
            return name[:_MAX_NAME]
    return ""
