"""The transparency log's calls (RFC 6962 §4); static_log has the same log as files.

Every number is checked against the newest signed tree head before the log is read, so nothing beyond the
signed size is ever answered.
"""

import re
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Never

from flask import Blueprint, Response, request

from ca_service.authority.entries import PRECERTIFICATES, EntryCodec
from ca_service.authority.log import LogIdentity
from ca_service.authority.log_ports import LogEntry, LogReader, TreeHead
from ca_service.authority.log_shards import LogShard
from ca_service.errors import LogFrozen, MalformedRequest, NotFound, SubmissionRefused
from ca_service.web.base64_text import decode_base64
from ca_service.web.conditions import tagged
from ca_service.web.replies import CACHED_FOR_MINUTES, allow_any_origin, json_reply

MAX_ENTRIES = 256
"""Entries in one get-entries answer; clients ask again for the rest (RFC 6962 §4.6)."""

_NEVER_CHANGES = "public, max-age=86400"
_CUT_BY_THE_TREE = "public, max-age=60"

_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_HASH_SIZE = 32


@dataclass(frozen=True, slots=True)
class ServedLog:
    """One log as it is served: who it is, where it is read, its place among the shards, its codec."""

    identity: LogIdentity
    reader: LogReader
    shard: LogShard | None = None
    codec: EntryCodec[Never] = PRECERTIFICATES


def blueprint(logs: Mapping[str, ServedLog], roots: Sequence[bytes]) -> Blueprint:
    """Serve the logs, by shard name; `roots` are the DER root certificates that entries chain to."""
    calls = Blueprint("log", __name__, url_prefix="/ctlog/<shard>")
    allow_any_origin(calls)

    def call(path: str, answer: Callable[[ServedLog], Response], method: str = "GET") -> None:
        def view(shard: str) -> Response:
            served = logs.get(shard)
            if served is None:
                raise NotFound("there is no log of this name here")
            return tagged(answer(served))

        calls.add_url_rule(path, answer.__name__, view, methods=[method])

    def get_roots(_: ServedLog) -> Response:
        return json_reply({"certificates": [_base64(der) for der in roots]}, cache=CACHED_FOR_MINUTES)

    call("/ct/v1/get-sth", get_sth)
    call("/ct/v1/get-entries", get_entries)
    call("/ct/v1/get-proof-by-hash", get_proof_by_hash)
    call("/ct/v1/get-sth-consistency", get_sth_consistency)
    call("/ct/v1/get-entry-and-proof", get_entry_and_proof)
    call("/ct/v1/get-roots", get_roots)
    call("/ct/v1/add-chain", add_chain, "POST")
    call("/ct/v1/add-pre-chain", add_pre_chain, "POST")
    return calls


def add_chain(log: ServedLog) -> Response:
    """Refuse: a certificate gets into this log by being issued (RFC 6962 §4.1)."""
    if log.shard is not None and log.shard.frozen:
        raise LogFrozen("this log is frozen: its final tree head is signed, and it takes no entries any more")
    raise SubmissionRefused("this log takes entries from its own authority only, none by submission")


def add_pre_chain(log: ServedLog) -> Response:
    """Refuse, as `add_chain` does (RFC 6962 §4.2)."""
    return add_chain(log)


def get_sth(log: ServedLog) -> Response:
    """Answer with the newest signed tree head (RFC 6962 §4.3)."""
    head = log.reader.head()
    return json_reply(
        {
            "tree_size": head.tree_size,
            "timestamp": head.timestamp,
            "sha256_root_hash": _base64(head.root_hash),
            "tree_head_signature": _base64(head.signature),
        }
    )


def get_entries(log: ServedLog) -> Response:
    """Answer with entries start..end, at most MAX_ENTRIES (RFC 6962 §4.6).

    An end beyond the tree is clamped, not refused: monitors ask so.
    """
    start, end = _number("start"), _number("end")
    if start > end:
        raise MalformedRequest(f"start must not be after end, but {start} is after {end}")
    head = log.reader.head()
    if start >= head.tree_size:
        raise MalformedRequest(f"start must be below the tree size {head.tree_size}, but it is {start}")
    wanted = min(end + 1, start + MAX_ENTRIES)
    entries = log.reader.entries(start, min(wanted, head.tree_size))
    # An answer that the end of the tree cut short would be longer in a minute: it must not be kept.
    cut = start + len(entries) < wanted
    return json_reply(
        {"entries": [_entry(log, entry) for entry in entries]},
        cache=_CUT_BY_THE_TREE if cut else _NEVER_CHANGES,
    )


def get_proof_by_hash(log: ServedLog) -> Response:
    """Answer with the inclusion proof of the leaf with a Merkle leaf hash (RFC 6962 §4.5)."""
    leaf_hash = _hash("hash")
    tree_size = _number("tree_size", at_least=1)
    head = log.reader.head()
    if tree_size > head.tree_size:
        raise NotFound(f"there is no tree of size {tree_size} yet, the newest has {head.tree_size}")
    index = log.reader.index_of(leaf_hash)
    if index is None or index >= tree_size:
        raise NotFound(f"the tree of size {tree_size} has no leaf with this hash")
    path = log.reader.inclusion_proof(index, tree_size)
    return json_reply(
        {"leaf_index": index, "audit_path": [_base64(node) for node in path]}, cache=_NEVER_CHANGES
    )


def get_sth_consistency(log: ServedLog) -> Response:
    """Answer with the consistency proof between two sizes of the tree (RFC 6962 §4.4)."""
    first, second = _number("first"), _number("second")
    head = log.reader.head()
    if first > second:
        raise MalformedRequest(f"first must not be above second, but {first} is above {second}")
    _require_size(second, "second", head)
    # The empty tree is consistent with every other, and a tree with itself: nothing to prove.
    proof = log.reader.consistency_proof(first, second) if 0 < first < second else []
    return json_reply({"consistency": [_base64(node) for node in proof]}, cache=_NEVER_CHANGES)


def get_entry_and_proof(log: ServedLog) -> Response:
    """Answer with one entry and its inclusion proof (RFC 6962 §4.8)."""
    index, tree_size = _number("leaf_index"), _number("tree_size", at_least=1)
    _require_size(tree_size, "tree_size", log.reader.head())
    if index >= tree_size:
        raise MalformedRequest(f"leaf_index must be below tree_size {tree_size}, but it is {index}")
    entry = log.reader.entries(index, index + 1)[0]
    path = log.reader.inclusion_proof(index, tree_size)
    return json_reply(
        {**_entry(log, entry), "audit_path": [_base64(node) for node in path]}, cache=_NEVER_CHANGES
    )


def _entry(log: ServedLog, entry: LogEntry) -> dict[str, object]:
    return {
        "leaf_input": _base64(entry.leaf),
        "extra_data": _base64(log.codec.extra_data(entry)),
    }


def _require_size(size: int, name: str, head: TreeHead) -> None:
    if size > head.tree_size:
        raise MalformedRequest(f"{name} must be at most the tree size {head.tree_size}, but it is {size}")


def _number(name: str, *, at_least: int = 0) -> int:
    """Read a query parameter as a number; `int` alone would also take 1_0, " 1" and Arabic digits."""
    text = request.args.get(name)
    if text is None:
        raise MalformedRequest(f"the query parameter {name} is missing")
    if not _NUMBER.fullmatch(text):
        raise MalformedRequest(f"{name} must be a decimal number without sign, spaces or leading zeros")
    number = int(text)
    if number < at_least:
        raise MalformedRequest(f"{name} must be at least {at_least}, but it is {number}")
    return number


def _hash(name: str) -> bytes:
    text = request.args.get(name)
    if text is None:
        raise MalformedRequest(f"the query parameter {name} is missing")
    try:
        # A plus that was not written as %2B arrives as a space; base64 has no space, so nothing is guessed.
        octets = decode_base64(text.replace(" ", "+"))
    except ValueError:
        octets = b""
    if len(octets) != _HASH_SIZE:
        raise MalformedRequest(f"{name} must be base64 of a SHA-256 hash of {_HASH_SIZE} octets")
    return octets


def _base64(octets: bytes) -> str:
    return b64encode(octets).decode("ascii")
