"""Who administers: a role follows from issuer and claims alone, and from nothing else."""

from typing import Any

import pytest

from ca_service.authority.administrators import Role, RoleRule, TokenRules, administrator_of
from ca_service.errors import TokenAudienceMismatch, TokenClaimInvalid, TokenClaimMissing, TokenExpired
from ca_service.identity.claims import VerifiedClaims, VerifiedToken
from ca_service.identity.issuers import Issuer, IssuerType

NOW = 1_795_420_800
STAFF = "https://staff.example.com"
DEMANDED = TokenRules("ca-service-admin", "ca-service-admin", 3600)
RULES = [
    RoleRule.read("viewer", STAFF, {"groups": ["ca-viewers", "ca-revokers"]}),
    RoleRule.read("revoker", STAFF, {"groups": ["ca-revokers"]}),
    RoleRule.read("administrator", STAFF, {"email": ["boss@example.com"], "mfa": [True]}),
    RoleRule.read("administrator", STAFF, {"$.realm_access.roles": ["ca-admin"]}),
]


def token(issuer: str = STAFF, **claims: Any) -> VerifiedToken:
    good = {"sub": "17", "iat": NOW - 10, "exp": NOW + 600, **claims}
    present = {name: value for name, value in good.items() if value is not None}
    described = Issuer(issuer, "ca-service-admin", IssuerType.EMAIL)
    return VerifiedToken(described, issuer, VerifiedClaims(present))


BOSS: dict[str, Any] = {"email": "boss@example.com", "email_verified": True, "mfa": True}


@pytest.mark.parametrize(
    ("claims", "role"),
    [
        ({}, None),
        ({"groups": ["ca-viewers"]}, Role.VIEWER),
        ({"groups": "ca-viewers"}, Role.VIEWER),
        ({"groups": ["others", "ca-revokers"]}, Role.REVOKER),
        ({"groups": ["ca-revokers-emeriti"]}, None),
        ({"groups": ["CA-REVOKERS"]}, None),
        ({"groups": {"ca-revokers": True}}, None),
        (BOSS, Role.ADMINISTRATOR),
        ({**BOSS, "groups": ["ca-viewers"]}, Role.ADMINISTRATOR),
        ({**BOSS, "email_verified": False}, None),
        ({**BOSS, "email_verified": "true"}, None),
        ({**BOSS, "email_verified": None}, None),
        ({**BOSS, "mfa": "true"}, None),
        ({**BOSS, "mfa": 1}, None),
        ({**BOSS, "mfa": None}, None),
        ({**BOSS, "email": "Boss@example.com"}, None),
        ({"realm_access": {"roles": ["ca-admin"]}}, Role.ADMINISTRATOR),
        ({"$.realm_access.roles": ["ca-admin"]}, None),
    ],
)
def test_the_role_is_the_largest_whose_claims_all_fit(claims: dict[str, Any], role: Role | None) -> None:
    assert administrator_of(token(**claims), RULES, DEMANDED, NOW).role == role


def test_the_same_claims_of_another_issuer_give_nothing() -> None:
    for issuer in ("https://evil.example.com", STAFF + "/", STAFF.upper(), STAFF + ".evil.test"):
        assert administrator_of(token(issuer, **BOSS), RULES, DEMANDED, NOW).role is None


def test_roles_include_the_smaller_ones() -> None:
    assert Role.ADMINISTRATOR.included == ("viewer", "revoker", "administrator")
    assert Role.VIEWER.included == ("viewer",)
    revoker = administrator_of(token(groups=["ca-revokers"]), RULES, DEMANDED, NOW)
    assert [revoker.may(role) for role in Role] == [True, True, False]


def test_the_audit_record_names_them_by_issuer_and_subject() -> None:
    found = administrator_of(token(**BOSS), RULES, DEMANDED, NOW)
    assert found.actor_name == "https://staff.example.com#17"
    assert found.name == "boss@example.com"
    unverified = administrator_of(token(email="boss@example.com"), RULES, DEMANDED, NOW)
    assert unverified.name == ""


def test_a_token_counts_until_it_expires_or_is_too_old_whichever_comes_first() -> None:
    assert administrator_of(token(iat=NOW, exp=NOW + 60), RULES, DEMANDED, NOW).expires == NOW + 60
    old = token(iat=NOW - 3599, exp=NOW + 90_000)
    assert administrator_of(old, RULES, DEMANDED, NOW).expires == NOW + 1
    with pytest.raises(TokenExpired, match="taken for 3600 seconds"):
        administrator_of(old, RULES, DEMANDED, NOW + 1)


@pytest.mark.parametrize(
    ("claims", "error"),
    [
        ({"iat": None}, TokenClaimMissing),
        ({"iat": True}, TokenClaimInvalid),
        ({"iat": "yesterday"}, TokenClaimInvalid),
        ({"azp": "another-client"}, TokenAudienceMismatch),
        ({"azp": ["ca-service-admin"]}, TokenAudienceMismatch),
    ],
)
def test_a_token_of_no_age_or_of_another_client_is_refused(
    claims: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        administrator_of(token(**BOSS, **claims), RULES, DEMANDED, NOW)


def test_a_rule_without_claims_is_none() -> None:
    nothing: list[dict[str, list[str]]] = [{}, {"groups": []}]
    for claims in nothing:
        with pytest.raises(ValueError, match="everybody"):
            RoleRule.read("viewer", STAFF, claims)
    with pytest.raises(ValueError, match="claim path"):
        RoleRule.read("viewer", STAFF, {"$..groups": ["x"]})
