"""Tiles of static-ct: which 256 hashes lie together, and the one canonical path of each.

Tile (level, index) holds up to 256 entries; entry i of it is the root over the 256**level leaves from
(index * 256 + i) * 256**level. Only complete entries are in a tile, and an empty tile does not exist.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ca_service.merkle.tree import HASH_SIZE, Subtree, complete_root

TILE_WIDTH = 256
MAX_LEVEL = 5
"""Leaf indexes have 40 bits, so level 5 is the last that could have a hash (static-ct-api §Merkle Tree)."""

ReadTile = Callable[[int, int], Sequence[bytes]]
"""Gives the hashes of the tile (level, index), left to right."""

_TILE_BITS = 8
_PATH = re.compile(
    r"tile/(?P<level>[0-5]|data)/(?P<groups>(?:x[0-9]{3}/)*[0-9]{3})(?:\.p/(?P<width>[1-9][0-9]{0,2}))?"
)


@dataclass(frozen=True, slots=True)
class Tile:
    """A tile's place: `level` 0..5, or None for a data tile; `width` 1..256 entries, 256 when full."""

    level: int | None
    index: int
    width: int = TILE_WIDTH

    @property
    def path(self) -> str:
        """The canonical path below the monitoring prefix, as tile/0/x001/067.p/12."""
        digits = f"{self.index:03d}"
        digits = digits.zfill(-(-len(digits) // 3) * 3)
        groups = [digits[i : i + 3] for i in range(0, len(digits), 3)]
        name = "/".join([*("x" + group for group in groups[:-1]), groups[-1]])
        level = "data" if self.level is None else str(self.level)
        partial = "" if self.width == TILE_WIDTH else f".p/{self.width}"
        return f"tile/{level}/{name}{partial}"

    def exists_at(self, size: int) -> bool:
        """Whether the tree of `size` leaves has all the entries of this tile."""
        return (self.index * TILE_WIDTH + self.width) << (_TILE_BITS * (self.level or 0)) <= size


def parse_path(path: str) -> Tile | None:
    """Read a tile path without its leading slash; None for any path that is not the canonical one."""
    match = _PATH.fullmatch(path)
    if match is None or len(path) > len("tile/data/x000/x000/x000/x000/000.p/255"):
        return None
    level = None if match["level"] == "data" else int(match["level"])
    index = int(match["groups"].replace("/", "").replace("x", ""))
    tile = Tile(level, index, int(match["width"]) if match["width"] else TILE_WIDTH)
    return tile if tile.path == path else None


def completed_tiles(old_size: int, new_size: int) -> list[Tile]:
    """The hash tiles that become full while the tree grows, lowest level first, then by index."""
    tiles: list[Tile] = []
    for level in range(MAX_LEVEL + 1):
        shift = _TILE_BITS * (level + 1)
        before, after = old_size >> shift, new_size >> shift
        if before == after:
            break
        tiles.extend(Tile(level, index) for index in range(before, after))
    return tiles


def partial_tiles(size: int) -> list[Tile]:
    """The hash tiles that are partly filled in the tree of `size` leaves, lowest level first."""
    tiles: list[Tile] = []
    for level in range(MAX_LEVEL + 1):
        index, width = divmod(size >> (_TILE_BITS * level), TILE_WIDTH)
        if width:
            tiles.append(Tile(level, index, width))
    return tiles


def subtree_from_tiles(read_tile: ReadTile) -> Subtree:
    """Find complete subtrees inside tiles; each tile is read once for the life of what is returned.

    `read_tile(level, index)` gives the entries that tile has so far, at least up to what is asked of it.
    """
    seen: dict[tuple[int, int], Sequence[bytes]] = {}

    def subtree(level: int, index: int) -> bytes:
        tile_level, height = divmod(level, _TILE_BITS)
        first = index << height
        place = (tile_level, first >> _TILE_BITS)
        if place not in seen:
            seen[place] = read_tile(*place)
        offset = first % TILE_WIDTH
        return complete_root(seen[place][offset : offset + (1 << height)])

    return subtree


def split_hashes(content: bytes) -> list[bytes]:
    """Cut a hash tile's content into its hashes."""
    return [content[i : i + HASH_SIZE] for i in range(0, len(content), HASH_SIZE)]
