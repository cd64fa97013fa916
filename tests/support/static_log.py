"""A reader of static-ct logs of our own: it believes the log's key alone and computes everything again.

It shares no code with the service, so that both would have to be wrong in the same way.
"""

import base64
import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support import merkle

Fetch = Callable[[str], bytes]
"""Gives the content of a path below the monitoring prefix; raises when there is none."""


def tile_name(index: int) -> str:
    """Three digits a group, all but the last after an x: 1234067 is x001/x234/067."""
    groups = [f"{index % 1000:03d}"]
    while index := index // 1000:
        groups.insert(0, f"x{index % 1000:03d}")
    return "/".join(groups)


def tile_paths(size: int) -> list[tuple[str, int, int, int]]:
    """Every hash tile of a tree: path, level, index, width."""
    found = []
    for level in range(6):
        count = size // 256**level
        for index in range(-(-count // 256)):
            width = min(256, count - index * 256)
            suffix = "" if width == 256 else f".p/{width}"
            found.append((f"tile/{level}/{tile_name(index)}{suffix}", level, index, width))
    return found


@dataclass
class Entry:
    """One parsed entry of a data tile."""

    leaf: bytes
    precertificate: bytes
    issuers: list[bytes]


@dataclass
class Audit:
    """What an audit read: every path with its content."""

    size: int = 0
    root: bytes = b""
    entries: list[Entry] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)


def parse_entries(content: bytes) -> list[Entry]:
    """Read TileLeaf after TileLeaf; AssertionError or struct.error when the octets do not add up."""
    entries = []
    at = 0
    while at < len(content):
        start = at
        (kind,) = struct.unpack_from(">H", content, at + 8)
        assert kind == 1, "only precertificates are in this log"
        at += 10 + 32
        at += 3 + int.from_bytes(content[at : at + 3])
        at += 2 + int.from_bytes(content[at : at + 2])
        leaf = b"\x00\x00" + content[start:at]
        length = int.from_bytes(content[at : at + 3])
        precertificate = content[at + 3 : at + 3 + length]
        at += 3 + length
        length = int.from_bytes(content[at : at + 2])
        chain = content[at + 2 : at + 2 + length]
        at += 2 + length
        entries.append(Entry(leaf, precertificate, [chain[i : i + 32] for i in range(0, len(chain), 32)]))
    assert at == len(content), "a data tile is cut short"
    return entries


def audit(fetch: Fetch, origin: str, public_key: ec.EllipticCurvePublicKey) -> Audit:
    """Read the whole log from its checkpoint down; AssertionError or InvalidSignature where it lies."""
    seen = Audit()

    def read(path: str) -> bytes:
        seen.files[path] = fetch(path)
        return seen.files[path]

    seen.size, seen.root = _checkpoint(read("checkpoint"), origin, public_key)
    for index in range(-(-seen.size // 256)):
        width = min(256, seen.size - index * 256)
        suffix = "" if width == 256 else f".p/{width}"
        entries = parse_entries(read(f"tile/data/{tile_name(index)}{suffix}"))
        assert len(entries) == width
        seen.entries += entries
    for index, entry in enumerate(seen.entries):
        assert entry.leaf[-8:] == b"\x00\x00\x05" + index.to_bytes(5), f"entry {index} names another index"
    level = [merkle.leaf_hash(entry.leaf) for entry in seen.entries]
    assert merkle.root_of(level) == seen.root, "the signed root is not that of the entries"

    levels = [level]
    while len(levels[-1]) >= 256:
        row = levels[-1]
        levels.append([merkle.root_of(row[i : i + 256]) for i in range(0, len(row) // 256 * 256, 256)])
    for path, height, index, width in tile_paths(seen.size):
        expected = b"".join(levels[height][index * 256 : index * 256 + width])
        assert read(path) == expected, f"{path} is not made of the entries"

    for fingerprint in {one for entry in seen.entries for one in entry.issuers}:
        der = read(f"issuer/{fingerprint.hex()}")
        assert hashlib.sha256(der).digest() == fingerprint
    return seen


def _checkpoint(note: bytes, origin: str, public_key: ec.EllipticCurvePublicKey) -> tuple[int, bytes]:
    text, _, signatures = note.decode().partition("\n\n")
    name, size, root = text.split("\n")
    assert name == origin
    (line,) = [line for line in signatures.splitlines() if line.startswith(f"— {origin} ")]
    content = base64.b64decode(line.rsplit(" ", 1)[1], validate=True)
    spki = public_key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    log_id = hashlib.sha256(spki).digest()
    assert content[:4] == hashlib.sha256(f"{origin}\n\x05".encode() + log_id).digest()[:4]
    root_hash = base64.b64decode(root, validate=True)
    signed = b"\x00\x01" + content[4:12] + struct.pack(">Q", int(size)) + root_hash
    assert content[12:14] == b"\x04\x03"
    public_key.verify(content[16:], signed, ec.ECDSA(hashes.SHA256()))
    return int(size), root_hash
