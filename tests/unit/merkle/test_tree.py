"""The tree of RFC 6962, judged by the eight-leaf vectors of the certificate-transparency project."""

import pytest

from ca_service.merkle.tree import (
    EMPTY_ROOT,
    Frontier,
    complete_root,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    range_root,
    verify_consistency,
    verify_inclusion,
)

LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
A = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
B = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
C = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
D = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
E = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
F = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"
INCLUSION = {
    (0, 1): [],
    (0, 8): [A, B, C],
    (5, 8): [D, E, ROOTS[3]],
    (2, 3): [ROOTS[1]],
    (1, 5): [ROOTS[0], B, D],
}
CONSISTENCY = {(1, 1): [], (1, 8): [A, B, C], (6, 8): [F, E, ROOTS[3]], (2, 5): [B, D]}
HASHES = [leaf_hash(leaf) for leaf in LEAVES]


def subtree(level: int, index: int) -> bytes:
    return complete_root(HASHES[index << level : (index + 1) << level])


def test_the_empty_tree_has_the_hash_of_nothing() -> None:
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert Frontier().root() == EMPTY_ROOT == range_root(subtree, 0, 0)


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_are_those_published(size: int) -> None:
    assert Frontier().extend(HASHES[:size]).root().hex() == ROOTS[size - 1]
    assert range_root(subtree, 0, size).hex() == ROOTS[size - 1]


@pytest.mark.parametrize(("index", "size"), INCLUSION)
def test_inclusion_proofs_are_those_published_and_verify(index: int, size: int) -> None:
    proof = inclusion_proof(subtree, index, size)
    assert [step.hex() for step in proof] == INCLUSION[index, size]
    verify_inclusion(HASHES[index], index, size, proof, bytes.fromhex(ROOTS[size - 1]))


@pytest.mark.parametrize(("first", "second"), CONSISTENCY)
def test_consistency_proofs_are_those_published_and_verify(first: int, second: int) -> None:
    proof = consistency_proof(subtree, first, second)
    assert [step.hex() for step in proof] == CONSISTENCY[first, second]
    verify_consistency(
        first, second, bytes.fromhex(ROOTS[first - 1]), bytes.fromhex(ROOTS[second - 1]), proof
    )


def test_what_no_tree_has_is_refused() -> None:
    for index, size in ((8, 8), (-1, 8), (0, 0)):
        with pytest.raises(ValueError, match="no leaf"):
            inclusion_proof(subtree, index, size)
        with pytest.raises(ValueError, match="no leaf"):
            verify_inclusion(HASHES[0], index, size, [], EMPTY_ROOT)
    for first, second in ((0, 8), (8, 7)):
        with pytest.raises(ValueError, match="no consistency proof"):
            consistency_proof(subtree, first, second)
        with pytest.raises(ValueError, match="no consistency proof"):
            verify_consistency(first, second, EMPTY_ROOT, EMPTY_ROOT, [])
    with pytest.raises(ValueError, match="differ"):
        verify_consistency(8, 8, bytes.fromhex(ROOTS[7]), bytes.fromhex(ROOTS[6]), [])
    with pytest.raises(ValueError, match="power of two"):
        complete_root(HASHES[:3])


def test_a_stored_frontier_of_another_size_is_refused() -> None:
    frontier = Frontier().extend(HASHES[:7])
    assert Frontier.decode(7, frontier.encode()) == frontier
    with pytest.raises(ValueError, match="octets"):
        Frontier.decode(8, frontier.encode())
    with pytest.raises(ValueError, match="complete subtrees"):
        Frontier(3, frontier.hashes)
