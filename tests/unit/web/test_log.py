"""The log's calls: what they prove can be checked, and no number leads beyond the signed tree."""

import base64

import pytest
from flask.testing import FlaskClient

from ca_service.errors import StoreUnavailable
from ca_service.merkle.checkpoint import parse_checkpoint
from ca_service.merkle.tree import Frontier, leaf_hash, verify_consistency, verify_inclusion
from ca_service.pki.sct import precertificate_extra_data
from tests.unit.web.conftest import NOW, World

CT = "/ctlog/2026/ct/v1"
SIZE = 300

NOT_NUMBERS = [
    "",
    " 1",
    "1 ",
    "+1",
    "-1",
    "1_0",
    "01",
    "1.0",
    "1e3",
    "0x1",
    "\u0661",
    "9" * 20,
    "9" * 5000,
    "1\n",
]


def plain(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def test_the_tree_head_is_the_stored_one(client: FlaskClient, world: World) -> None:
    head = world.reader.head()
    reply = client.get(f"{CT}/get-sth")
    assert reply.get_json() == {
        "tree_size": SIZE,
        "timestamp": NOW * 1000,
        "sha256_root_hash": base64.b64encode(head.root_hash).decode(),
        "tree_head_signature": base64.b64encode(head.signature).decode(),
    }
    assert reply.headers["Cache-Control"] == "no-store"


def test_the_checkpoint_is_the_same_head(client: FlaskClient, world: World) -> None:
    reply = client.get("/ctlog/2026/checkpoint")
    assert reply.content_type == "text/plain; charset=utf-8"
    read = parse_checkpoint(reply.text, "ca.example/ctlog/2026", b"L" * 32)
    head = world.reader.head()
    assert (read.size, read.root, read.timestamp, read.signature) == (
        head.tree_size,
        head.root_hash,
        head.timestamp,
        head.signature,
    )


def test_entries_come_in_order_with_their_chains(client: FlaskClient, world: World) -> None:
    entries = client.get(f"{CT}/get-entries", query_string={"start": 3, "end": 5}).get_json()["entries"]
    assert [plain(entry["leaf_input"]) for entry in entries] == world.reader.leaves[3:6]
    extra = precertificate_extra_data(b"precertificate", (b"issuing", b"root"))
    assert [plain(entry["extra_data"]) for entry in entries] == [extra] * 3


@pytest.mark.parametrize(
    ("start", "end", "count", "max_age"),
    [
        (0, 0, 1, 86400),
        (0, 255, 256, 86400),
        (0, 299, 256, 86400),
        (0, 9_999_999_999_999_999_999, 256, 86400),
        (44, 299, 256, 86400),
        (45, 299, 255, 86400),
        (45, 300, 255, 60),
        (299, 299, 1, 86400),
        (299, 1298, 1, 60),
    ],
)
def test_an_answer_cut_by_the_tree_is_not_kept_for_long(
    client: FlaskClient, start: int, end: int, count: int, max_age: int
) -> None:
    reply = client.get(f"{CT}/get-entries?start={start}&end={end}")
    assert len(reply.get_json()["entries"]) == count
    assert reply.headers["Cache-Control"] == f"public, max-age={max_age}"


def test_inclusion_of_every_kind_of_place_is_proven(client: FlaskClient, world: World) -> None:
    root = world.reader.head().root_hash
    for index in (0, 1, 255, 256, 299):
        wanted = leaf_hash(world.reader.leaves[index])
        reply = client.get(
            f"{CT}/get-proof-by-hash", query_string={"hash": base64.b64encode(wanted), "tree_size": SIZE}
        )
        body = reply.get_json()
        assert body["leaf_index"] == index
        verify_inclusion(wanted, index, SIZE, [plain(node) for node in body["audit_path"]], root)
        assert reply.headers["Cache-Control"] == "public, max-age=86400"


def test_a_plus_that_arrived_as_a_space_is_still_base64(client: FlaskClient, world: World) -> None:
    index, text = next(
        (index, text)
        for index, each in enumerate(world.reader.hashes)
        if "+" in (text := base64.b64encode(each).decode())
    )
    for written in (text, text.replace("+", "-").replace("/", "_"), text.rstrip("=")):
        reply = client.get(f"{CT}/get-proof-by-hash?hash={written}&tree_size={SIZE}")
        assert reply.get_json()["leaf_index"] == index


def test_consistency_is_proven(client: FlaskClient, world: World) -> None:
    newest = world.reader.head().root_hash
    earlier = Frontier(0, ()).extend(world.reader.hashes[:129]).root()
    body = client.get(f"{CT}/get-sth-consistency?first=129&second={SIZE}").get_json()
    proof = [plain(node) for node in body["consistency"]]
    verify_consistency(129, SIZE, earlier, newest, proof)


@pytest.mark.parametrize("query", ["first=0&second=0", "first=0&second=300", "first=300&second=300"])
def test_nothing_to_prove_is_an_empty_list(client: FlaskClient, query: str) -> None:
    assert client.get(f"{CT}/get-sth-consistency?{query}").get_json() == {"consistency": []}


def test_an_entry_comes_with_its_proof(client: FlaskClient, world: World) -> None:
    body = client.get(f"{CT}/get-entry-and-proof?leaf_index=7&tree_size={SIZE}").get_json()
    leaf = plain(body["leaf_input"])
    path = [plain(node) for node in body["audit_path"]]
    verify_inclusion(leaf_hash(leaf), 7, SIZE, path, world.reader.head().root_hash)


def test_the_roots_are_named(client: FlaskClient, world: World) -> None:
    body = client.get(f"{CT}/get-roots").get_json()
    assert [plain(each) for each in body["certificates"]] == [world.authority.chain_der[-1]]


HASH = "hash=" + base64.urlsafe_b64encode(b"h" * 32).decode()


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("get-entries", 400),
        ("get-entries?start=0", 400),
        ("get-entries?end=0", 400),
        ("get-entries?start=2&end=1", 400),
        ("get-entries?start=300&end=300", 400),
        ("get-entries?start=9999999999999999999&end=9999999999999999999", 400),
        ("get-proof-by-hash?tree_size=1", 400),
        (f"get-proof-by-hash?{HASH}", 400),
        (f"get-proof-by-hash?{HASH}&tree_size=0", 400),
        ("get-proof-by-hash?hash=AAAA&tree_size=1", 400),
        ("get-proof-by-hash?hash=!&tree_size=1", 400),
        ("get-proof-by-hash?hash=%FF&tree_size=1", 400),
        (f"get-proof-by-hash?{HASH}&tree_size=1", 404),
        (f"get-proof-by-hash?{HASH}&tree_size=301", 404),
        ("get-sth-consistency?first=1", 400),
        ("get-sth-consistency?first=2&second=1", 400),
        ("get-sth-consistency?first=1&second=301", 400),
        ("get-entry-and-proof?leaf_index=0&tree_size=0", 400),
        ("get-entry-and-proof?leaf_index=5&tree_size=5", 400),
        ("get-entry-and-proof?leaf_index=0&tree_size=301", 400),
    ],
)
def test_what_the_log_does_not_have_is_refused(
    client: FlaskClient, world: World, query: str, status: int
) -> None:
    reply = client.get(f"{CT}/{query}")
    assert reply.status_code == status, reply.text
    assert reply.get_json()["code"] == {400: 3, 404: 5}[status]
    assert world.faults == []


def test_a_leaf_younger_than_the_tree_asked_for_is_not_in_it(client: FlaskClient, world: World) -> None:
    late = base64.b64encode(world.reader.hashes[200])
    reply = client.get(f"{CT}/get-proof-by-hash", query_string={"hash": late, "tree_size": 200})
    assert reply.status_code == 404


@pytest.mark.parametrize("number", NOT_NUMBERS)
@pytest.mark.parametrize("call", ["get-entries?end=1&start", "get-sth-consistency?second=1&first"])
def test_a_number_is_written_plainly(client: FlaskClient, call: str, number: str) -> None:
    path, _, rest = call.partition("?")
    other, _, name = rest.partition("&")
    other_name, _, value = other.partition("=")
    reply = client.get(f"{CT}/{path}", query_string={other_name: value, name: number})
    assert reply.status_code == 400
    assert f"{name} must be a decimal number" in reply.get_json()["message"]


@pytest.mark.parametrize("call", ["add-chain", "add-pre-chain"])
def test_nobody_submits_to_this_log(client: FlaskClient, call: str) -> None:
    reply = client.post(f"{CT}/{call}", json={"chain": ["AAAA"]})
    assert reply.status_code == 403
    assert reply.get_json()["details"][0]["reason"] == "submission-refused"


def test_an_empty_log_has_a_head_and_no_entries(client: FlaskClient, world: World) -> None:
    world.reader.leaves.clear()
    world.reader.hashes.clear()
    assert client.get(f"{CT}/get-sth").get_json()["tree_size"] == 0
    assert client.get(f"{CT}/get-entries?start=0&end=0").status_code == 400
    assert client.get("/ctlog/2026/checkpoint").text.split("\n")[1] == "0"


@pytest.mark.parametrize("shard", ["2025", "..", "%2e%2e", "a" * 1000, "%00"])
@pytest.mark.parametrize("call", ["ct/v1/get-sth", "checkpoint"])
def test_a_log_of_another_name_is_not_here(client: FlaskClient, shard: str, call: str) -> None:
    assert client.get(f"/ctlog/{shard}/{call}").status_code == 404


def test_a_log_that_cannot_be_read_is_a_passing_trouble(client: FlaskClient, world: World) -> None:
    world.reader.trouble = StoreUnavailable("the database does not answer", retry_after=3)
    reply = client.get(f"{CT}/get-sth")
    assert (reply.status_code, reply.headers["Retry-After"]) == (503, "3")


def test_monitors_in_browsers_may_read(client: FlaskClient) -> None:
    assert client.get("/ctlog/2026/checkpoint").headers["Access-Control-Allow-Origin"] == "*"
