"""The gate: what it refuses it tells the caller, counts, and records only as far as nobody can abuse it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from ca_service.authority.administrators import Role, RoleRule, TokenRules
from ca_service.authority.gate import RECORDED_TOGETHER, Approach, Gate, GateLimits
from ca_service.authority.ports import Actor, Allowance, RateLimiter
from ca_service.errors import (
    AdministrationOff,
    CAError,
    Forbidden,
    IssuerUnavailable,
    RateLimited,
    TokenExpired,
    TokenIssuerUnknown,
    Unauthenticated,
)
from ca_service.identity.claims import VerifiedClaims, VerifiedToken
from ca_service.identity.issuers import Issuer, IssuerType
from ca_service.vocabulary import TimestampMs

NOW = 1_795_420_800
STAFF = "https://staff.example.com"


class Counter(RateLimiter):
    """A rate limiter whose window never ends; away, it knows nothing."""

    def __init__(self, *, away: bool = False) -> None:
        self.away = away
        self.counts: dict[str, int] = {}

    def take(self, key: str, limit: int) -> Allowance | None:
        if self.away:
            return None
        count = self.counts[key] = self.counts.get(key, 0) + 1
        return Allowance(count <= limit, limit, max(limit - count, 0), 42)


@dataclass
class World:
    """A gate whose tokens are SUB or SUB:ROLE, and what it told others."""

    limiter: Counter = field(default_factory=Counter)
    requests_per_minute: int = 0
    failures_per_minute: int = 3
    rules: tuple[RoleRule, ...] = tuple(
        RoleRule.read(role.label, STAFF, {"role": [role.label]}) for role in Role
    )
    records: list[tuple[Actor, str, Mapping[str, object]]] = field(default_factory=list)
    counted: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    trouble: CAError | None = None

    def count(self, event: str, **labels: str) -> None:
        self.counted.append((event, labels))

    def duration(self, stage: str, seconds: float) -> None:
        raise AssertionError("nothing is timed here")

    def size(self, what: str, number: float) -> None:
        raise AssertionError("nothing has a size here")

    def level(self, what: str, value: float, **labels: str) -> None:
        raise AssertionError("nothing has a level here")

    def verify(self, token: str) -> VerifiedToken:
        if self.trouble is not None:
            raise self.trouble
        subject, _, role = token.partition(":")
        claims = {"sub": subject, "role": role, "iat": NOW, "exp": NOW + 600}
        return VerifiedToken(Issuer(STAFF, "admin", IssuerType.EMAIL), STAFF, VerifiedClaims(claims))

    def gate(self) -> Gate:
        return Gate(
            verify_token=self.verify,
            rules=self.rules,
            demanded=TokenRules("admin", "admin", 3600),
            limits=GateLimits(self.requests_per_minute, self.failures_per_minute),
            limiter=self.limiter,
            own_limiter=Counter(),
            namespace="https://ca.example",
            record=lambda actor, action, detail: self.records.append((actor, action, detail)),
            clock=lambda: TimestampMs(NOW * 1000),
            observer=self,
        )

    def events(self, name: str) -> list[dict[str, str]]:
        return [labels for event, labels in self.counted if event == name]


def call(token: str | None, source: str = "192.0.2.1") -> Approach:
    return Approach(token, "POST /admin/v1/x", source, "request-1")


@pytest.mark.parametrize("held", list(Role))
@pytest.mark.parametrize("needed", list(Role))
def test_a_role_opens_what_it_includes(held: Role, needed: Role) -> None:
    world = World()
    gate = world.gate()
    if held >= needed:
        admitted = gate.admit(call(f"ada:{held.label}"), needed)
        assert admitted.actor == Actor(f"{STAFF}#ada", "192.0.2.1", "request-1")
        assert world.records == []
    else:
        with pytest.raises(Forbidden, match=f"needs the role {needed.label}.* has the role {held.label}"):
            gate.admit(call(f"ada:{held.label}"), needed)
        ((actor, action, detail),) = world.records
        assert (actor.name, action) == (f"{STAFF}#ada", "refused")
        assert detail == {"route": "POST /admin/v1/x", "needed": needed.label, "held": held.label}


def test_without_rules_nobody_passes_and_no_token_is_looked_at() -> None:
    world = World(rules=(), trouble=TokenExpired("must not be asked"))
    with pytest.raises(AdministrationOff, match="admin_role"):
        world.gate().admit(call("ada:administrator"), Role.VIEWER)


def test_a_bad_token_is_counted_with_its_cause_and_never_recorded() -> None:
    world = World(trouble=TokenExpired("the token expired at noon", claim="exp"), failures_per_minute=2)
    gate = world.gate()
    for _ in range(2):
        with pytest.raises(Unauthenticated, match="expired at noon") as refused:
            gate.admit(call("x"), Role.VIEWER)
        assert refused.value.facts == {"claim": "exp", "cause": "token-expired"}
    with pytest.raises(RateLimited) as stopped:
        gate.admit(call("x"), Role.VIEWER)
    assert stopped.value.retry_after == 42
    with pytest.raises(Unauthenticated):
        gate.admit(call("x", source="192.0.2.2"), Role.VIEWER)
    assert world.records == []
    assert world.events("admin_unauthenticated") == [{"cause": "token-expired"}] * 4


def test_failures_of_an_address_do_not_lock_its_administrators_out() -> None:
    world = World(failures_per_minute=1)
    gate = world.gate()
    for error in (Unauthenticated, RateLimited):
        with pytest.raises(error):
            gate.admit(call(None), Role.VIEWER)
    assert gate.admit(call("ada:viewer"), Role.VIEWER).administrator.subject == "ada"


def test_all_addresses_of_an_ipv6_network_count_as_one() -> None:
    gate = World(failures_per_minute=1).gate()
    with pytest.raises(Unauthenticated):
        gate.admit(call(None, "2001:db8::1"), Role.VIEWER)
    with pytest.raises(RateLimited):
        gate.admit(call(None, "2001:db8::2"), Role.VIEWER)
    with pytest.raises(Unauthenticated):
        gate.admit(call(None, "2001:db8:0:1::1"), Role.VIEWER)


def test_an_issuer_that_is_no_administrators_is_named_as_such() -> None:
    world = World(trouble=TokenIssuerUnknown("not in the issuer file"))
    with pytest.raises(Unauthenticated, match="login-options") as refused:
        world.gate().admit(call("x"), Role.VIEWER)
    assert refused.value.facts["cause"] == "token-issuer-unknown"


def test_an_issuer_that_is_down_is_trouble_and_no_refusal() -> None:
    world = World(trouble=IssuerUnavailable("it does not answer"))
    with pytest.raises(IssuerUnavailable):
        world.gate().admit(call("x"), Role.VIEWER)
    assert world.counted == []


def test_an_administrator_who_calls_too_often_waits_and_others_do_not() -> None:
    world = World(requests_per_minute=2)
    gate = world.gate()
    left = [gate.admit(call("ada:viewer"), Role.VIEWER).allowance for _ in range(2)]
    assert [each.remaining for each in left if each] == [1, 0]
    with pytest.raises(RateLimited) as stopped:
        gate.admit(call("ada:viewer"), Role.VIEWER)
    assert (stopped.value.retry_after, stopped.value.facts["limit"]) == (42, "2")
    gate.admit(call("bob:viewer"), Role.VIEWER)


@pytest.mark.parametrize("away", [False, True], ids=["limiter answers", "limiter away"])
def test_one_outsider_enters_the_record_once_and_all_together_a_bounded_number_of_times(away: bool) -> None:
    world = World(limiter=Counter(away=away))
    gate = world.gate()
    for number in range(RECORDED_TOGETHER + 20):
        for _ in range(3):
            with pytest.raises(Forbidden, match="no role here"):
                gate.admit(call(f"outsider-{number}"), Role.VIEWER)
    assert len(world.records) == RECORDED_TOGETHER
    assert len({actor.name for actor, _, _ in world.records}) == RECORDED_TOGETHER
    assert len(world.events("admin_forbidden")) == 3 * (RECORDED_TOGETHER + 20)
