"""The gate before administration over the network: whose token, which role, how often; refusals recorded."""

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ca_service.authority.administrators import Administrator, Role, RoleRule, TokenRules, administrator_of
from ca_service.authority.admission import limiter_key
from ca_service.authority.ports import RATE_WINDOW_SECONDS, Actor, Allowance, Clock, Observer, RateLimiter
from ca_service.errors import (
    AdministrationOff,
    Forbidden,
    InvalidRequest,
    RateLimited,
    TokenIssuerUnknown,
    Unauthenticated,
)
from ca_service.identity.claims import VerifiedToken

RECORDED_PER_SUBJECT = 1
RECORDED_TOGETHER = 30
"""Refusals of accounts that the issuers know which enter the audit record in a minute; the rest is counted.

An issuer may give anybody accounts, as many as they like: so there is a limit for all of them together too.
"""


@dataclass(frozen=True, slots=True)
class Approach:
    """A call as the gate sees it: the token that came or None, the route, and where it came from."""

    token: str | None
    route: str
    source: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Admitted:
    """Who was let through, how the audit record names them, and what is left of their rate limit."""

    administrator: Administrator
    actor: Actor
    allowance: Allowance | None


@dataclass(frozen=True, slots=True)
class GateLimits:
    """Calls a minute of one administrator (0: any number), and calls without a good token of one address."""

    requests_per_minute: int
    failures_per_minute: int


class Gate:
    """Lets administrators through to what their role allows, and nobody else."""

    def __init__(
        self,
        *,
        verify_token: Callable[[str], VerifiedToken],
        rules: Sequence[RoleRule],
        demanded: TokenRules,
        limits: GateLimits,
        limiter: RateLimiter,
        own_limiter: RateLimiter,
        namespace: str,
        record: Callable[[Actor, str, Mapping[str, object]], object],
        clock: Clock,
        observer: Observer,
    ) -> None:
        """Join the collaborators.

        `own_limiter` counts in this process, for what must be held to a limit even while `limiter` cannot
        tell; `record` appends one audit record durably.
        """
        self._verify_token = verify_token
        self._rules = rules
        self._demanded = demanded
        self._limits = limits
        self._limiter = limiter
        self._own_limiter = own_limiter
        self._namespace = namespace
        self._record = record
        self._clock = clock
        self._observer = observer

    def require_open(self) -> None:
        """Raise AdministrationOff when nobody can hold a role."""
        if not self._rules:
            raise AdministrationOff(
                "this service is not administered over the network: no [[admin_role]] in its settings says "
                "who may"
            )

    def admit(self, approach: Approach, needed: Role) -> Admitted:
        """Let a call through, or raise.

        Raises AdministrationOff; Unauthenticated, which is counted only; Forbidden, which is recorded;
        RateLimited; IssuerUnavailable when nobody can tell whether the token is good.
        """
        self.require_open()
        try:
            found = self._identify(approach.token)
        except Unauthenticated as refused:
            self._observer.count("admin_unauthenticated", cause=refused.facts["cause"])
            self._count_failure(approach.source)
            raise
        actor = Actor(found.actor_name, approach.source, approach.request_id)
        allowance = self._take("admin", self._limits.requests_per_minute, found.issuer, found.subject)
        if allowance is not None and not allowance.allowed:
            self._observer.count("admin_rate_limited")
            raise _too_often("one administrator may make", allowance)
        if not found.may(needed):
            self._observer.count("admin_forbidden", needed=needed.label)
            self._record_refusal(found, actor, approach.route, needed)
            held = found.role.label if found.role else "none"
            raise Forbidden(
                f"this call needs the role {needed.label}; the owner of this token has "
                + (f"the role {held}" if found.role else "no role here"),
                needed=needed.label,
                held=held,
            )
        return Admitted(found, actor, allowance)

    def _identify(self, token: str | None) -> Administrator:
        if token is None:
            raise Unauthenticated(
                "this call needs an administrator's token; expected Authorization: Bearer",
                cause="token-missing",
            )
        try:
            verified = self._verify_token(token)
            return administrator_of(verified, self._rules, self._demanded, self._clock() // 1000)
        except TokenIssuerUnknown:
            raise Unauthenticated(
                "the token is of no issuer that administrators come from; expected one that GET "
                "/admin/v1/login-options lists",
                cause=TokenIssuerUnknown.reason,
            ) from None
        except InvalidRequest as refused:
            # Why, in the words of who found it: they repeat nothing of a token but iss, aud and times.
            facts = {**refused.facts, "cause": refused.reason}
            raise Unauthenticated(refused.message, retry_after=None, **facts) from None

    def _count_failure(self, source: str) -> None:
        allowance = self._take("admin-failure", self._limits.failures_per_minute, _network(source))
        if allowance is not None and not allowance.allowed:
            raise _too_often("without a good token, one address may make", allowance)

    def _record_refusal(self, found: Administrator, actor: Actor, route: str, needed: Role) -> None:
        if self._may_record(
            "subject", RECORDED_PER_SUBJECT, found.issuer, found.subject
        ) and self._may_record("together", RECORDED_TOGETHER):
            held = found.role.label if found.role else None
            self._record(actor, "refused", {"route": route, "needed": needed.label, "held": held})
        else:
            self._observer.count("admin_refusal_not_recorded")

    def _may_record(self, kind: str, limit: int, *name: str) -> bool:
        key = limiter_key(self._namespace, "admin-refusal", kind, *name)
        allowance = self._limiter.take(key, limit) or self._own_limiter.take(key, limit)
        return allowance is not None and allowance.allowed

    def _take(self, kind: str, limit: int, *name: str) -> Allowance | None:
        return self._limiter.take(limiter_key(self._namespace, kind, *name), limit) if limit else None


def _too_often(whose: str, allowance: Allowance) -> RateLimited:
    return RateLimited(
        f"{whose} {allowance.limit} administrative calls in {RATE_WINDOW_SECONDS} seconds; try again in "
        f"{allowance.reset_after} seconds",
        retry_after=allowance.reset_after,
        limit=str(allowance.limit),
        remaining="0",
        reset_after=str(allowance.reset_after),
    )


def _network(source: str) -> str:
    """The address, or of IPv6 the /64: whoever has one address there has them all."""
    try:
        address = ipaddress.ip_address(source)
    except ValueError:
        return source
    return str(ipaddress.ip_network(f"{address}/64", strict=False)) if address.version == 6 else source
