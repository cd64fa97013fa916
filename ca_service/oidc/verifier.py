"""Verification of identity tokens: from the text a client sent to claims that can be believed."""

from collections.abc import Callable, Mapping

from ca_service.authority.ports import Observer
from ca_service.errors import (
    TokenAlgorithmRefused,
    TokenClaimMissing,
    TokenIssuerUnknown,
    TokenKeyRefused,
    TokenKeyUnknown,
    TokenMalformed,
    TokenSignatureInvalid,
)
from ca_service.identity.claims import VerifiedToken, json_kind
from ca_service.identity.issuers import DEFAULT_ALGORITHMS, Issuer, IssuerDirectory
from ca_service.oidc.claim_checks import bare, check_claims, shown
from ca_service.oidc.compact import CompactToken, Header, read_token
from ca_service.oidc.discovery import Fetch
from ca_service.oidc.key_cache import STALE_SECONDS, KeyCache
from ca_service.oidc.key_set import KeySet, VerificationKey, read_key_set

_MAX_ISSUER = 1024
_REGISTERED = frozenset(
    {"none", "HS256", "HS384", "HS512", "ES256K", "ESP256", "ESP384", "ESP512", "Ed448", *DEFAULT_ALGORITHMS}
)
"""Signature algorithms of the IANA registry for JOSE that a token may plausibly name."""


class TokenVerifier:
    """Verifies tokens of the issuers in a directory; one per process, used by all its threads."""

    def __init__(
        self,
        directory: Callable[[], IssuerDirectory],
        fetch: Fetch,
        clock: Callable[[], int],
        *,
        built_in_keys: Mapping[str, Mapping[str, object]] | None = None,
        stale_seconds: int = STALE_SECONDS,
        observer: Observer | None = None,
    ) -> None:
        """Take the directory in force, how to fetch, and the clock (milliseconds since 1970).

        `built_in_keys` are JWK Sets by issuer URL, for an identity provider in this very process. Keys of an
        issuer that is down are used for `stale_seconds`. Raises ValueError when a JWK Set is none.
        """
        self._directory = directory
        self._clock = clock
        self._cache = KeyCache(fetch, clock, stale_seconds=stale_seconds, observer=observer)
        self._built_in = {url: read_key_set(document) for url, document in (built_in_keys or {}).items()}

    def verify(self, token: str) -> VerifiedToken:
        """Verify a token in the compact form (RFC 7515 §3.1) and return its claims with their issuer.

        Raises TokenMalformed, TokenIssuerUnknown, TokenAlgorithmRefused, TokenKeyUnknown, TokenKeyRefused,
        TokenSignatureInvalid, IssuerUnavailable, or what check_claims raises. OpenID Connect Core §3.1.3.7.
        """
        # (0) Size, dots, base64url and JSON, before anything else.
        parts = read_token(token)
        # (1) The issuer, exactly or by wildcard: only configured issuers are ever asked for keys.
        issuer, issuer_url = self._issuer_of(parts)
        # (2) The algorithm, from a list; `none` and the symmetric ones are on no list.
        if parts.header.algorithm not in issuer.algorithms:
            # Of a token nothing is repeated but iss, aud and times; an algorithm only by a registered name.
            came = parts.header.algorithm if parts.header.algorithm in _REGISTERED else "an unknown algorithm"
            raise TokenAlgorithmRefused(
                f"the token is signed with {came}; expected one of {', '.join(issuer.algorithms)}",
                expected=", ".join(issuer.algorithms),
                received=came,
            )
        # (3) The key, by its id, among those the issuer publishes. An unsigned token names none, and has been
        # refused for that already.
        key_id = _key_id(parts.header)
        keys = self._keys_for(key_id, parts.header.algorithm, issuer, issuer_url)
        # (4) The signature over header and payload as they came.
        if not any(key.verify(parts.header.algorithm, parts.signing_input, parts.signature) for key in keys):
            raise TokenSignatureInvalid(
                f"the token's signature does not verify with key {shown(key_id)} that issuer "
                f"{issuer_url} publishes",
                issuer=issuer_url,
                key_id=bare(key_id),
                expected="a signature of this key over the token's header and payload",
                received="another signature, or an altered token",
            )
        # (5) Audience, times and subject.
        claims = check_claims(parts.claims, issuer, self._clock() // 1000)
        return VerifiedToken(issuer, issuer_url, claims)

    def _issuer_of(self, parts: CompactToken) -> tuple[Issuer, str]:
        issuer_url = parts.claims.get("iss")
        if issuer_url is None:
            raise TokenClaimMissing(
                "the token has no claim 'iss'; expected the URL of its issuer",
                claim="iss",
                expected="an issuer URL",
                received="no such claim",
            )
        if not isinstance(issuer_url, str) or len(issuer_url) > _MAX_ISSUER:
            raise TokenMalformed(
                f"the token's claim 'iss' must be a string of at most {_MAX_ISSUER} characters",
                claim="iss",
                expected=f"a string of at most {_MAX_ISSUER} characters",
                received="a longer one" if isinstance(issuer_url, str) else json_kind(issuer_url),
            )
        issuer = self._directory().find(issuer_url)
        if issuer is None:
            raise TokenIssuerUnknown(
                f"the token's issuer {shown(issuer_url)} is not in this service's issuer file; expected one "
                "that GET /api/v2/configuration lists",
                claim="iss",
                expected="an issuer that GET /api/v2/configuration lists",
                received=bare(issuer_url),
            )
        return issuer, issuer_url

    def _keys_for(
        self, key_id: str, algorithm: str, issuer: Issuer, issuer_url: str
    ) -> tuple[VerificationKey, ...]:
        key_set = self._built_in.get(issuer_url)
        if key_set is None:
            key_set = self._cache.keys(issuer, issuer_url)
            if key_id not in key_set.keys and key_id not in key_set.refused:
                key_set = self._cache.newer_keys(issuer, issuer_url, key_set)
        return _fitting(key_set, key_id, algorithm, issuer_url)


def _key_id(header: Header) -> str:
    if header.key_id is None:
        raise TokenKeyUnknown(
            "the identity token's header names no key ('kid'); expected the id of one of the issuer's keys",
            part="header",
            expected="'kid'",
            received="none",
        )
    return header.key_id


def _fitting(key_set: KeySet, key_id: str, algorithm: str, issuer_url: str) -> tuple[VerificationKey, ...]:
    named = key_set.keys.get(key_id, ())
    fitting = tuple(key for key in named if algorithm in key.algorithms)
    if fitting:
        return fitting
    if named:
        usable = sorted(set().union(*(key.algorithms for key in named)))
        raise TokenKeyRefused(
            f"key {shown(key_id)} of issuer {issuer_url} is for {', '.join(usable)}, "
            f"but the token is signed with {algorithm}",
            issuer=issuer_url,
            key_id=bare(key_id),
            expected=", ".join(usable),
            received=algorithm,
        )
    if key_id in key_set.refused:
        why = key_set.refused[key_id]
        raise TokenKeyRefused(
            f"key {shown(key_id)} of issuer {issuer_url} is not used: {why}",
            issuer=issuer_url,
            key_id=bare(key_id),
            expected="RSA of at least 2048 bits, ECDSA or Ed25519",
            received=why,
        )
    # A key id that the issuer does not publish is the token's own text, and is not repeated.
    published = f"one of the {len(key_set.keys)} keys that the issuer publishes for signatures"
    raise TokenKeyUnknown(
        f"the token names a key that issuer {issuer_url} does not publish; expected {published}",
        issuer=issuer_url,
        expected=published,
        received="another 'kid'",
    )
