"""The compact form of a signed token (RFC 7515 §3.1), read with limits before anything is believed."""

from dataclasses import dataclass
from functools import lru_cache

from joserfc.util import urlsafe_b64decode

from ca_service.errors import TokenAlgorithmRefused, TokenMalformed
from ca_service.identity.claims import json_kind
from ca_service.oidc.strict_json import read_object

MAX_TOKEN = 16 * 1024
"""Octets a token may have; real ones have about one to four thousand."""

_MAX_HEADER = 2048
_MAX_KEY_ID = 256


@dataclass(frozen=True, slots=True)
class Header:
    """What of a token's header counts: the algorithm and the id of the key, None when it names none."""

    algorithm: str
    key_id: str | None


@dataclass(frozen=True, slots=True)
class CompactToken:
    """A token taken apart; nothing in it is verified yet."""

    header: Header
    claims: dict[str, object]
    signing_input: bytes
    signature: bytes


def read_token(token: str) -> CompactToken:
    """Take a token apart.

    Raises TokenMalformed (size, dots, base64url, JSON) or TokenAlgorithmRefused (no algorithm named). The
    work is linear, and size and dots are looked at before anything else.
    """
    if len(token) > MAX_TOKEN:
        raise TokenMalformed(
            f"the identity token has {len(token)} characters; at most {MAX_TOKEN} are read",
            expected=f"at most {MAX_TOKEN} characters",
            received=f"{len(token)} characters",
        )
    dots = token.count(".")
    if dots != 2 or not token.isascii():
        raise TokenMalformed(
            f"the identity token has {dots} dots; expected header, payload and signature with 2 between them"
            if token.isascii()
            else "the identity token has characters that are not ASCII; expected base64url",
            expected="2 dots" if token.isascii() else "base64url",
            received=f"{dots} dots" if token.isascii() else "characters that are not ASCII",
        )
    head, payload, signature = token.split(".")
    header = _read_header(head)
    try:
        claims = read_object(urlsafe_b64decode(payload.encode()))
    except ValueError as problem:
        raise _malformed("payload", problem) from None
    try:
        octets = urlsafe_b64decode(signature.encode())
    except ValueError as problem:
        raise _malformed("signature", problem) from None
    return CompactToken(header, claims, token[: len(head) + 1 + len(payload)].encode(), octets)


# An issuer's tokens share a few headers, so that most are read once.
@lru_cache(maxsize=256)
def _read_header(encoded: str) -> Header:
    if len(encoded) > _MAX_HEADER:
        raise TokenMalformed(
            f"the identity token's header has {len(encoded)} characters; at most {_MAX_HEADER} are read",
            part="header",
            expected=f"at most {_MAX_HEADER} characters",
            received=f"{len(encoded)} characters",
        )
    try:
        header = read_object(urlsafe_b64decode(encoded.encode()))
    except ValueError as problem:
        raise _malformed("header", problem) from None
    if "crit" in header:
        # RFC 7515 §4.1.11: what is critical must be understood, and no extension is.
        raise TokenMalformed(
            "the identity token's header has 'crit'; this service understands no extension",
            part="header",
            expected="no 'crit'",
            received="'crit'",
        )
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or not algorithm:
        raise TokenAlgorithmRefused(
            "the identity token's header names no signing algorithm; expected 'alg'",
            part="header",
            expected="'alg'",
            received="none",
        )
    key_id = header.get("kid")
    if key_id is not None and (not isinstance(key_id, str) or not 0 < len(key_id) <= _MAX_KEY_ID):
        expected = f"a string of 1 to {_MAX_KEY_ID} characters"
        raise TokenMalformed(
            f"the identity token's 'kid' must be {expected}",
            part="header",
            expected=expected,
            received="another length" if isinstance(key_id, str) else json_kind(key_id),
        )
    return Header(algorithm, key_id)


def _malformed(part: str, problem: ValueError) -> TokenMalformed:
    # binascii's own words add nothing: the library raises it empty.
    why = str(problem) if type(problem) is ValueError else "it is not unpadded base64url"
    return TokenMalformed(
        f"the identity token's {part} cannot be read: {why}",
        part=part,
        expected="unpadded base64url" if part == "signature" else "a JSON object in unpadded base64url",
        received=why,
    )
