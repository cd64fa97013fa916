"""Inspecting a log's tree: its tiles, frontier, root and signed head, recomputed from leaf hashes in order.

What is kept while a log is read is a few kilobytes, whatever its size, and can be stored to go on later.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.serialization import load_der_public_key

from ca_service.authority.finding import Finding, shown
from ca_service.merkle.checkpoint import tree_head_input
from ca_service.merkle.tiles import TILE_WIDTH, split_hashes
from ca_service.merkle.tree import Frontier, complete_root
from ca_service.pki.sct import log_id_of
from ca_service.pki.signatures import verify_sha256

_UPPER_LEVELS = 5
_DIGITALLY_SIGNED_HEADER = 4

TileRow = tuple[bytes, bytes]
"""The root hash and the hashes of a stored tile."""

ReadTileRow = Callable[[int, int], TileRow | None]
"""Reads the stored full tile (level, index)."""


@dataclass(frozen=True, slots=True)
class HeadRow:
    """A log with its stored head."""

    shard: str
    log_id: bytes
    public_key: bytes
    tree_size: int
    timestamp: int
    root_hash: bytes
    frontier: bytes
    signature: bytes


@dataclass
class TreeInspection:
    """A tree that grows by full tiles of leaf hashes, left to right."""

    shard: str
    frontier: Frontier = field(default_factory=Frontier)
    """Over the roots of level-0 tiles, so its size counts tiles."""
    pending: list[list[bytes]] = field(default_factory=lambda: [[] for _ in range(_UPPER_LEVELS)])
    """At place n, the entries so far of the tile of level n + 1 that is not full yet."""
    newest: int = 0
    """The newest timestamp of an entry so far, in milliseconds."""

    @property
    def size(self) -> int:
        """How many leaves were taken in."""
        return self.frontier.size * TILE_WIDTH

    def take(self, roots: Sequence[bytes], read_tile: ReadTileRow) -> Iterator[Finding]:
        """Take the roots of the next full level-0 tiles in; inspect each higher tile that they complete."""
        for root in roots:
            self.frontier = self.frontier.append(root)
            node = root
            for place in range(_UPPER_LEVELS):
                self.pending[place].append(node)
                if len(self.pending[place]) < TILE_WIDTH:
                    break
                level, hashes = place + 1, self.pending[place]
                index = (self.frontier.size >> 8 * level) - 1
                node = complete_root(hashes)
                yield from inspect_tile(self.shard, level, index, hashes, node, read_tile(level, index))
                self.pending[place] = []

    def finish(self, tail: Sequence[bytes], head: HeadRow, *, hold: bool) -> Iterator[Finding]:
        """Inspect the head against all that was taken in and the leaf hashes after the last full tile.

        With `hold` false a leaf is missing, so that the root cannot be recomputed.
        """
        where = f"tree head of log {head.shard}"
        if hold:
            edge = Frontier().extend(tail)
            whole = Frontier(self.size + edge.size, self.frontier.hashes + edge.hashes)
            if whole.root() != head.root_hash:
                yield Finding(
                    "root",
                    f"{where}, root_hash at size {head.tree_size}",
                    f"{whole.root().hex()} (of the stored leaves)",
                    shown(head.root_hash),
                )
            if whole.encode() != head.frontier:
                yield Finding(
                    "frontier",
                    f"{where}, frontier at size {head.tree_size}",
                    f"{shown(whole.encode())} (of the stored leaves)",
                    shown(head.frontier),
                )
        if self.newest > head.timestamp:
            yield Finding(
                "head-time",
                f"{where}, timestamp",
                f"at least {self.newest}, that of its newest entry",
                str(head.timestamp),
            )
        yield from inspect_head(head)

    def state(self) -> dict[str, object]:
        """What `of_state` makes this again from, as JSON can say it."""
        return {
            "tiles": self.frontier.size,
            "frontier": self.frontier.encode().hex(),
            "pending": [b"".join(hashes).hex() for hashes in self.pending],
            "newest": self.newest,
        }

    @classmethod
    def of_state(cls, shard: str, state: dict[str, object]) -> "TreeInspection":
        """Go on where `state` was taken; raises ValueError, KeyError or TypeError when it is not one."""
        tiles, pending, newest = state["tiles"], state["pending"], state["newest"]
        if not isinstance(tiles, int) or not isinstance(pending, list) or not isinstance(newest, int):
            raise ValueError("it is not the state of a tree")  # noqa: TRY004 - a file's content, not a bug
        rows = [split_hashes(bytes.fromhex(row)) for row in pending]
        expected = [(tiles >> 8 * place) % TILE_WIDTH for place in range(_UPPER_LEVELS)]
        if [len(row) for row in rows] != expected:
            raise ValueError("its hashes are not those of a tree of that size")
        return cls(shard, Frontier.decode(tiles, bytes.fromhex(str(state["frontier"]))), rows, newest)


def inspect_tile(
    shard: str, level: int, index: int, hashes: Sequence[bytes], its_root: bytes, row: TileRow | None
) -> Iterator[Finding]:
    """Compare a stored full tile with the hashes it must have, and the root over them."""
    where = f"tile {level}/{index} of log {shard}"
    if row is None:
        yield Finding("tile-missing", where, f"a stored tile of {TILE_WIDTH} hashes", "no row in tiles")
        return
    root, stored = row
    if type(root) is not bytes or type(stored) is not bytes:
        yield Finding("column-type", where, "bytes", f"{type(root).__name__} and {type(stored).__name__}")
        return
    if stored != b"".join(hashes):
        cut = split_hashes(stored)
        if len(cut) != len(hashes):
            yield Finding("tile", where, f"{len(hashes)} hashes", f"{len(stored)} octets")
        else:
            place = next(i for i, (ours, its) in enumerate(zip(hashes, cut, strict=True)) if ours != its)
            yield Finding(
                "tile",
                f"{where}, hash {place}",
                f"{hashes[place].hex()} (of the stored leaves)",
                cut[place].hex(),
            )
    if root != its_root:
        yield Finding("tile-root", f"{where}, root_hash", f"{its_root.hex()} (of its hashes)", shown(root))


def inspect_head(head: HeadRow) -> Iterator[Finding]:
    """Check the log id, and the signature that get-sth and the checkpoint both show."""
    try:
        key = load_der_public_key(head.public_key)
    except ValueError:
        yield Finding(
            "log-key", f"log {head.shard}, public_key", "a DER SubjectPublicKeyInfo", shown(head.public_key)
        )
        return
    if log_id_of(key) != head.log_id:
        yield Finding(
            "log-id", f"log {head.shard}, log_id", f"{log_id_of(key).hex()} (of its key)", shown(head.log_id)
        )
    signed = "a signature of the log's key over its size, time and root"
    try:
        message = tree_head_input(head.timestamp, head.tree_size, head.root_hash)
        verify_sha256(key, head.signature[_DIGITALLY_SIGNED_HEADER:], message)
    except ValueError as error:
        yield Finding("head-signature", f"tree head of log {head.shard}, signature", signed, str(error))
