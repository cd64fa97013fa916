"""Derives the vectors in this folder from the providers' documents and Fulcio's rules, not from our code.

Each case is a provider's claims, as its documentation lists them, and beside them the texts that a person
finds for subject and extensions by reading the rules. All that is computed here is DER: tag, length, octets.
`python -m tests.vectors.identity.derive` writes the JSON files anew; a test compares them.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.vectors.identity import build_systems, forges, people

HERE = Path(__file__).parent
ARC = "1.3.6.1.4.1.57264.1"
# 06 0A: the ten octets of 1.3.6.1.4.1.57264.1.7 (57264 = 3 * 16384 + 63 * 128 + 48, so 83 BF 30).
USERNAME_OID = bytes.fromhex("060a2b0601040183bf300107")
RAW = (1, 2, 3, 4, 5, 6)


def tlv(tag: int, content: bytes) -> bytes:
    """Tag, definite length and content (X.690 §8.1)."""
    if len(content) < 128:
        return bytes((tag, len(content))) + content
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def subject_alternative_name(kind: str, text: str) -> bytes:
    """GeneralNames with one name: rfc822Name [1], URI [6], or Fulcio's otherName [0] (RFC 5280 §4.2.1.6)."""
    if kind == "username":
        return tlv(0x30, tlv(0xA0, USERNAME_OID + tlv(0xA0, tlv(0x0C, text.encode()))))
    return tlv(0x30, tlv({"email": 0x81, "uri": 0x86}[kind], text.encode("ascii")))


def extension(number: int, text: str) -> bytes:
    """The value of an extension: raw octets up to .6, an UTF8String from .8 on (fulcio docs/oid-info.md)."""
    return text.encode() if number in RAW else tlv(0x0C, text.encode())


def vector(case: Mapping[str, Any]) -> dict[str, Any]:
    """One case as it is written; `refused` cases have a reason and the claim instead of names.

    `members` are those of an issuer that is not in config/issuers.yaml.
    """
    claims = {"iss": case["issuer"], **case["claims"]}
    head = {
        "name": case["name"],
        "issuer": case["issuer"],
        "members": case.get("members", {}),
        "claims": claims,
    }
    if "refused" in case:
        return {**head, "refused": case["refused"]}
    kind, text = case["subject"]
    texts = {1: case["issuer"], 8: case["issuer"], 24: claims["sub"], **case["extensions"]}
    return {
        **head,
        "challenges": case.get("challenges", [claims["sub"]]),
        "subject": {
            "kind": kind,
            "text": text,
            "der": subject_alternative_name(kind, text).hex(),
        },
        "extensions": {
            f"{ARC}.{number}": {"text": text, "der": extension(number, text).hex()}
            for number, text in sorted(texts.items())
            if text
        },
    }


def documents() -> Iterator[tuple[Path, str]]:
    """Each file with its text."""
    for module in (forges, build_systems, people):
        for provider, cases in module.CASES.items():
            text = json.dumps([vector(case) for case in cases], indent=1, ensure_ascii=False)
            yield HERE / f"{provider}.json", text + "\n"


if __name__ == "__main__":
    for path, text in documents():
        path.write_text(text)
