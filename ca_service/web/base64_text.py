"""Base64 as callers really write it: standard or URL-safe alphabet, padded or not."""

import binascii

_TO_STANDARD = str.maketrans("-_", "+/", "\r\n")


def decode_base64(text: str) -> bytes:
    """Decode base64 of either alphabet, with its whole padding or none; line ends inside are dropped.

    Raises ValueError for any other character, and for a length no octets can have.
    """
    given = text.translate(_TO_STANDARD)
    bare = given.rstrip("=")
    padded = bare + "=" * (-len(bare) % 4)
    if given not in (bare, padded):
        raise ValueError("the padding of base64 does not fit its length")
    return binascii.a2b_base64(padded.encode("ascii"), strict_mode=True)
