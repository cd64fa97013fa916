"""RFC 6962 §2.1 written a second time, plainly: what the service's tree is checked against."""

import hashlib
from collections.abc import Sequence

EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(leaf: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def _split(size: int) -> int:
    """The largest power of two smaller than size."""
    return 1 << ((size - 1).bit_length() - 1)


def root_of(leaf_hashes: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962 §2.1, level by level, so that large trees stay quick."""
    if not leaf_hashes:
        return EMPTY_ROOT
    level = list(leaf_hashes)
    while len(level) > 1:
        paired = [node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
        level = paired + level[len(level) - len(level) % 2 :]
    return level[0]


def inclusion_path(index: int, leaf_hashes: Sequence[bytes]) -> list[bytes]:
    """PATH(m, D[n]) of RFC 6962 §2.1.1."""
    size = len(leaf_hashes)
    if size <= 1:
        return []
    k = _split(size)
    if index < k:
        return [*inclusion_path(index, leaf_hashes[:k]), root_of(leaf_hashes[k:])]
    return [*inclusion_path(index - k, leaf_hashes[k:]), root_of(leaf_hashes[:k])]


def _consistency(first: int, leaf_hashes: Sequence[bytes], whole: bool) -> list[bytes]:
    size = len(leaf_hashes)
    if first == size:
        return [] if whole else [root_of(leaf_hashes)]
    k = _split(size)
    if first <= k:
        return [*_consistency(first, leaf_hashes[:k], whole), root_of(leaf_hashes[k:])]
    return [*_consistency(first - k, leaf_hashes[k:], False), root_of(leaf_hashes[:k])]


def consistency_path(first: int, leaf_hashes: Sequence[bytes]) -> list[bytes]:
    """PROOF(m, D[n]) of RFC 6962 §2.1.2, for 0 < first."""
    return _consistency(first, leaf_hashes, True)


def root_from_inclusion(index: int, size: int, leaf: bytes, path: Sequence[bytes]) -> bytes:
    """The root that an audit path leads to (RFC 9162 §2.1.3.2); AssertionError when its length is wrong."""
    node, last, current = index, size - 1, leaf
    for sibling in path:
        assert last > 0, "the audit path is too long"
        if node % 2 or node == last:
            current = node_hash(sibling, current)
            while not node % 2 and node:
                node, last = node >> 1, last >> 1
        else:
            current = node_hash(current, sibling)
        node, last = node >> 1, last >> 1
    assert last == 0, "the audit path is too short"
    return current
