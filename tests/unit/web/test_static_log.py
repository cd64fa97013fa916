"""The log as files: each has one path, nothing is beyond the signed size, and who has a copy gets a 304."""

import base64
import gzip
import hashlib
import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from ca_service.pki.tile_leaf import encode_tile_leaf
from tests.support import merkle
from tests.unit.web.conftest import World

LOG = "/ctlog/2026"
SIZE = 300
PRINTS = [hashlib.sha256(b"issuing").digest(), hashlib.sha256(b"root").digest()]
FOR_GOOD = "public, max-age=604800, immutable"

READS = [
    "ct/v1/get-sth",
    "ct/v1/get-entries?start=0&end=9",
    "ct/v1/get-sth-consistency?first=3&second=300",
    "ct/v1/get-entry-and-proof?leaf_index=7&tree_size=300",
    "ct/v1/get-roots",
    "checkpoint",
    "tile/0/000",
    "tile/0/001.p/44",
    "tile/1/000.p/1",
    "tile/data/000",
    "tile/data/001.p/44",
    f"issuer/{PRINTS[0].hex()}",
    "log.v3.json",
]

# Each would be the path of an existing tile if it were read leniently.
NOT_CANONICAL = [
    "0/000.p/0",
    "0/000.p/256",
    "0/000.p/01",
    "0/000.p/+1",
    "0/000.p/ 1",
    "0/000.p/1_0",
    "0/000.p/\u0661",
    "0/000.p/1/",
    "0/000.p/",
    "0/000.p",
    "0/000.P/1",
    "0/000/",
    "0//000",
    "0/x000/000",
    "0/X000/000",
    "0/0",
    "0/00",
    "0/0000",
    "0/\u0660\u0660\u0660",
    "0/-00",
    "0/000\n",
    "00/000",
    "+0/000",
    "-1/000",
    "6/000.p/1",
    "data/x000/000",
    "data/000.p/0",
    "data/000.p/256",
    "data/000/",
    "DATA/000",
    "0/000?",
    "0/../0/000",
]


def get(client: FlaskClient, path: str, **headers: str) -> Any:
    return client.get(f"{LOG}/{path}", headers={name.replace("_", "-"): v for name, v in headers.items()})


def test_hash_tiles_of_every_level_and_width(client: FlaskClient, world: World) -> None:
    hashes = world.reader.hashes
    for width in (1, 2, 100, 255):
        assert get(client, f"tile/0/000.p/{width}").data == b"".join(hashes[:width])
    reply = get(client, "tile/0/000")
    assert reply.data == b"".join(hashes[:256])
    assert reply.content_type == "application/octet-stream"
    assert reply.headers["Cache-Control"] == FOR_GOOD
    assert reply.headers["Access-Control-Allow-Origin"] == "*"
    assert get(client, "tile/0/001.p/44").data == b"".join(hashes[256:300])
    assert get(client, "tile/1/000.p/1").data == merkle.root_of(hashes[:256])


def test_data_tiles_hold_each_entry_with_its_chain(client: FlaskClient, world: World) -> None:
    entries = [encode_tile_leaf(leaf, b"precertificate", PRINTS) for leaf in world.reader.leaves]
    assert get(client, "tile/data/000").data == b"".join(entries[:256])
    assert get(client, "tile/data/001.p/44").data == b"".join(entries[256:])
    assert get(client, "tile/data/001.p/1").data == entries[256]
    assert get(client, "tile/data/000").headers["Cache-Control"] == FOR_GOOD


def test_data_tiles_are_compressed_for_those_who_take_it(client: FlaskClient) -> None:
    plain = get(client, "tile/data/000")
    assert "Content-Encoding" not in plain.headers
    for accepted in ("gzip", "deflate, gzip;q=0.5", "*"):
        packed = get(client, "tile/data/000", Accept_Encoding=accepted)
        assert packed.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(packed.data) == plain.data
        assert packed.headers["ETag"] != plain.headers["ETag"]
        assert packed.headers["Vary"] == plain.headers["Vary"] == "Accept-Encoding"
    for refused in ("identity", "gzip;q=0", "br"):
        assert get(client, "tile/data/000", Accept_Encoding=refused).data == plain.data
    assert "Content-Encoding" not in get(client, "tile/0/000", Accept_Encoding="gzip").headers


@pytest.mark.parametrize(
    "tile",
    [
        "0/001",
        "0/001.p/45",
        "0/002.p/1",
        "1/000",
        "1/000.p/2",
        "2/000.p/1",
        "5/000",
        "data/001",
        "data/001.p/45",
        "data/x001/000.p/1",
        "0/x999/x999/x999/x999/999",
        "0/" + "x999/" * 1000 + "999",
    ],
)
def test_nothing_beyond_the_signed_size_is_served(client: FlaskClient, world: World, tile: str) -> None:
    reply = get(client, f"tile/{tile}")
    assert reply.status_code == 404
    assert reply.headers["Cache-Control"] == "no-store", "tomorrow it may exist"
    assert world.faults == []


def test_an_empty_log_has_no_tile(client: FlaskClient, world: World) -> None:
    world.reader.leaves.clear()
    world.reader.hashes.clear()
    for tile in ("0/000", "0/000.p/1", "data/000.p/1"):
        assert get(client, f"tile/{tile}").status_code == 404


@pytest.mark.parametrize("path", NOT_CANONICAL)
def test_a_tile_has_one_path(client: FlaskClient, world: World, path: str) -> None:
    quoted = path.replace("?", "%3F").replace("\n", "%0A").replace(" ", "%20").replace("+", "%2B")
    assert get(client, f"tile/{quoted}").status_code == 404
    assert world.faults == []


def test_issuers_are_found_by_lower_case_hex_alone(client: FlaskClient) -> None:
    name = PRINTS[0].hex()
    reply = get(client, f"issuer/{name}")
    assert (reply.data, reply.content_type) == (b"issuing", "application/pkix-cert")
    assert reply.headers["Cache-Control"] == FOR_GOOD
    for other in (name.upper(), name[:-1], name + "0", "0" * 64, "g" * 64, f"0x{name[2:]}", f"{name}/"):
        assert get(client, f"issuer/{other}").status_code == 404


def test_the_log_describes_itself_as_lists_of_logs_do(client: FlaskClient) -> None:
    reply = get(client, "log.v3.json")
    assert reply.content_type == "application/json"
    document = json.loads(reply.data)
    assert base64.b64decode(document["log_id"]) == b"L" * 32
    assert base64.b64decode(document["key"]) == b"log key"
    assert document["submission_url"] == document["monitoring_url"] == "https://ca.example/ctlog/2026/"
    assert document["temporal_interval"] == {
        "start_inclusive": "2026-01-01T00:00:00Z",
        "end_exclusive": "2040-01-01T00:00:00Z",
    }
    assert document["mmd"] == 86400
    assert list(document["state"]) == ["usable"]


@pytest.mark.parametrize("path", READS)
def test_every_read_can_be_asked_whether_it_changed(client: FlaskClient, path: str) -> None:
    first = get(client, path)
    assert first.status_code == 200
    tag = first.headers["ETag"]
    assert not tag.startswith("W/")
    same = get(client, path, If_None_Match=f'"other", {tag}')
    assert (same.status_code, same.data, same.headers["ETag"]) == (304, b"", tag)
    assert same.headers["Cache-Control"] == first.headers["Cache-Control"]
    assert same.headers["Access-Control-Allow-Origin"] == "*"
    assert "ETag" in same.headers["Access-Control-Expose-Headers"]
    assert get(client, path, If_None_Match='"other"').data == first.data
    assert get(client, path, If_Match='"other"').status_code == 412
    assert get(client, path, If_Match=tag).status_code == 200
    head = client.head(f"{LOG}/{path}")
    assert (head.data, head.headers["ETag"]) == (b"", tag)
    assert head.headers["Content-Length"] == str(len(first.data))


@pytest.mark.parametrize("path", READS)
def test_reads_are_for_pages_of_any_origin(client: FlaskClient, path: str) -> None:
    asked = client.options(f"{LOG}/{path}", headers={"Origin": "https://monitor.example"})
    assert asked.headers["Access-Control-Allow-Origin"] == "*"
    assert "If-None-Match" in asked.headers["Access-Control-Allow-Headers"]
    assert client.post(f"{LOG}/{path}").status_code == 405


def test_a_new_head_has_a_new_tag(client: FlaskClient, world: World) -> None:
    tag = get(client, "checkpoint").headers["ETag"]
    world.reader.leaves.append(b"another")
    world.reader.hashes.append(merkle.leaf_hash(b"another"))
    assert get(client, "checkpoint", If_None_Match=tag).status_code == 200


@pytest.mark.parametrize("path", ["tile/0/000", "tile/data/000", f"issuer/{'0' * 64}", "log.v3.json"])
def test_files_of_an_unknown_log_are_not_here(client: FlaskClient, path: str) -> None:
    assert client.get(f"/ctlog/2025/{path}").status_code == 404
