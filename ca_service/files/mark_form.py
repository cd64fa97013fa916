"""How a high-water mark is written: one line of JSON that carries the checksum of what it says.

    {"sha256":"…","mark":{"version":1,"turn":7,"logs":{…},…,"crl_numbers":{…}}}

`turn` counts the writes. The CRL numbers come last: they are many and change rarely, while the rest changes
with every batch of entries, so that each of the two is encoded and decoded for itself.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ca_service.authority.mark import CrlName, LogMark, Mark
from ca_service.errors import MarkUnavailable
from ca_service.vocabulary import KeyId, LogId, TimestampMs

_VERSION = 1
_HEAD = b'{"sha256":"'
_DIGEST = 64
_MIDDLE = b'","mark":'
_NUMBERS = b',"crl_numbers":'
_TURN = re.compile(rb'"turn":([0-9]+)')


class MarkForm:
    """Encodes and decodes; keeps what it met last of the CRL numbers."""

    def __init__(self, path: Path) -> None:
        """Take the path that errors name."""
        self._path = path
        self._met: tuple[bytes, Mapping[CrlName, int]] = (b"", {})

    def encoded(self, mark: Mark, turn: int) -> bytes:
        """The line, without its end."""
        numbers, mapping = self._met
        if not numbers or mapping is not mark.crl_numbers:
            by_key: dict[str, dict[str, int]] = {}
            for (key, name), number in sorted(mark.crl_numbers.items()):
                by_key.setdefault(key, {})[name] = number
            numbers = _json(by_key)
            self._met = (numbers, mark.crl_numbers)
        rest = {
            "version": _VERSION,
            "turn": turn,
            "logs": {
                log_id.hex(): {
                    "tree_size": seen.tree_size,
                    "root_hash": seen.root_hash.hex(),
                    "timestamp": seen.timestamp,
                }
                for log_id, seen in mark.logs.items()
            },
            "revocation_generation": mark.generation,
            "audit": {"sequence": mark.audit_sequence, "hash": mark.audit_hash},
        }
        payload = b"".join((_json(rest)[:-1], _NUMBERS, numbers, b"}"))
        return b"".join((_HEAD, _sum(payload), _MIDDLE, payload, b"}"))

    def decoded(self, payload: bytes) -> Mark:
        """What a payload says; the same CRL numbers are the same object. Raises MarkUnavailable."""
        rest, _, numbers = payload.partition(_NUMBERS)
        met, mapping = self._met
        known = bool(met) and numbers == met + b"}"
        stored: dict[str, Any] = json.loads(rest + b"}" if known else payload)
        if stored["version"] != _VERSION:
            raise MarkUnavailable(
                f"the high-water mark in {self._path} is of form {stored['version']}, this program knows "
                f"{_VERSION}; run the newer version that wrote it"
            )
        if not known:
            mapping = {
                (KeyId(key), name): number
                for key, names in stored["crl_numbers"].items()
                for name, number in names.items()
            }
            self._met = (numbers[:-1], mapping)
        return Mark(
            logs={
                LogId(bytes.fromhex(log_id)): LogMark(
                    seen["tree_size"], bytes.fromhex(seen["root_hash"]), TimestampMs(seen["timestamp"])
                )
                for log_id, seen in stored["logs"].items()
            },
            generation=stored["revocation_generation"],
            audit_sequence=stored["audit"]["sequence"],
            audit_hash=stored["audit"]["hash"],
            crl_numbers=mapping,
        )


def opened(line: bytes) -> bytes | None:
    """The payload of a line, padded or not; None when its checksum does not fit: it was cut off."""
    payload = line.rstrip()[len(_HEAD) + _DIGEST + len(_MIDDLE) : -1]
    if (
        line[len(_HEAD) : len(_HEAD) + _DIGEST] != _sum(payload)
        or not line.startswith(_HEAD)
        or not line.endswith(b"\n")
    ):
        return None
    return payload


def turn_of(payload: bytes) -> int:
    """How many writes led to a payload."""
    found = _TURN.search(payload)
    return int(found[1]) if found else 0


def padded(line: bytes, size: int) -> bytes:
    """A line of so many octets, with its end."""
    return line.ljust(size - 1) + b"\n"


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True).encode()


def _sum(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()
