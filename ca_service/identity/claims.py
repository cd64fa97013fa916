"""Claims whose token was verified, and how a claim's value is read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NewType

from ca_service.errors import TokenClaimInvalid, TokenClaimMissing
from ca_service.identity.issuers import Issuer

VerifiedClaims = NewType("VerifiedClaims", Mapping[str, object])
"""The claims of a token whose signature, issuer, audience and times were checked; made by oidc/ alone."""


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """A verified token: the configured issuer, the URL it came under (a wildcard's match), its claims."""

    issuer: Issuer
    issuer_url: str
    claims: VerifiedClaims


def text_claim(claims: Mapping[str, object], name: str) -> str:
    """Read a claim that must be a non-empty string.

    Raises TokenClaimMissing when it is absent, null or empty, TokenClaimInvalid when it is something else.
    """
    value = claims.get(name)
    if isinstance(value, str) and value:
        return value
    if value is None or value == "":
        raise TokenClaimMissing(
            f"the token has no claim {name!r}, which this issuer's tokens need",
            claim=name,
            expected="a string",
            received="no such claim" if value is None else "an empty string",
        )
    raise TokenClaimInvalid(
        f"the token's claim {name!r} must be a string, not {json_kind(value)}",
        claim=name,
        expected="a string",
        received=json_kind(value),
    )


def json_kind(value: object) -> str:
    """Name the JSON type of a value for a message, so that the value itself stays out of it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "a list" if isinstance(value, list) else "an object"
