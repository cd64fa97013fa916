"""The tree of RFC 6962 §2.1: hashing, growing by its right edge, and both proofs with their verification.

A *complete subtree* (level, index) covers the leaves [index * 2**level, (index + 1) * 2**level). Complete
subtrees never change, so every proof is a list of hashes that can be computed from them alone.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

HASH_SIZE = 32
EMPTY_ROOT = sha256(b"").digest()
"""The root of the tree without leaves (RFC 6962 §2.1)."""

Subtree = Callable[[int, int], bytes]
"""Gives the root of the complete subtree (level, index); raises what its store raises."""


def leaf_hash(leaf: bytes) -> bytes:
    """Hash a leaf's bytes into the tree, 32 octets (RFC 6962 §2.1: prefix 0x00)."""
    return sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two children into their parent, 32 octets (RFC 6962 §2.1: prefix 0x01)."""
    return sha256(b"\x01" + left + right).digest()


def complete_root(hashes: Sequence[bytes]) -> bytes:
    """Hash 2**n hashes of one level, left to right, into the root over them.

    Raises ValueError when their number is not a power of two.
    """
    count = len(hashes)
    if count == 0 or count & (count - 1):
        raise ValueError(f"a complete subtree has a power of two of children, not {count}")
    row = list(hashes)
    while len(row) > 1:
        row = [node_hash(row[i], row[i + 1]) for i in range(0, len(row), 2)]
    return row[0]


@dataclass(frozen=True, slots=True)
class Frontier:
    """The right edge of a tree: all that is needed to append to it and to know its root.

    `hashes` are the roots of the complete subtrees that `size` leaves fall into, largest first: one for
    each bit set in `size`.
    """

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        """Raise ValueError when the hashes are not those of a tree of this size."""
        if self.size < 0 or self.size.bit_count() != len(self.hashes):
            raise ValueError(f"a tree of {self.size} leaves has not {len(self.hashes)} complete subtrees")

    def append(self, new_leaf_hash: bytes) -> "Frontier":
        """Return the frontier after one more leaf, given its leaf hash."""
        return self.extend((new_leaf_hash,))

    def extend(self, new_leaf_hashes: Iterable[bytes]) -> "Frontier":
        """Return the frontier after more leaves, given their leaf hashes in order."""
        size, stack = self.size, list(self.hashes)
        for current in new_leaf_hashes:
            node, bits = current, size
            while bits & 1:
                node = node_hash(stack.pop(), node)
                bits >>= 1
            stack.append(node)
            size += 1
        return Frontier(size, tuple(stack))

    def root(self) -> bytes:
        """The Merkle tree hash over all leaves, 32 octets (RFC 6962 §2.1)."""
        return _join_right(self.hashes) if self.hashes else EMPTY_ROOT

    def encode(self) -> bytes:
        """Write the hashes one after the other; the size is stored beside them."""
        return b"".join(self.hashes)

    @classmethod
    def decode(cls, size: int, encoded: bytes) -> "Frontier":
        """Read what `encode` wrote for a tree of this size; raises ValueError when it does not fit."""
        if len(encoded) != HASH_SIZE * size.bit_count():
            raise ValueError(f"the frontier of {size} leaves has not {len(encoded)} octets")
        return cls(size, tuple(encoded[i : i + HASH_SIZE] for i in range(0, len(encoded), HASH_SIZE)))


def _join_right(hashes: Sequence[bytes]) -> bytes:
    node = hashes[-1]
    for left in reversed(hashes[:-1]):
        node = node_hash(left, node)
    return node


def _split(size: int) -> int:
    """The largest power of two smaller than `size` (RFC 6962 §2.1: k)."""
    return 1 << ((size - 1).bit_length() - 1)


def range_root(subtree: Subtree, start: int, end: int) -> bytes:
    """The tree hash over the leaves [start, end), where start is a multiple of a power of two >= end - start.

    Such are all the ranges that proofs name; with start 0 it is the root of the tree of `end` leaves.
    """
    if start == end == 0:
        return EMPTY_ROOT
    parts = []
    while start < end:
        level = (end - start).bit_length() - 1
        parts.append(subtree(level, start >> level))
        start += 1 << level
    return _join_right(parts)


def inclusion_proof(subtree: Subtree, index: int, size: int) -> list[bytes]:
    """The audit path of leaf `index` in the tree of `size` leaves, lowest node first (RFC 6962 §2.1.1).

    Raises ValueError unless 0 <= index < size.
    """
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(range_root(subtree, middle, end))
            end = middle
        else:
            path.append(range_root(subtree, start, middle))
            start = middle
    path.reverse()
    return path


def consistency_proof(subtree: Subtree, first: int, second: int) -> list[bytes]:
    """The proof that the tree of `second` leaves extends that of `first` (RFC 6962 §2.1.2).

    Raises ValueError unless 0 < first <= second.
    """
    if not 0 < first <= second:
        raise ValueError(f"no consistency proof leads from {first} to {second} leaves")
    proof: list[bytes] = []
    start, end = 0, second
    while first < end:
        middle = start + _split(end - start)
        if first <= middle:
            proof.append(range_root(subtree, middle, end))
            end = middle
        else:
            proof.append(range_root(subtree, start, middle))
            start = middle
    if start > 0:
        # The first tree is not itself a node of the second: its last piece begins the proof.
        proof.append(range_root(subtree, start, end))
    proof.reverse()
    return proof


def verify_inclusion(hashed_leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check an audit path from a leaf hash to a root (RFC 9162 §2.1.3.2); raises ValueError."""
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    position, last, node = index, size - 1, hashed_leaf
    for step in proof:
        if last == 0:
            raise ValueError("the inclusion proof is longer than the tree is high")
        if position & 1 or position == last:
            node = node_hash(step, node)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            node = node_hash(node, step)
        position >>= 1
        last >>= 1
    if last != 0:
        raise ValueError("the inclusion proof is shorter than the tree is high")
    if node != root:
        raise ValueError(f"the inclusion proof of leaf {index} does not lead to the root of {size} leaves")


def verify_consistency(
    first: int, second: int, first_root: bytes, second_root: bytes, proof: Sequence[bytes]
) -> None:
    """Check that the second tree extends the first (RFC 9162 §2.1.4.2); raises ValueError."""
    if not 0 < first <= second:
        raise ValueError(f"no consistency proof leads from {first} to {second} leaves")
    if first == second:
        if proof or first_root != second_root:
            raise ValueError(f"two trees of {first} leaves differ")
        return
    steps = list(proof)
    if not first & (first - 1):
        steps.insert(0, first_root)
    if not steps:
        raise ValueError("the consistency proof is empty")
    position, last = first - 1, second - 1
    while position & 1:
        position >>= 1
        last >>= 1
    old = new = steps[0]
    for step in steps[1:]:
        if last == 0:
            raise ValueError("the consistency proof is longer than the tree is high")
        if position & 1 or position == last:
            old, new = node_hash(step, old), node_hash(step, new)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            new = node_hash(new, step)
        position >>= 1
        last >>= 1
    if last != 0:
        raise ValueError("the consistency proof is shorter than the tree is high")
    if old != first_root or new != second_root:
        raise ValueError(f"the tree of {second} leaves does not extend that of {first}")
