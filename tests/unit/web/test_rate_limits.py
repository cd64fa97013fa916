"""A caller reads from the headers what is left of a limit, and when to come back."""

import pytest

from ca_service.authority.issuance import Attempt, CsrProof, IssuedChain, PublicKeyProof
from ca_service.authority.ports import Allowance
from ca_service.errors import RateLimited
from ca_service.vocabulary import LeafIndex, Serial
from tests.unit.web.conftest import FakeIssuance, World

HEADERS = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")
CALLS = {"/api/v2/signingCert": 200, "/api/v1/signingCert": 201}


class Counted(FakeIssuance):
    """Issues to callers who have used 6 of 60."""

    def issue(
        self, token: str, key: PublicKeyProof | CsrProof, attempt: Attempt | None = None
    ) -> IssuedChain:
        return IssuedChain(self.chain, Serial(1), LeafIndex(0), Allowance(True, 60, 54, 37))


def ask(world: World, path: str) -> "tuple[int, dict[str, str]]":
    body = {"certificateSigningRequest": "AAAA"}
    reply = world.app().test_client().post(path, json=body, headers={"Authorization": "Bearer a.b.c"})
    return reply.status_code, dict(reply.headers)


@pytest.mark.parametrize("path", CALLS)
def test_a_certificate_comes_with_what_is_left(world: World, path: str) -> None:
    world.issuance = Counted(world.issuance.chain)
    status, headers = ask(world, path)
    assert status == CALLS[path]
    assert [headers[name] for name in HEADERS] == ["60", "54", "37"]


@pytest.mark.parametrize("path", CALLS)
def test_nothing_is_said_of_a_limit_that_is_not_there(world: World, path: str) -> None:
    status, headers = ask(world, path)
    assert status == CALLS[path]
    assert not headers.keys() & set(HEADERS)


@pytest.mark.parametrize("path", CALLS)
def test_a_refusal_says_when_to_come_back(world: World, path: str) -> None:
    world.issuance.trouble = RateLimited(
        "too often", retry_after=37, rate="identity", limit="60", remaining="0", reset_after="37"
    )
    status, headers = ask(world, path)
    assert status == 429
    assert headers["Retry-After"] == "37"
    assert [headers[name] for name in HEADERS] == ["60", "0", "37"]


def test_pages_of_other_origins_may_read_the_headers(world: World) -> None:
    _, headers = ask(world, "/api/v2/signingCert")
    exposed = headers["Access-Control-Expose-Headers"].split(", ")
    assert {*HEADERS, "Retry-After"} <= set(exposed)
