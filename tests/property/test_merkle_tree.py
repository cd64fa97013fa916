"""The tree against a naive model: RFC 6962 §2.1 written down as recursion over a list of leaves."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ca_service.merkle.tiles import TILE_WIDTH, completed_tiles, split_hashes, subtree_from_tiles
from ca_service.merkle.tree import (
    EMPTY_ROOT,
    Frontier,
    complete_root,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    range_root,
    verify_consistency,
    verify_inclusion,
)

HASHES = [leaf_hash(number.to_bytes(4, "big")) for number in range(1500)]
sizes = st.integers(1, len(HASHES))


def split(count: int) -> int:
    k = 1
    while 2 * k < count:
        k *= 2
    return k


def model_root(hashes: Sequence[bytes]) -> bytes:
    if len(hashes) < 2:
        return hashes[0] if hashes else EMPTY_ROOT
    k = split(len(hashes))
    return node_hash(model_root(hashes[:k]), model_root(hashes[k:]))


def model_path(m: int, hashes: Sequence[bytes]) -> list[bytes]:
    if len(hashes) == 1:
        return []
    k = split(len(hashes))
    if m < k:
        return [*model_path(m, hashes[:k]), model_root(hashes[k:])]
    return [*model_path(m - k, hashes[k:]), model_root(hashes[:k])]


def model_consistency(m: int, hashes: Sequence[bytes], known: bool = True) -> list[bytes]:
    if m == len(hashes):
        return [] if known else [model_root(hashes)]
    k = split(len(hashes))
    if m <= k:
        return [*model_consistency(m, hashes[:k], known), model_root(hashes[k:])]
    return [*model_consistency(m - k, hashes[k:], False), model_root(hashes[:k])]


def read_tile(level: int, index: int) -> Sequence[bytes]:
    """What a store holds: full tiles, and the right edge so far, of all the leaves there are."""
    width = TILE_WIDTH**level
    first = index * TILE_WIDTH
    last = min(first + TILE_WIDTH, len(HASHES) // width)
    return [complete_root(HASHES[i * width : (i + 1) * width]) for i in range(first, last)]


@given(st.lists(st.integers(0, 400), max_size=4))
def test_the_frontier_knows_the_root_however_it_grew(steps: list[int]) -> None:
    frontier = Frontier()
    for step in steps:
        frontier = frontier.extend(HASHES[frontier.size : min(frontier.size + step, len(HASHES))])
        assert Frontier.decode(frontier.size, frontier.encode()) == frontier
    assert frontier.root() == model_root(HASHES[: frontier.size])


@given(sizes, st.data())
def test_proofs_from_tiles_are_those_of_the_model_and_verify(size: int, data: st.DataObject) -> None:
    other = data.draw(st.integers(1, size))
    subtree = subtree_from_tiles(read_tile)
    tree, root = HASHES[:size], model_root(HASHES[:size])
    assert range_root(subtree, 0, size) == root
    path = inclusion_proof(subtree, other - 1, size)
    assert path == model_path(other - 1, tree)
    verify_inclusion(HASHES[other - 1], other - 1, size, path, root)
    proof = consistency_proof(subtree, other, size)
    assert proof == model_consistency(other, tree)
    verify_consistency(other, size, model_root(HASHES[:other]), root, proof)


def spoilt(proof: list[bytes], data: st.DataObject) -> list[bytes]:
    """A proof that is changed: a step altered, dropped or added."""
    at = data.draw(st.integers(0, len(proof)))
    kind = data.draw(st.sampled_from(["add", "drop", "alter"])) if at < len(proof) else "add"
    if kind == "add":
        return [*proof[:at], HASHES[0], *proof[at:]]
    return [*proof[:at], *([leaf_hash(proof[at])] if kind == "alter" else []), *proof[at + 1 :]]


@given(sizes, st.data())
def test_no_changed_proof_verifies(size: int, data: st.DataObject) -> None:
    other = data.draw(st.integers(1, size))
    subtree = subtree_from_tiles(read_tile)
    root, index = model_root(HASHES[:size]), other - 1
    path = inclusion_proof(subtree, index, size)
    with pytest.raises(ValueError):
        verify_inclusion(HASHES[index], index, size, spoilt(path, data), root)
    with pytest.raises(ValueError):
        verify_inclusion(leaf_hash(b"another"), index, size, path, root)
    proof = consistency_proof(subtree, other, size)
    with pytest.raises(ValueError):
        verify_consistency(other, size, model_root(HASHES[:other]), root, spoilt(proof, data))
    with pytest.raises(ValueError):
        verify_consistency(other, size, leaf_hash(b"another"), root, proof)


@given(st.integers(0, 2**40), st.integers(0, 70000))
def test_each_tile_fills_once_however_the_tree_grows(size: int, growth: int) -> None:
    middle, end = size + growth // 3, size + growth
    at_once = completed_tiles(size, end)
    assert sorted(at_once, key=lambda tile: tile.path) == sorted(
        completed_tiles(size, middle) + completed_tiles(middle, end), key=lambda tile: tile.path
    )
    assert all(tile.exists_at(end) and not tile.exists_at(size) for tile in at_once)


@given(st.integers(0, 300))
def test_a_tile_is_its_hashes_one_after_the_other(count: int) -> None:
    assert split_hashes(b"".join(HASHES[:count])) == HASHES[:count]
