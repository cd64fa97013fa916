"""Every read of the log over HTTP: how long it may be kept, whether it changed, who may ask, one path."""

import base64
import hashlib
from collections.abc import Iterator
from urllib.parse import quote

import pytest
import requests

from tests.support import merkle
from tests.support.processes import RunningService
from tests.support.signing import issue
from tests.support.tokens import Tokens

EMAIL = "answers@example.com"
NEVER = "no-store"
MINUTE = "public, max-age=60"
MINUTES = "public, max-age=300"
DAY = "public, max-age=86400"
FOR_GOOD = "public, max-age=604800, immutable"
ORIGIN = {"Origin": "https://monitor.example"}


class World:
    """The shared service's log with at least three entries, and what its calls are asked with."""

    def __init__(self, base: str, session: requests.Session) -> None:
        self.base = base
        self.session = session
        self.size: int = self.get("ct/v1/get-sth").json()["tree_size"]
        entry = self.get(f"ct/v1/get-entry-and-proof?leaf_index=0&tree_size={self.size}").json()
        leaf_hash = merkle.leaf_hash(base64.b64decode(entry["leaf_input"]))
        root = base64.b64decode(self.get("ct/v1/get-roots").json()["certificates"][0])
        self.words = {
            "size": self.size,
            "hash": quote(base64.b64encode(leaf_hash)),
            "unknown": quote(base64.b64encode(bytes(32))),
            "width": min(self.size, 255),
            "issuer": hashlib.sha256(root).hexdigest(),
            "ISSUER": hashlib.sha256(root).hexdigest().upper(),
        }

    def get(self, path: str, **headers: str) -> requests.Response:
        return self.ask("GET", path, **headers)

    def ask(self, method: str, path: str, **headers: str) -> requests.Response:
        return self.session.request(
            method, f"{self.base}/{path}", headers=headers, timeout=60, allow_redirects=False
        )


@pytest.fixture(scope="module")
def world(service: RunningService, tokens: Tokens) -> Iterator[World]:
    token = tokens.token(EMAIL)
    with service.http() as session:
        for _ in range(3):
            issue(session, service.url, token, EMAIL)
        yield World(f"{service.url}/ctlog/{service.shard()}", session)


READS = {
    "ct/v1/get-sth": NEVER,
    "checkpoint": NEVER,
    "ct/v1/get-sth-consistency?first=1&second={size}": DAY,
    "ct/v1/get-sth-consistency?first=0&second={size}": DAY,
    "ct/v1/get-proof-by-hash?hash={hash}&tree_size={size}": DAY,
    "ct/v1/get-entry-and-proof?leaf_index=0&tree_size={size}": DAY,
    "ct/v1/get-entries?start=0&end=1": DAY,
    "ct/v1/get-entries?start=2&end=9223372036854775807": MINUTE,
    "ct/v1/get-roots": MINUTES,
    "log.v3.json": MINUTES,
    "tile/0/000.p/1": FOR_GOOD,
    "tile/0/000.p/{width}": FOR_GOOD,
    "tile/data/000.p/{width}": FOR_GOOD,
    "issuer/{issuer}": FOR_GOOD,
}


@pytest.mark.parametrize("path", READS)
def test_a_read_says_how_long_it_holds_and_whether_it_changed(world: World, path: str) -> None:
    there, plain = path.format(**world.words), {"Accept-Encoding": "identity"}
    first = world.get(there, **plain, **ORIGIN)
    assert first.status_code == 200, first.text
    assert first.headers["Cache-Control"] == READS[path]
    assert first.headers["Access-Control-Allow-Origin"] == "*"
    assert "ETag" in first.headers["Access-Control-Expose-Headers"]
    if READS[path] != NEVER:  # others issue meanwhile, so the newest tree head may be another one
        tag = first.headers["ETag"]
        same = world.get(there, **plain, **{"If-None-Match": tag})
        assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", tag)
        assert same.headers["Cache-Control"] == READS[path]
        head = world.ask("HEAD", there, **plain)
        assert (head.status_code, head.content, head.headers["ETag"]) == (200, b"", tag)
        assert head.headers["Content-Length"] == str(len(first.content))
    else:
        assert world.ask("HEAD", there).status_code == 200
        assert world.get(there, **{"If-None-Match": '"another"'}).status_code == 200
    preflight = world.ask("OPTIONS", there, **ORIGIN)
    assert "GET" in preflight.headers["Access-Control-Allow-Methods"]
    assert "If-None-Match" in preflight.headers["Access-Control-Allow-Headers"]
    assert world.ask("POST", there).status_code == 405


NOT_THERE = [
    "ct/v1/get-sth/",
    "CT/v1/get-sth",
    "ct/v1//get-sth",
    "/checkpoint",
    "checkpoint/",
    "log.v3.json/",
    "tile/0/0",
    "tile/0/x000/000",
    "tile/6/000",
    "tile/00/000",
    "tile/-1/000",
    "tile/0/%2e%2e/000",
    "tile/0/000.p/0",
    "tile/0/000.p/256",
    "tile/0/000.p/01",
    "tile/0/x999/999",
    "tile/data/x999/999",
    "tile/0/000.p/+1",
    "tile/0/000.P/1",
    "tile/data/000.p/1/",
    "issuer/{ISSUER}",
    "issuer/00",
    "ct/v1/get-proof-by-hash?hash={unknown}&tree_size=1",
    "ct/v1/get-proof-by-hash?hash={hash}&tree_size=999999999",
]
MALFORMED = [
    "ct/v1/get-entries",
    "ct/v1/get-entries?start=1&end=0",
    "ct/v1/get-entries?start=999999999&end=999999999",
    "ct/v1/get-entries?start=0&end=%2B1",
    "ct/v1/get-entries?start=0&end=1_0",
    "ct/v1/get-entries?start=00&end=1",
    "ct/v1/get-entries?start=0&end=%D9%A1",
    "ct/v1/get-entries?start=0&end=99999999999999999999",
    "ct/v1/get-proof-by-hash?hash=xx&tree_size=1",
    "ct/v1/get-proof-by-hash?hash={hash}&tree_size=0",
    "ct/v1/get-sth-consistency?first=1",
    "ct/v1/get-sth-consistency?first=2&second=1",
    "ct/v1/get-sth-consistency?first=1&second=999999999",
    "ct/v1/get-entry-and-proof?leaf_index=2&tree_size=2",
    "ct/v1/get-entry-and-proof?leaf_index=0&tree_size=0",
    "ct/v1/get-entry-and-proof?leaf_index=0&tree_size=999999999",
]


@pytest.mark.parametrize("path", NOT_THERE)
def test_what_the_log_has_not_is_not_found_and_no_cache_keeps_that(world: World, path: str) -> None:
    reply = world.get(path.format(**world.words))
    assert (reply.status_code, reply.headers["Cache-Control"]) == (404, NEVER), reply.text


@pytest.mark.parametrize("path", MALFORMED)
def test_a_malformed_call_is_told_so(world: World, path: str) -> None:
    reply = world.get(path.format(**world.words))
    assert (reply.status_code, reply.headers["Cache-Control"]) == (400, NEVER), reply.text
    assert reply.json()["message"]


def test_the_heads_tag_follows_the_tree_and_both_forms_are_one_head(
    world: World, service: RunningService, tokens: Tokens, session: requests.Session
) -> None:
    before = world.get("checkpoint")
    issue(session, service.url, tokens.token(EMAIL), EMAIL)
    after = world.get("checkpoint", **{"If-None-Match": before.headers["ETag"]})
    assert after.status_code == 200
    assert int(after.text.split("\n")[1]) > int(before.text.split("\n")[1])


def test_data_tiles_are_compressed_for_those_who_take_it_under_a_tag_of_their_own(world: World) -> None:
    path = f"tile/data/000.p/{world.words['width']}"
    plain = world.get(path, **{"Accept-Encoding": "identity"})
    packed = world.get(path, **{"Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert packed.content == plain.content
    assert packed.headers["ETag"] != plain.headers["ETag"]
    assert packed.headers["Vary"] == plain.headers["Vary"] == "Accept-Encoding"


@pytest.mark.parametrize("call", ["add-chain", "add-pre-chain"])
def test_submissions_are_refused_whatever_they_hold(world: World, service: RunningService, call: str) -> None:
    for body in ('{"chain":[]}', "no JSON", "x" * 300_000):
        # The server ends a connection on which it left a long body unread.
        with service.http() as session:
            reply = session.post(f"{world.base}/ct/v1/{call}", data=body, timeout=60)
        assert reply.status_code in (403, 413), reply.text
    assert world.get(f"ct/v1/{call}").status_code == 405
