"""Base64 as callers really write it: standard or URL-safe alphabet, padded or not."""

import binascii

_TO_STANDARD = str.maketrans("-_", "+/", "\r\n")


def decode_base64(text: str) -> bytes:
    """Decode base64 of either alphabet, with or without padding; line ends inside are dropped.

    Raises ValueError for any other character, and for a length no octets can have.
    """
    bare = text.translate(_TO_STANDARD).rstrip("=")
    return binascii.a2b_base64((bare + "=" * (-len(bare) % 4)).encode("ascii"), strict_mode=True)
