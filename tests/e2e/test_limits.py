"""Rate limits and single-use tokens of two workers, or two nodes: counted together, and never in the way."""

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from uuid import uuid4

import pytest
import requests

from tests.support.processes import RunningService, http, wait_until
from tests.support.redis_server import LocalRedis
from tests.support.signing import b64, bearer, key_body, new_key
from tests.support.two_nodes import ONE_NODE, OwnPlace, own_place

LIMIT = 12
BURST = 40


@dataclass
class Limited:
    """A service that takes each token once, and so many of an identity a minute."""

    own: OwnPlace
    redis: LocalRedis

    @property
    def service(self) -> RunningService:
        return self.own.service

    def fresh(self, email: str) -> str:
        """A token unlike any other: those that a provider makes within one second are equal."""
        return self.own.tokens.mint(email, claims={"jti": uuid4().hex})

    def ask(self, email: str, token: str, *, url: str | None = None, version: int = 2) -> requests.Response:
        """One request on a connection of its own, so that both workers are met."""
        key = new_key()
        body = key_body(key, email)
        if version == 1:
            part = body["publicKeyRequest"]
            pem = part["publicKey"]["content"]
            body = {
                "publicKey": {"content": b64(pem.encode()), "algorithm": "ecdsa"},
                "signedEmailAddress": part["proofOfPossession"],
            }
        with self.service.http() as session:
            return session.post(
                f"{url or self.service.url}/api/v{version}/signingCert",
                json=body,
                headers=bearer(token),
                timeout=60,
            )

    def burst(self, email: str, tokens: list[str]) -> list[requests.Response]:
        """Ask with all of them at once: at each node, and at nginx where there is one."""
        asked = zip(tokens, itertools.cycle(self.own.urls), strict=False)
        with ThreadPoolExecutor(8) as threads:
            return list(threads.map(lambda each: self.ask(email, each[0], url=each[1]), asked))

    def unavailable(self) -> float:
        """How many requests the metrics of all nodes say went on uncounted."""
        found = re.findall(
            r"^casvc_rate_limit_unavailable_total(?:\{[^}]*\})? (\S+)$",
            "".join(machine.metrics() for machine in self.own.machines),
            re.MULTILINE,
        )
        return sum(map(float, found))

    def counted_burst(self, size: int) -> tuple[str, list[requests.Response]]:
        """Somebody new who asks so often at once, and what came of it when Redis counted every request.

        On a busy machine it may not answer in time, and then nobody waits for it: others try again.
        """

        def counted() -> tuple[str, list[requests.Response]] | None:
            email, before = f"{uuid4().hex}@example.com", self.unavailable()
            replies = self.burst(email, [self.fresh(email) for _ in range(size)])
            return (email, replies) if self.unavailable() == before else None

        found = wait_until(counted, 240, f"{size} requests that were all counted")
        assert found is not None
        return found


@pytest.fixture(scope="module")
def limited(
    place: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Limited]:
    """On one node, two workers share a Redis; two nodes have theirs."""
    environ = {
        "CASVC_LIMITS__IDENTITY_PER_MINUTE": str(LIMIT),
        "CASVC_OIDC__SINGLE_USE_TOKENS": "true",
    }
    with ExitStack() as stack:
        redis = None
        if place == ONE_NODE:
            redis = stack.enter_context(LocalRedis())
            environ["CASVC_REDIS__URL"] = redis.url
        own = stack.enter_context(
            own_place(
                place,
                tmp_path_factory.mktemp("limited"),
                postgres=lambda: request.getfixturevalue("postgres_of_the_run"),
                environ=environ,
            )
        )
        if own.cluster is not None:
            redis = own.cluster.redis
        assert redis is not None
        yield Limited(own, redis)


def reason(reply: requests.Response) -> str:
    return str(reply.json()["details"][0]["reason"])


def test_an_identity_gets_its_limit_from_all_workers_together_and_the_next_one_its_own(
    limited: Limited,
) -> None:
    email, replies = limited.counted_burst(BURST)
    issued = [reply for reply in replies if reply.status_code == 200]
    refused = [reply for reply in replies if reply.status_code == 429]
    # With counts of their own, two workers would have let twice as many through, two nodes four times.
    assert (len(issued), len(refused)) == (LIMIT, BURST - LIMIT)
    left = [int(reply.headers["RateLimit-Remaining"]) for reply in issued]
    assert sorted(left) == list(range(LIMIT)), "no two were told the same remainder"
    assert {reply.headers["RateLimit-Limit"] for reply in replies} == {str(LIMIT)}

    for told in refused:
        assert 0 < int(told.headers["Retry-After"]) <= 60
        assert told.headers["RateLimit-Remaining"] == "0"
        assert told.headers["RateLimit-Reset"] == told.headers["Retry-After"]
        assert told.json()["code"] == 8
        assert reason(told) == "rate-limited"
        assert email.partition("@")[0] not in told.text

    def refused_by(url: str, version: int) -> bool:
        reply = limited.ask(email, limited.fresh(email), url=url, version=version)
        return reply.status_code == 429 and reason(reply) == "rate-limited"

    for url in limited.own.urls:
        for version in (1, 2):
            wait_until(lambda at=url, v=version: refused_by(at, v), 60, "counted")  # type: ignore[misc]

    _, (quiet,) = limited.counted_burst(1)
    assert quiet.headers["RateLimit-Remaining"] == str(LIMIT - 1)


def test_redis_is_told_no_names(limited: Limited) -> None:
    limited.counted_burst(1)
    with limited.redis.client() as client:
        keys = [key.decode() for key in client.scan_iter()]
        values = {client.type(key) for key in keys}
    assert keys
    assert all(re.fullmatch("casvc:rate:([0-9a-f]{64}|check)", key) for key in keys), keys
    assert values == {b"string"}


def test_one_token_sent_to_all_workers_at_once_gets_one_certificate(limited: Limited) -> None:
    email = f"{uuid4().hex}@example.com"
    replies = limited.burst(email, [limited.fresh(email)] * (LIMIT - 1))
    assert Counter(reply.status_code for reply in replies) == {200: 1, 400: LIMIT - 2}
    assert {reason(reply) for reply in replies if reply.status_code == 400} == {"token-reused"}
    assert limited.ask(email, limited.fresh(email)).status_code == 200


def test_a_token_that_was_used_at_one_place_is_refused_at_every_other(limited: Limited) -> None:
    for used_at in limited.own.urls:
        email = f"{uuid4().hex}@example.com"
        token = limited.fresh(email)
        assert limited.ask(email, token, url=used_at).status_code == 200
        for url in limited.own.urls:
            again = limited.ask(email, token, url=url)
            assert (again.status_code, reason(again)) == (400, "token-reused")


def test_issuing_goes_on_while_redis_is_dead_and_limits_come_back_with_it(limited: Limited) -> None:
    email, replies = limited.counted_burst(LIMIT + 4)
    assert 429 in {reply.status_code for reply in replies}
    before = limited.unavailable()
    limited.redis.kill()
    try:
        replies = limited.burst(email, [limited.fresh(email) for _ in range(LIMIT)])
        assert {reply.status_code for reply in replies} == {200}
        assert not any("RateLimit-Limit" in reply.headers for reply in replies)
        assert limited.unavailable() == before + LIMIT
        # Single use is the database's to know.
        token = limited.fresh(email)
        told = [limited.ask(email, token, url=url).status_code for url in (*limited.own.urls, None)]
        assert told == [200, *[400] * len(limited.own.urls)]
        for machine in limited.own.machines:
            with http() as session:
                answer = session.get(f"{machine.url}/readyz", timeout=60)
            assert (answer.status_code, answer.json()["status"]) == (200, "DEGRADED")
            assert "Redis is away" in machine.printed()
            assert email not in machine.printed()
    finally:
        limited.redis.start()
    _, replies = limited.counted_burst(LIMIT + 4)
    assert Counter(reply.status_code for reply in replies) == {200: LIMIT, 429: 4}
