"""What is decided about a verified token before any costly work: how often its owner may ask, and its use."""

import hashlib
import hmac
import math
from dataclasses import dataclass
from functools import lru_cache

from ca_service.authority.ports import (
    RATE_WINDOW_SECONDS,
    Allowance,
    Allowances,
    Question,
    RateLimiter,
    TokenUse,
)
from ca_service.errors import RateLimited, TokenClaimMissing
from ca_service.identity.claims import VerifiedToken, text_claim


@dataclass(frozen=True, slots=True)
class RateLimits:
    """How many requests a minute one identity, and one issuer's identities together, may make; 0: any."""

    identity_per_minute: int = 0
    issuer_per_minute: int = 0


class Admission:
    """Holds verified identities to the operator's rate limits."""

    def __init__(self, limiter: RateLimiter, limits: RateLimits, *, namespace: str) -> None:
        """Join the collaborators; `namespace` keeps services apart that share a limiter's server."""
        self._limiter = limiter
        self._namespace = namespace

        self._kinds = [
            (whose, name, limit)
            for whose, name, limit in (
                ("this identity", "identity", limits.identity_per_minute),
                ("the identities of this issuer together", "issuer", limits.issuer_per_minute),
            )
            if limit
        ]

    def admit(self, token: VerifiedToken) -> Allowance | None:
        """Count a request; return what is left of the limit nearest to its end, None when none applies.

        Raises RateLimited, with the seconds to wait. An identity refused does not count for its issuer.
        """
        return self.settled(self._limiter.take_in_turn(self._counts(token)))

    def ask(self, token: VerifiedToken) -> Question | None:
        """The same for a thread that may not wait: `settled` judges the answers, once they are there.

        None when `admit` does not wait.
        """
        return self._limiter.ask(self._counts(token)) if self._kinds else None

    def settled(self, answers: Allowances) -> Allowance | None:
        """What answers to a token mean; as `admit`."""
        known: list[Allowance] = []
        for (whose, name, limit), allowance in zip(self._kinds, answers, strict=False):
            if allowance is None:
                continue
            if not allowance.allowed:
                raise RateLimited(
                    f"{whose} may ask for {limit} certificates in {RATE_WINDOW_SECONDS} seconds, and did; "
                    f"try again in {allowance.reset_after} seconds",
                    retry_after=allowance.reset_after,
                    rate=name,
                    limit=str(limit),
                    remaining="0",
                    reset_after=str(allowance.reset_after),
                )
            known.append(allowance)
        return min(known, key=lambda allowance: allowance.remaining, default=None)

    def _counts(self, token: VerifiedToken) -> list[tuple[str, int]]:
        subject = text_claim(token.claims, "sub")
        names = {"identity": (token.issuer_url, subject), "issuer": (token.issuer_url,)}
        return [(limiter_key(self._namespace, name, *names[name]), limit) for _, name, limit in self._kinds]


@lru_cache(maxsize=4096)
def limiter_key(namespace: str, *name: str) -> str:
    """Name what a limiter counts: whoever can look into its server sees no address and no subject there."""
    return hmac.digest(namespace.encode(), _unambiguous(*name), "sha256").hex()


def token_use(token: str, verified: VerifiedToken) -> TokenUse:
    """Name a verified token, so that its second use is known: by issuer and `jti`, or by what is signed.

    `token` is the compact form. Raises TokenClaimMissing without an `exp`, which every verified token has.
    """
    token_id = verified.claims.get("jti")
    if isinstance(token_id, str) and token_id:
        named = _unambiguous("jti", verified.issuer_url, token_id)
    else:
        # Without the signature: whoever has an ECDSA signature can make a second one of it.
        named = _unambiguous("token", verified.issuer_url, token.rpartition(".")[0])
    expires = verified.claims.get("exp")
    if not isinstance(expires, int | float):
        raise TokenClaimMissing("the token has no claim 'exp', so its use would never end", claim="exp")
    return TokenUse(hashlib.sha256(named).digest(), math.ceil(expires))


def _unambiguous(*parts: str) -> bytes:
    """Join texts so that no two lists of them give the same octets."""
    return b"".join(b"%d:%s" % (len(octets), octets) for octets in map(_octets, parts))


def _octets(text: str) -> bytes:
    # JSON can carry half a surrogate pair, which strict UTF-8 refuses.
    return text.encode("utf-8", "surrogatepass")
