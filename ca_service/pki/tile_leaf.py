"""Entries of data tiles, the TileLeaf of static-ct-api: one after the other, no count and no outer length.

A TileLeaf is a TimestampedEntry, for precertificates the precertificate with its poison as vec<3>, and
vec<2> of the SHA-256 fingerprints of the chain, the issuing certificate first.
"""

from collections.abc import Sequence
from dataclasses import dataclass

_LEAF_PREFIX = b"\x00\x00"  # v1, timestamped_entry: in a MerkleTreeLeaf, and left out here
_X509, _PRECERTIFICATE = 0, 1
_FINGERPRINT_SIZE = 32


@dataclass(frozen=True, slots=True)
class TileLeaf:
    """One entry of a data tile: its MerkleTreeLeaf, the DER precertificate (b"" for a final one), its chain.

    `leaf` is what the tree hashes; precertificate and chain are not covered by it.
    """

    leaf: bytes
    precertificate: bytes
    fingerprints: tuple[bytes, ...]


def encode_tile_leaf(leaf: bytes, precertificate: bytes, fingerprints: Sequence[bytes]) -> bytes:
    """Write the entry with this MerkleTreeLeaf (static-ct-api §Log Entries)."""
    chain = b"".join(fingerprints)
    return b"".join(
        (
            leaf[len(_LEAF_PREFIX) :],
            len(precertificate).to_bytes(3, "big"),
            precertificate,
            len(chain).to_bytes(2, "big"),
            chain,
        )
    )


def parse_data_tile(content: bytes) -> list[TileLeaf]:
    """Read all entries of a data tile; raises ValueError, with a sentence, for anything malformed."""
    entries = []
    reader = _Reader(content)
    while reader.left:
        entries.append(_parse(reader))
    return entries


def _parse(reader: "_Reader") -> TileLeaf:
    start = reader.position
    reader.take(8)  # the timestamp
    kind = int.from_bytes(reader.take(2), "big")
    if kind == _PRECERTIFICATE:
        reader.take(32)  # issuer_key_hash
    elif kind != _X509:
        raise ValueError(f"a data tile has an entry of the unknown type {kind}")
    reader.vector(3)  # the certificate or TBSCertificate
    reader.vector(2)  # CtExtensions
    leaf = _LEAF_PREFIX + reader.since(start)
    precertificate = reader.vector(3) if kind == _PRECERTIFICATE else b""
    chain = reader.vector(2)
    if len(chain) % _FINGERPRINT_SIZE:
        raise ValueError("the chain of a data tile's entry is not made of SHA-256 fingerprints")
    prints = tuple(chain[i : i + _FINGERPRINT_SIZE] for i in range(0, len(chain), _FINGERPRINT_SIZE))
    return TileLeaf(leaf, precertificate, prints)


class _Reader:
    """A place in bytes that must not run out."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.position = 0

    @property
    def left(self) -> int:
        return len(self._content) - self.position

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise ValueError("a data tile is cut short")
        self.position += count
        return self._content[self.position - count : self.position]

    def vector(self, octets: int) -> bytes:
        return self.take(int.from_bytes(self.take(octets), "big"))

    def since(self, start: int) -> bytes:
        return self._content[start : self.position]
