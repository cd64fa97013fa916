"""Rate limits and single-use tokens of a server with two workers: counted together, and never in the way."""

import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
import requests

from tests.support.processes import RunningService, dev_service, free_port, http, running, wait_until
from tests.support.redis_server import LocalRedis
from tests.support.signing import b64, bearer, key_body, new_key
from tests.support.tokens import TokenDesk

LIMIT = 12
BURST = 40


@pytest.fixture(scope="module")
def redis() -> Iterator[LocalRedis]:
    with LocalRedis() as started:
        yield started


@pytest.fixture(scope="module")
def limited(redis: LocalRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """Two workers that share a Redis, and take each token once."""
    environ = {
        "CASVC_REDIS__URL": redis.url,
        "CASVC_LIMITS__IDENTITY_PER_MINUTE": str(LIMIT),
        "CASVC_OIDC__SINGLE_USE_TOKENS": "true",
        "CASVC_METRICS__BIND": f"127.0.0.1:{free_port()}",
    }
    directory = tmp_path_factory.mktemp("limited") / "ca"
    with running(dev_service(directory, workers=2, environ=environ)) as started:
        yield started


@pytest.fixture
def desk(limited: RunningService) -> TokenDesk:
    return TokenDesk(limited)


def ask(service: RunningService, email: str, token: str, version: int = 2) -> requests.Response:
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
    with http() as session:
        return session.post(
            f"{service.url}/api/v{version}/signingCert", json=body, headers=bearer(token), timeout=60
        )


def fresh(desk: TokenDesk, email: str) -> str:
    """A token unlike any other: those that the provider makes within one second are equal."""
    return desk.mint(email, claims={"jti": uuid4().hex})


def burst(service: RunningService, email: str, tokens: list[str]) -> list[requests.Response]:
    """Ask with all of them at once."""
    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(lambda token: ask(service, email, token), tokens))


def unavailable(service: RunningService) -> float:
    """How many requests the metrics say went on uncounted."""
    text = requests.get(f"http://{service.environ['CASVC_METRICS__BIND']}/metrics", timeout=60).text
    found = re.findall(r"^casvc_rate_limit_unavailable_total(?:\{[^}]*\})? (\S+)$", text, re.MULTILINE)
    return sum(map(float, found))


def test_an_identity_gets_its_limit_from_both_workers_together_and_the_next_one_its_own(
    limited: RunningService, desk: TokenDesk
) -> None:
    before = unavailable(limited)
    replies = burst(limited, "loud@example.com", [fresh(desk, "loud@example.com") for _ in range(BURST)])
    uncounted = unavailable(limited) - before
    assert uncounted < BURST / 4, "a busy machine may miss a few time-outs, not many"
    issued = [reply for reply in replies if reply.status_code == 200]
    refused = [reply for reply in replies if reply.status_code == 429]
    assert len(issued) + len(refused) == BURST
    # With counts of their own, the workers would have let twice as many through.
    assert LIMIT <= len(issued) <= LIMIT + uncounted
    left = [
        int(reply.headers["RateLimit-Remaining"]) for reply in issued if "RateLimit-Limit" in reply.headers
    ]
    assert sorted(left) == sorted(set(left)), "no two were told the same remainder"
    assert {reply.headers.get("RateLimit-Limit", str(LIMIT)) for reply in replies} == {str(LIMIT)}

    for version in (1, 2):
        told = ask(limited, "loud@example.com", fresh(desk, "loud@example.com"), version)
        assert told.status_code == 429
        assert 0 < int(told.headers["Retry-After"]) <= 60
        assert told.headers["RateLimit-Remaining"] == "0"
        assert told.headers["RateLimit-Reset"] == told.headers["Retry-After"]
        problem = told.json()
        assert problem["code"] == 8
        assert problem["details"][0]["reason"] == "rate-limited"
        assert "loud" not in told.text

    quiet = ask(limited, "quiet@example.com", fresh(desk, "quiet@example.com"), version=1)
    assert quiet.status_code == 201
    assert quiet.headers["RateLimit-Remaining"] == str(LIMIT - 1)


def test_redis_is_told_no_names(limited: RunningService, desk: TokenDesk, redis: LocalRedis) -> None:
    assert ask(limited, "private@example.com", fresh(desk, "private@example.com")).status_code == 200
    with redis.client() as client:
        keys = [key.decode() for key in client.scan_iter()]
        values = {client.type(key) for key in keys}
    assert keys
    assert all(re.fullmatch("casvc:rate:([0-9a-f]{64}|check)", key) for key in keys), keys
    assert values == {b"string"}


def test_one_token_sent_to_both_workers_at_once_gets_one_certificate(
    limited: RunningService, desk: TokenDesk
) -> None:
    email = "racer@example.com"
    replies = burst(limited, email, [fresh(desk, email)] * (LIMIT - 1))
    assert Counter(reply.status_code for reply in replies) == {200: 1, 400: LIMIT - 2}
    reasons = {reply.json()["details"][0]["reason"] for reply in replies if reply.status_code == 400}
    assert reasons == {"token-reused"}
    assert ask(limited, email, fresh(desk, email)).status_code == 200


def test_issuing_goes_on_while_redis_is_dead_and_limits_come_back_with_it(
    limited: RunningService, desk: TokenDesk, redis: LocalRedis
) -> None:
    email = "persistent@example.com"
    burst(limited, email, [fresh(desk, email) for _ in range(LIMIT)])
    before = unavailable(limited)
    redis.kill()
    try:
        replies = burst(limited, email, [fresh(desk, email) for _ in range(LIMIT)])
        assert {reply.status_code for reply in replies} == {200}
        assert not any("RateLimit-Limit" in reply.headers for reply in replies)
        assert unavailable(limited) == before + LIMIT
        with http() as session:
            assert session.get(f"{limited.url}/readyz", timeout=60).status_code == 200
        output = limited.output.read_text()
        assert "Redis is away" in output
        assert email not in output
    finally:
        redis.start()
    wait_until(lambda: all_counted(limited, desk), 60, "both workers counting in Redis again")
    email = "patient@example.com"
    replies = burst(limited, email, [fresh(desk, email) for _ in range(LIMIT + 4)])
    assert 429 in {reply.status_code for reply in replies}


def all_counted(service: RunningService, desk: TokenDesk) -> bool:
    """Whether a burst to both workers went by without a request that nobody could count."""
    before = unavailable(service)
    email = f"{uuid4().hex}@example.com"
    burst(service, email, [fresh(desk, email) for _ in range(16)])
    return unavailable(service) == before
