"""Where evidence of inclusion comes from: a log's files over HTTP, or a bundle saved from them."""

import base64
import binascii
import json
from pathlib import Path
from typing import Any

import requests

from ca_service.cli import fetching
from ca_service.cli.inclusion_check import Evidence, Inclusion
from ca_service.cli.trusted_logs import TrustedLog
from ca_service.errors import LogUnreadable
from ca_service.merkle.checkpoint import parse_checkpoint
from ca_service.merkle.tiles import TILE_WIDTH, Tile, split_hashes, subtree_from_tiles
from ca_service.merkle.tree import HASH_SIZE, inclusion_proof
from ca_service.pki.tile_leaf import parse_data_tile
from ca_service.vocabulary import LeafIndex, format_serial

BUNDLE = "application/vnd.ca-service.inclusion+json;version=1"

_LARGEST_TREE = 1 << 40
"""Leaf indexes have 40 bits."""


def from_log(log: TrustedLog, index: LeafIndex) -> Evidence:
    """Read checkpoint, data tile and hash tiles below the log's URL, as any file server could answer them.

    Raises LogUnreadable when it does not answer, ValueError when what it answers makes no sense.
    """
    note = _get(log, "checkpoint").decode()
    size = parse_checkpoint(note, log.origin, log.log_id).size
    if not index < size <= _LARGEST_TREE:
        raise ValueError(
            f"the log's tree has {size} entries, and the certificate's place is {index}; a mirror may be a "
            "moment behind the log"
        )
    entries = parse_data_tile(_tile(log, None, index // TILE_WIDTH, size))
    leaf = dict(enumerate(entries)).get(index % TILE_WIDTH)
    if leaf is None:
        raise ValueError("the data tile ends before the certificate's entry")

    def hashes(level: int, tile: int) -> list[bytes]:
        return split_hashes(_tile(log, level, tile, size))

    return Evidence(note, leaf.leaf, tuple(inclusion_proof(subtree_from_tiles(hashes), index, size)))


def _tile(log: TrustedLog, level: int | None, index: int, size: int) -> bytes:
    """The tile's entries at this size; from the full tile where the log no longer keeps the partial one."""
    width = min(TILE_WIDTH, (size >> (8 * (level or 0))) - index * TILE_WIDTH)
    tile = Tile(level, index, width)
    try:
        content = _get(log, tile.path)
    except LogUnreadable as error:
        cause = error.__cause__
        if width == TILE_WIDTH or not isinstance(cause, fetching.Refused) or cause.status != 404:
            raise
        content = _get(log, Tile(level, index).path)
    if level is None:
        return content
    if len(content) not in (width * HASH_SIZE, TILE_WIDTH * HASH_SIZE):
        raise ValueError(f"{tile.path} has {len(content)} octets, which are not {width} hashes")
    return content[: width * HASH_SIZE]


def _get(log: TrustedLog, path: str) -> bytes:
    url = f"{log.url}/{path}"
    try:
        return fetching.fetch(url)
    except requests.exceptions.SSLError as error:
        raise LogUnreadable(
            f"the log did not answer at {url}: its TLS certificate is not trusted here; REQUESTS_CA_BUNDLE"
            " names the certificates of a private authority"
        ) from error
    except requests.RequestException as error:
        raise LogUnreadable(f"the log did not answer at {url}: {type(error).__name__}") from error
    except fetching.Refused as error:
        raise LogUnreadable(f"the log did not answer at {url}: {error}") from error


def write_bundle(inclusion: Inclusion) -> str:
    """Write what was proven as a bundle, with which it can be proven again offline."""
    evidence = inclusion.evidence
    return json.dumps(
        {
            "media_type": BUNDLE,
            "serial": format_serial(inclusion.serial),
            "log_id": inclusion.log.log_id.hex(),
            "leaf_index": inclusion.leaf_index,
            "leaf": _encoded(evidence.leaf),
            "inclusion_proof": [_encoded(node) for node in evidence.proof],
            "checkpoint": evidence.checkpoint,
        },
        indent=2,
    )


def read_bundle(file: Path) -> Evidence:
    """Read a bundle; raises ValueError, with a sentence, when the file is none, and OSError."""
    try:
        return _evidence(json.loads(file.read_text("utf-8")))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{file} is no bundle of this command; --save writes one") from error


def _evidence(document: Any) -> Evidence:
    if document["media_type"] != BUNDLE:
        raise ValueError("another media type")
    checkpoint = document["checkpoint"]
    if not isinstance(checkpoint, str):
        raise TypeError("the checkpoint is no text")
    proof = tuple(map(_decoded, document["inclusion_proof"]))
    return Evidence(checkpoint, _decoded(document["leaf"]), proof)


def _encoded(octets: bytes) -> str:
    return base64.b64encode(octets).decode("ascii")


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("no base64") from error
