"""What the claims of a token must say before they count as verified (OpenID Connect Core §3.1.3.7)."""

import json
from collections.abc import Mapping
from typing import ClassVar

from authlib.oidc.core import IDToken
from joserfc.errors import InvalidClaimError, JoseError

from ca_service.errors import (
    TokenAudienceMismatch,
    TokenClaimInvalid,
    TokenClaimMissing,
    TokenExpired,
    TokenNotYetValid,
)
from ca_service.identity.claims import VerifiedClaims, json_kind, text_claim
from ca_service.identity.issuers import Issuer
from ca_service.vocabulary import format_seconds

LEEWAY = 30
"""Seconds an issuer's clock may be ahead of ours in `iat` and `nbf`; `exp` gets none."""

_MAX_DAYS = 400
"""How far ahead `exp` may be: no ID token lives that long, and Kubernetes' longest have one year."""

_LATEST = 253_402_300_799
_MAX_SHOWN = 200


class _SigningToken(IDToken):  # type: ignore[misc] # Authlib ships no types
    """An ID token as Fulcio takes it: `iat` may be absent, and `azp` and `amr` say nothing about signing."""

    ESSENTIAL_CLAIMS: ClassVar[list[str]] = ["iss", "sub", "aud", "exp"]

    def validate_azp(self) -> None:
        """Leave `azp` alone: which client asked for the token is the audience's business."""

    def validate_amr(self) -> None:
        """Leave `amr` alone: several providers send one string where the standard has a list."""


def check_claims(claims: dict[str, object], issuer: Issuer, now: int) -> VerifiedClaims:
    """Check audience, times and subject; `now` is seconds since 1970.

    Raises TokenAudienceMismatch, TokenExpired, TokenNotYetValid, TokenClaimMissing or TokenClaimInvalid.
    """
    _check_audience(claims, issuer)
    _check_times(claims, now)
    text_claim(claims, "sub")
    try:
        _SigningToken(claims, {}).validate(now, LEEWAY)
    except InvalidClaimError as problem:
        name = problem.claim
        raise TokenClaimInvalid(
            f"the token's claim {name!r} is not of the form OpenID Connect gives it",
            claim=name,
            expected="the form of OpenID Connect Core §2",
            received=json_kind(claims.get(name)),
        ) from None
    except JoseError:
        raise TokenClaimInvalid("the token's claims are not those of an OpenID Connect ID token") from None
    return VerifiedClaims(claims)


def _check_audience(claims: Mapping[str, object], issuer: Issuer) -> None:
    audience = claims.get("aud")
    if audience is None or audience == []:
        raise TokenClaimMissing(
            f"the token has no claim 'aud'; expected {shown(issuer.client_id)}",
            claim="aud",
            expected=issuer.client_id,
            received="no such claim",
        )
    audiences = [audience] if isinstance(audience, str) else audience
    if not isinstance(audiences, list) or not all(isinstance(name, str) for name in audiences):
        raise TokenClaimInvalid(
            "the token's claim 'aud' must be a string or a list of strings",
            claim="aud",
            expected="a string or a list of strings",
            received=json_kind(audience),
        )
    if issuer.client_id not in audiences:
        raise TokenAudienceMismatch(
            f"the token's audience is {shown(audience)}; expected {shown(issuer.client_id)}",
            claim="aud",
            expected=issuer.client_id,
            received=bare(audience),
        )
    if issuer.strict_audience and set(audiences) != {issuer.client_id}:
        raise TokenAudienceMismatch(
            f"the token's audience is {shown(audience)}; this issuer's tokens must be for "
            f"{shown(issuer.client_id)} alone",
            claim="aud",
            expected=f"{issuer.client_id} alone",
            received=bare(audience),
        )


def _check_times(claims: Mapping[str, object], now: int) -> None:
    expires = _time(claims, "exp")
    if expires is None:
        raise TokenClaimMissing(
            "the token has no claim 'exp', so it would never expire",
            claim="exp",
            expected="a time to come",
            received="no such claim",
        )
    if expires <= now:
        raise TokenExpired(
            f"the token expired at {format_seconds(int(expires))}; it is now {format_seconds(now)}",
            claim="exp",
            expected=f"later than {format_seconds(now)}",
            received=format_seconds(int(expires)),
            now=format_seconds(now),
        )
    latest = now + _MAX_DAYS * 86_400
    if expires > latest:
        raise TokenClaimInvalid(
            f"the token's claim 'exp' says {format_seconds(int(expires))}, more than {_MAX_DAYS} days ahead",
            claim="exp",
            expected=f"no later than {format_seconds(latest)}",
            received=format_seconds(int(expires)),
        )
    for name in ("iat", "nbf"):
        since = _time(claims, name)
        if since is not None and since > now + LEEWAY:
            raise TokenNotYetValid(
                f"the token's claim {name!r} says {format_seconds(int(since))}, but it is now "
                f"{format_seconds(now)}; {LEEWAY} seconds of difference are accepted",
                claim=name,
                expected=f"no later than {format_seconds(now + LEEWAY)}",
                received=format_seconds(int(since)),
                now=format_seconds(now),
            )


def _time(claims: Mapping[str, object], name: str) -> int | float | None:
    """Read a NumericDate (RFC 7519 §2): a finite number of seconds that a calendar has."""
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TokenClaimInvalid(
            f"the token's claim {name!r} must be a number of seconds, not {json_kind(value)}",
            claim=name,
            expected="a number",
            received=json_kind(value),
        )
    # Comparisons with NaN are false, and infinity is not within the bounds.
    if not 0 <= value <= _LATEST:
        raise TokenClaimInvalid(
            f"the token's claim {name!r} is no moment between 1970 and 9999",
            claim=name,
            expected="a number of seconds since 1970",
            received="a number that is no such moment",
        )
    return value


def shown(value: object) -> str:
    """Write an `iss` or `aud` for a message: printable ASCII, in quotes, at most 200 characters."""
    text = json.dumps(value)
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "..."


def bare(value: object) -> str:
    """Write an `iss`, `aud` or `kid` for programs: like shown, but a single text without its quotes."""
    text = shown(value)
    return text.strip('"') if isinstance(value, str) else text
