"""An issuer's keys from its discovery document (OpenID Connect Discovery §4) and the JWK Set it names."""

import time
from collections.abc import Callable
from urllib.parse import urlsplit

from ca_service.errors import CAError, IssuerUnavailable
from ca_service.identity.issuers import Issuer
from ca_service.oidc.claim_checks import shown
from ca_service.oidc.key_set import KeySet, read_key_set
from ca_service.oidc.strict_json import read_object

Fetch = Callable[[str, str | None, float], bytes]
"""Gets a URL: (url, PEM certificates to trust besides the usual or None, seconds in all) -> body.

Raises IssuerUnavailable when it cannot be had.
"""

FETCH_SECONDS = 2.0
"""Seconds that discovery document and JWK Set may take together."""

_WELL_KNOWN = "/.well-known/openid-configuration"
_MAX_OPENINGS = 4096


def fetch_keys(issuer: Issuer, issuer_url: str, fetch: Fetch, *, retry_after: int) -> KeySet:
    """Fetch the keys of the issuer at `issuer_url`; raises IssuerUnavailable, whatever is wrong."""
    deadline = time.monotonic() + FETCH_SECONDS
    document = _get(issuer_url.rstrip("/") + _WELL_KNOWN, issuer, fetch, deadline, issuer_url, retry_after)
    named = document.get("issuer")
    if named != issuer_url:
        raise IssuerUnavailable(
            f"the discovery document of issuer {issuer_url} names {shown(named)} as its issuer",
            retry_after=retry_after,
            issuer=issuer_url,
            cause="issuer-differs",
        )
    jwks_uri = document.get("jwks_uri")
    if not isinstance(jwks_uri, str) or not _may_hold_keys(jwks_uri, issuer_url):
        raise IssuerUnavailable(
            f"the discovery document of issuer {issuer_url} names no https jwks_uri",
            retry_after=retry_after,
            issuer=issuer_url,
            cause="jwks-uri",
        )
    try:
        return read_key_set(_get(jwks_uri, issuer, fetch, deadline, issuer_url, retry_after))
    except ValueError as problem:
        raise IssuerUnavailable(
            f"the keys of issuer {issuer_url} cannot be read: {problem}",
            retry_after=retry_after,
            issuer=issuer_url,
            cause="jwks-malformed",
        ) from None


def _may_hold_keys(jwks_uri: str, issuer_url: str) -> bool:
    scheme = urlsplit(jwks_uri).scheme
    return scheme == "https" or (scheme == "http" and urlsplit(issuer_url).scheme == "http")


def _get(
    url: str, issuer: Issuer, fetch: Fetch, deadline: float, issuer_url: str, retry_after: int
) -> dict[str, object]:
    try:
        left = max(deadline - time.monotonic(), 0.001)
        return read_object(fetch(url, issuer.ca_cert, left), max_openings=_MAX_OPENINGS)
    except CAError as problem:
        why, cause = problem.message, problem.facts.get("cause", "unreachable")
    except TimeoutError:
        why, cause = f"it took more than {FETCH_SECONDS:g} seconds", "timeout"
    except OSError:
        why, cause = "the connection failed", "unreachable"
    except ValueError as problem:
        why, cause = f"{url} is not understood: {problem}", "malformed"
    raise IssuerUnavailable(
        f"the keys of issuer {issuer_url} could not be fetched: {why}",
        retry_after=retry_after,
        issuer=issuer_url,
        cause=cause,
    )
