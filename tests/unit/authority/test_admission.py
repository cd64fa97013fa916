"""How often an identity may ask, when a token is known again, and that limiters are told no names."""

import itertools
import re
from dataclasses import replace

import pytest

from ca_service.authority.admission import Admission, RateLimits, token_use
from ca_service.authority.ports import Allowance, Counts, Question, RateLimiter
from ca_service.cache.memory import MemoryRateLimiter
from ca_service.errors import ProofInvalid, RateLimited, TokenReused
from ca_service.identity.claims import VerifiedClaims, VerifiedToken
from ca_service.identity.issuers import Issuer, IssuerType
from tests.unit.authority.conftest import SmallAuthority, fresh_key_proof

ISSUER = Issuer("https://issuer.example", "sigstore", IssuerType.EMAIL)
SERVICE = "https://ca.example"
EXPIRES = 1_795_421_400


def token_of(subject: str, issuer_url: str = ISSUER.issuer_url, **claims: object) -> VerifiedToken:
    return VerifiedToken(ISSUER, issuer_url, VerifiedClaims({"sub": subject, "exp": EXPIRES, **claims}))


class Recording(RateLimiter):
    """A limiter that allows everything and remembers the keys."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def take(self, key: str, limit: int) -> Allowance | None:
        self.keys.append(key)
        return Allowance(True, limit, limit - 1, 60)


class Away(RateLimiter):
    """A limiter whose server cannot be asked."""

    def take(self, key: str, limit: int) -> Allowance | None:
        return None


def admission(identity: int = 0, issuer: int = 0, limiter: RateLimiter | None = None) -> Admission:
    return Admission(limiter or MemoryRateLimiter(), RateLimits(identity, issuer), namespace=SERVICE)


def test_each_identity_has_a_limit_of_its_own() -> None:
    limited = admission(identity=2)
    ada = token_of("ada")
    remaining = [left.remaining for _ in range(2) if (left := limited.admit(ada))]
    assert remaining == [1, 0]
    with pytest.raises(
        RateLimited, match="this identity may ask for 2 certificates in 60 seconds"
    ) as refused:
        limited.admit(ada)
    assert refused.value.retry_after is not None
    assert 0 < refused.value.retry_after <= 60
    assert refused.value.facts["limit"] == "2"
    assert limited.admit(token_of("bob"))
    assert limited.admit(token_of("ada", "https://other.example")), "the same subject of another issuer"


def test_the_identities_of_an_issuer_share_its_limit() -> None:
    limited = admission(issuer=2)
    for subject in ("ada", "bob"):
        limited.admit(token_of(subject))
    with pytest.raises(RateLimited, match="identities of this issuer together"):
        limited.admit(token_of("eve"))
    assert limited.admit(token_of("ada", "https://other.example"))


def test_a_thread_that_may_not_wait_asks_and_judges_the_answers_later() -> None:
    class Elsewhere(RateLimiter):
        def take(self, key: str, limit: int) -> Allowance | None:
            raise AssertionError

        def ask(self, counts: Counts) -> Question:
            return Question(counts, lambda: None)

    limited = admission(identity=2, issuer=5, limiter=Elsewhere())
    question = limited.ask(token_of("ada"))
    assert question is not None
    assert [limit for _, limit in question.counts] == [2, 5]
    assert limited.settled(question.answers) is None, "nobody can tell yet"
    few, many = Allowance(True, 2, 1, 60), Allowance(True, 5, 4, 60)
    assert limited.settled([few, many]) == few
    assert limited.settled([None, many]) == many
    with pytest.raises(RateLimited, match="identities of this issuer together"):
        limited.settled([few, Allowance(False, 5, 0, 60)])
    assert admission(limiter=Elsewhere()).ask(token_of("ada")) is None, "nothing is limited"
    assert admission(identity=2).ask(token_of("ada")) is None, "memory makes nobody wait"


def test_what_an_identity_is_refused_does_not_count_for_its_issuer() -> None:
    limited = admission(identity=1, issuer=3)
    limited.admit(token_of("loud"))
    for _ in range(10):
        with pytest.raises(RateLimited):
            limited.admit(token_of("loud"))
    left = limited.admit(token_of("quiet"))
    assert left is not None


def test_the_limit_nearest_to_its_end_is_told() -> None:
    limited = admission(identity=100, issuer=2)
    left = limited.admit(token_of("ada"))
    assert left is not None
    assert (left.limit, left.remaining) == (2, 1)


def test_without_limits_nothing_is_counted() -> None:
    limiter = Recording()
    assert admission(limiter=limiter).admit(token_of("ada")) is None
    assert limiter.keys == []


def test_a_limiter_that_is_away_holds_nobody_up() -> None:
    limited = admission(identity=1, issuer=1, limiter=Away())
    assert [limited.admit(token_of("ada")) for _ in range(5)] == [None] * 5


def test_a_limiter_is_told_hashes_that_differ_for_whatever_differs() -> None:
    limiter = Recording()
    limited = admission(identity=5, issuer=5, limiter=limiter)
    for subject, issuer_url in (
        ("ada", "https://a"),
        ("aada", "https:/"),
        ("ada", "https://b"),
        ("\ud800", "x"),
    ):
        limited.admit(token_of(subject, issuer_url))
    Admission(limiter, RateLimits(5, 5), namespace="https://other-ca.example").admit(
        token_of("ada", "https://a")
    )
    assert len(set(limiter.keys)) == len(limiter.keys) == 10
    assert all(re.fullmatch("[0-9a-f]{64}", key) for key in limiter.keys)


def test_a_refused_identity_costs_no_proof_check_and_no_log_entry(small: SmallAuthority) -> None:
    issuance = small.issuance()
    issuance._admission = admission(identity=1)
    proof = fresh_key_proof()
    wrong = replace(proof, proof=fresh_key_proof().proof)
    with pytest.raises(ProofInvalid):
        issuance.issue("token", wrong)
    with pytest.raises(RateLimited):
        issuance.issue("token", proof)
    assert small.reader.head().tree_size == 0


def test_a_token_gets_one_certificate_where_that_is_asked_for(small: SmallAuthority) -> None:
    issuance = small.issuance()
    issuance._policy = replace(issuance._policy, single_use_tokens=True)
    believed = issuance._verify_token

    def with_expiry(token: str) -> VerifiedToken:
        verified = believed(token)
        return replace(verified, claims=VerifiedClaims({**verified.claims, "exp": EXPIRES}))

    issuance._verify_token = with_expiry
    # A request that fails before it is logged leaves the token good.
    with pytest.raises(ProofInvalid):
        issuance.issue("a.b.c", replace(fresh_key_proof(), proof=fresh_key_proof().proof))
    issuance.issue("a.b.c", fresh_key_proof())
    with pytest.raises(TokenReused):
        issuance.issue("a.b.c", fresh_key_proof())
    issuance.issue("a.x.c", fresh_key_proof())
    assert small.reader.head().tree_size == 2


def test_without_that_a_token_serves_until_it_expires(small: SmallAuthority) -> None:
    issuance = small.issuance()
    for _ in range(3):
        issuance.issue("a.b.c", fresh_key_proof())


def test_a_token_is_known_again_by_issuer_and_jti_alone() -> None:
    first = token_use("a.b.c", token_of("ada", jti="1"))
    assert first.expires == EXPIRES
    assert token_use("x.y.z", token_of("ada", jti="1")) == first
    others = [
        token_use("a.b.c", token_of("ada", jti="2")),
        token_use("a.b.c", token_of("ada", "https://other.example", jti="1")),
        token_use("a.b.c", token_of("ada", jti="")),
        token_use("x.b.c", token_of("ada", jti=7)),
    ]
    hashes = [use.token_hash for use in (first, *others)]
    assert all(left != right for left, right in itertools.combinations(hashes, 2))


def test_a_token_without_jti_is_known_again_under_another_signature() -> None:
    # ECDSA: with (r, s) also (r, n - s) verifies, so that anybody can make a second token of one.
    plain = token_of("ada")
    assert token_use("header.payload.one", plain) == token_use("header.payload.two", plain)
    assert token_use("header.payload.one", plain) != token_use("header.other.one", plain)


def test_a_fraction_of_a_second_in_exp_is_kept_too() -> None:
    assert token_use("a.b.c", token_of("ada", exp=EXPIRES + 0.5)).expires == EXPIRES + 1
