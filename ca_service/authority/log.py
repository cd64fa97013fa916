"""Sequencing, the pure part: a log's head and waiting entries in, leaves and the next head out.

The store calls this inside the transaction that holds the log's lock; here is no lock and no clock.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ca_service.authority.entries import PRECERTIFICATE_KIND
from ca_service.authority.log_ports import TreeHead
from ca_service.errors import ClockBehind
from ca_service.merkle.checkpoint import tree_head_input
from ca_service.merkle.tree import EMPTY_ROOT, Frontier, leaf_hash
from ca_service.vocabulary import LeafIndex, LogId, TimestampMs

CLOCK_TOLERANCE_MS = 2_000
"""How far the clock may be behind the newest entry; within it, entries carry the newest entry's time."""

_Entry = TypeVar("_Entry")

SignTreeHead = Callable[[bytes], bytes]
"""Tree head input to DigitallySigned struct (RFC 6962 §3.5); local and quick: it runs under the lock."""


@dataclass(frozen=True, slots=True)
class LogIdentity:
    """Which log: its shard name, origin (host and path), id, its key's DER SubjectPublicKeyInfo.

    `kind` is that of its entries.
    """

    shard: str
    origin: str
    log_id: LogId
    public_key_der: bytes
    kind: str = PRECERTIFICATE_KIND


@dataclass(frozen=True, slots=True)
class LogHead:
    """Where a log stands: its right edge, and the time (ms) of its newest signed head."""

    frontier: Frontier
    timestamp: TimestampMs


@dataclass(frozen=True, slots=True)
class NewLeaf:
    """An entry with its place: MerkleTreeLeaf bytes and the hash of them."""

    leaf_index: LeafIndex
    leaf: bytes
    leaf_hash: bytes


@dataclass(frozen=True, slots=True)
class NextHead:
    """What a batch does to a log: its leaves, in the order of the entries, and where the log then stands."""

    leaves: tuple[NewLeaf, ...]
    head: LogHead
    root_hash: bytes


def next_timestamp(head: LogHead, now: TimestampMs) -> TimestampMs:
    """The time of the next head: never before the newest one.

    Raises ClockBehind when `now` is more than two seconds behind it: somebody's clock is wrong, and no
    later correction could take back what was signed.
    """
    behind = head.timestamp - now
    if behind > CLOCK_TOLERANCE_MS:
        raise ClockBehind(
            f"this machine's clock is {behind} ms behind the newest entry of the log; at most "
            f"{CLOCK_TOLERANCE_MS} ms are accepted, so nothing is signed until the clock is right",
            retry_after=5,
            behind_ms=str(behind),
        )
    return max(now, head.timestamp)


def sequence(
    head: LogHead,
    pending: Sequence[_Entry],
    now: TimestampMs,
    encode_leaf: Callable[[int, int, _Entry], bytes],
) -> NextHead:
    """Give each pending entry its index and time, in order, and compute the head after them.

    `encode_leaf` writes the leaf of a time (ms), an index and an entry: EntryCodec.leaf. Raises ClockBehind
    as `next_timestamp` does.
    """
    timestamp = next_timestamp(head, now)
    size = head.frontier.size
    leaves = []
    for index, entry in enumerate(pending, size):
        leaf = encode_leaf(timestamp, index, entry)
        leaves.append(NewLeaf(LeafIndex(index), leaf, leaf_hash(leaf)))
    frontier = head.frontier.extend(leaf.leaf_hash for leaf in leaves)
    return NextHead(tuple(leaves), LogHead(frontier, timestamp), frontier.root())


def sign_head(log: LogIdentity, next_head: NextHead, sign: SignTreeHead) -> TreeHead:
    """Sign where the log stands after a batch."""
    size, timestamp = next_head.head.frontier.size, next_head.head.timestamp
    signature = sign(tree_head_input(timestamp, size, next_head.root_hash))
    return TreeHead(log.log_id, size, timestamp, next_head.root_hash, signature)


def first_tree_head(log: LogIdentity, now: TimestampMs, sign: SignTreeHead) -> TreeHead:
    """The signed head of the log while it has no entry."""
    return TreeHead(log.log_id, 0, now, EMPTY_ROOT, sign(tree_head_input(now, 0, EMPTY_ROOT)))
