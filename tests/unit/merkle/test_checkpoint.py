"""Tree heads and checkpoints carry the same signature, byte for byte where the standards say."""

from base64 import b64decode
from hashlib import sha256

import pytest

from ca_service.merkle.checkpoint import checkpoint_note, key_id, parse_checkpoint, tree_head_input

ORIGIN = "ca.example.com/ctlog/2026"
LOG_ID = sha256(b"a log key").digest()
ROOT = sha256(b"a root").digest()
SIGNATURE = b"\x04\x03\x00\x04abcd"
TIME = 1_790_000_000_123


def note() -> str:
    return checkpoint_note(ORIGIN, LOG_ID, size=12345, root=ROOT, timestamp=TIME, signature=SIGNATURE)


def test_the_signed_bytes_are_those_of_rfc_6962() -> None:
    assert tree_head_input(TIME, 12345, ROOT) == bytes.fromhex(f"0001{TIME:016x}{12345:016x}") + ROOT


def test_a_checkpoint_has_the_form_of_a_signed_note() -> None:
    origin, size, root, empty, signature, end = note().split("\n")
    assert (origin, size, b64decode(root), empty, end) == (ORIGIN, "12345", ROOT, "", "")
    content = b64decode(signature.removeprefix(f"— {ORIGIN} "))
    assert (
        content[:4] == sha256(ORIGIN.encode() + b"\x0a\x05" + LOG_ID).digest()[:4] == key_id(ORIGIN, LOG_ID)
    )
    assert content[4:] == TIME.to_bytes(8, "big") + SIGNATURE


def test_a_checkpoint_is_read_back_also_with_lines_of_witnesses() -> None:
    for text in (note(), note() + "— witness.example AAAAAAAA\n"):
        checkpoint = parse_checkpoint(text, ORIGIN, LOG_ID)
        assert (checkpoint.size, checkpoint.root) == (12345, ROOT)
        assert (checkpoint.timestamp, checkpoint.signature) == (TIME, SIGNATURE)
        assert checkpoint.signed_input == tree_head_input(TIME, 12345, ROOT)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (ORIGIN + "\n", "other\n", "is of"),
        ("12345", "012345", "decimal"),
        ("12345", "-1", "decimal"),
        ("12345", "١", "decimal"),
        ("\n\n", "\nextension\n\n", "three lines"),
        ("— ", "- ", "signature line"),
        ("=\n\n", "\n\n", "base64"),
    ],
)
def test_a_note_that_is_not_a_checkpoint_of_this_log_is_refused(old: str, new: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_checkpoint(note().replace(old, new, 1), ORIGIN, LOG_ID)


def test_a_checkpoint_of_another_key_is_refused() -> None:
    with pytest.raises(ValueError, match="no signature line"):
        parse_checkpoint(note(), ORIGIN, sha256(b"another key").digest())
    with pytest.raises(ValueError, match="root hash"):
        tree_head_input(TIME, 1, b"short")
    with pytest.raises(ValueError, match="64 bits"):
        tree_head_input(TIME, 1 << 64, ROOT)
    with pytest.raises(ValueError, match="origin"):
        checkpoint_note("two words", LOG_ID, size=0, root=ROOT, timestamp=0, signature=SIGNATURE)
