"""Signed tree heads, and the same heads written as checkpoints (c2sp.org/tlog-checkpoint, static-ct-api).

A tree head's signature is the DigitallySigned struct of RFC 5246 §4.7; a checkpoint carries the same bytes,
so either is made from the other without the log's private key.
"""

import binascii
import re
from base64 import b64decode, b64encode
from dataclasses import dataclass
from hashlib import sha256

from ca_service.merkle.tree import HASH_SIZE

_SIGNATURE_TYPE = b"\x05"
"""The signature type of RFC6962NoteSignature in key ids of signed notes (c2sp.org/static-ct-api)."""

_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
_KEY_ID_SIZE = 4
_TIMESTAMP_SIZE = 8


def tree_head_input(timestamp: int, size: int, root: bytes) -> bytes:
    """The bytes a log signs for a tree head; `timestamp` in milliseconds (RFC 6962 §3.5).

    Raises ValueError when the root has not 32 octets or a number does not fit into 64 bits.
    """
    if len(root) != HASH_SIZE:
        raise ValueError(f"a root hash has {HASH_SIZE} octets, not {len(root)}")
    try:
        return b"\x00\x01" + timestamp.to_bytes(8, "big") + size.to_bytes(8, "big") + root
    except OverflowError:
        raise ValueError(f"time {timestamp} or size {size} is not a number of 64 bits") from None


def key_id(origin: str, log_id: bytes) -> bytes:
    """The four octets that tell a log's signature line from others (c2sp.org/signed-note, static-ct-api)."""
    return sha256(origin.encode() + b"\n" + _SIGNATURE_TYPE + log_id).digest()[:_KEY_ID_SIZE]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head read from, or to be written as, a checkpoint; `timestamp` in milliseconds.

    `signature` is the DigitallySigned struct over `tree_head_input`. The origin is not covered by it.
    """

    origin: str
    size: int
    root: bytes
    timestamp: int
    signature: bytes

    @property
    def signed_input(self) -> bytes:
        """The bytes that `signature` signs."""
        return tree_head_input(self.timestamp, self.size, self.root)


def checkpoint_note(
    origin: str, log_id: bytes, *, size: int, root: bytes, timestamp: int, signature: bytes
) -> str:
    """Write a signed tree head as a checkpoint with its one signature line; ends with a newline.

    Raises ValueError when the origin could not be read back: empty, or with spaces, plus or control signs.
    """
    if not _is_origin(origin):
        raise ValueError(f"an origin is a URL without scheme and trailing slash, not {origin!r}")
    tree_head_input(timestamp, size, root)
    content = key_id(origin, log_id) + timestamp.to_bytes(_TIMESTAMP_SIZE, "big") + signature
    return f"{origin}\n{size}\n{_base64(root)}\n\n— {origin} {_base64(content)}\n"


def parse_checkpoint(note: str, origin: str, log_id: bytes) -> Checkpoint:
    """Read a checkpoint and find this log's signature line; lines of witnesses are passed over.

    It is not verified: check `signature` over `signed_input` with the log's key. Raises ValueError when the
    note is malformed, is of another origin, has extension lines, or lacks this log's signature.
    """
    text, separator, tail = note.partition("\n\n")
    lines = text.split("\n")
    if not separator or len(lines) != 3 or not tail.endswith("\n"):
        raise ValueError("a checkpoint has three lines, an empty one and signature lines")
    if lines[0] != origin:
        raise ValueError(f"the checkpoint is of {lines[0][:200]!r}, not of {origin!r}")
    if not _SIZE.fullmatch(lines[1]):
        raise ValueError(f"a tree size is a decimal number, not {lines[1][:40]!r}")
    size, root = int(lines[1]), _from_base64(lines[2], "root hash")
    wanted = key_id(origin, log_id)
    for line in tail[:-1].split("\n"):
        dash, _, rest = line.partition(" ")
        name, _, encoded = rest.partition(" ")
        if dash != "—" or not name or not encoded:
            raise ValueError("a signature line is: em dash, name, base64")
        content = _from_base64(encoded, "signature")
        if name != origin or content[:_KEY_ID_SIZE] != wanted:
            continue
        stamp = content[_KEY_ID_SIZE : _KEY_ID_SIZE + _TIMESTAMP_SIZE]
        signature = content[_KEY_ID_SIZE + _TIMESTAMP_SIZE :]
        if len(stamp) != _TIMESTAMP_SIZE or not signature:
            raise ValueError("the signature line is too short for an RFC6962NoteSignature")
        checkpoint = Checkpoint(origin, size, root, int.from_bytes(stamp, "big"), signature)
        tree_head_input(checkpoint.timestamp, size, root)
        return checkpoint
    raise ValueError(f"the checkpoint has no signature line of {origin!r} with the log's key id")


def _is_origin(origin: str) -> bool:
    return bool(origin) and origin.isprintable() and " " not in origin and "+" not in origin


def _base64(content: bytes) -> str:
    return b64encode(content).decode("ascii")


def _from_base64(text: str, what: str) -> bytes:
    try:
        content = b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise ValueError(f"the {what} is not base64") from None
    if _base64(content) != text:
        raise ValueError(f"the {what} is not canonical base64")
    return content
