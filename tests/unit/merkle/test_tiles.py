"""Tile paths have one written form, and tiles fill at the right sizes."""

import pytest

from ca_service.merkle.tiles import (
    MAX_LEVEL,
    TILE_WIDTH,
    Tile,
    completed_tiles,
    parse_path,
    partial_tiles,
)


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 0), "tile/0/000"),
        (Tile(0, 67, 1), "tile/0/067.p/1"),
        (Tile(1, 1067, 255), "tile/1/x001/067.p/255"),
        (Tile(5, 1234067), "tile/5/x001/x234/067"),
        (Tile(None, 999), "tile/data/999"),
        (Tile(None, 1000, 12), "tile/data/x001/000.p/12"),
    ],
)
def test_a_tile_and_its_path_are_one(tile: Tile, path: str) -> None:
    assert tile.path == path
    assert parse_path(path) == tile


@pytest.mark.parametrize(
    "path",
    [
        "tile/6/000",
        "tile/00/000",
        "tile/-1/000",
        "tile/0/0",
        "tile/0/00",
        "tile/0/x000/000",
        "tile/0/x000/001",
        "tile/0/001/x000",
        "tile/0/x1/000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/000.p/",
        "tile/0/000.p",
        "tile/0/000/",
        "/tile/0/000",
        "tile/0/000\n",
        "tile/0/٠٠٠",
        "tile/Data/000",
        "tile/0/X001/000",
        "tile/0/" + "x001/" * 40 + "000",
    ],
)
def test_a_path_that_is_not_canonical_names_nothing(path: str) -> None:
    assert parse_path(path) is None


def test_tiles_fill_when_their_last_complete_entry_is_there() -> None:
    assert completed_tiles(0, 255) == []
    assert completed_tiles(255, 256) == [Tile(0, 0)]
    assert completed_tiles(200, 800) == [Tile(0, 0), Tile(0, 1), Tile(0, 2)]
    assert completed_tiles(65535, 65536) == [Tile(0, 255), Tile(1, 0)]
    assert completed_tiles(65536, 65600) == []


def test_a_tile_exists_only_once_the_tree_has_all_its_entries() -> None:
    assert Tile(0, 1, 4).exists_at(260)
    assert not Tile(0, 1, 4).exists_at(259)
    assert Tile(1, 0, 1).exists_at(256)
    assert not Tile(1, 0, 2).exists_at(511)
    assert Tile(None, 0, 1).exists_at(1)


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 65_535, 65_536, 65_537, 70_000, 16_777_216 + 300])
def test_full_and_partial_tiles_hold_every_complete_subtree_once(size: int) -> None:
    tiles = [*completed_tiles(0, size), *partial_tiles(size)]
    assert len(set(tiles)) == len(tiles)
    assert all(tile.exists_at(size) for tile in tiles)
    assert all(tile.width < TILE_WIDTH for tile in partial_tiles(size))
    for level in range(MAX_LEVEL + 1):
        widths = [tile.width for tile in tiles if tile.level == level]
        assert sum(widths) == size >> (8 * level)
