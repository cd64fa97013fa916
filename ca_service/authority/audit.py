"""The chain of audit records: each holds the hash of the one before, so none can be changed or taken out.

A cut-off end shows only against a head that was kept elsewhere: the high-water mark.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ca_service.authority.ports import Actor
from ca_service.vocabulary import TimestampMs

Detail = Mapping[str, object]
"""What was done, as JSON can say it."""

FIRST_PREVIOUS = "0" * 64


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One administrative act; `detail` is canonical JSON, the hashes are lower-case hex of SHA-256."""

    sequence: int
    previous_hash: str
    hash: str
    time: TimestampMs
    actor: Actor
    action: str
    detail: str


@dataclass(frozen=True, slots=True)
class AuditHead:
    """The newest record's number (0 when there is none) and hash."""

    sequence: int
    hash: str


def canonical_json(value: object) -> str:
    """Write JSON with sorted members, no spaces, and only ASCII signs (so never a NUL)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def record_hash(record: AuditRecord) -> str:
    """Hash everything a record says and the hash before it."""
    content = canonical_json(
        {
            "sequence": record.sequence,
            "previous": record.previous_hash,
            "time": record.time,
            "actor": record.actor.name,
            "source": record.actor.source,
            "request_id": record.actor.request_id,
            "action": record.action,
            "detail": record.detail,
        }
    )
    return hashlib.sha256(content.encode("ascii")).hexdigest()


def verify(records: Iterable[AuditRecord], head: AuditHead | None = None) -> AuditHead:
    """Check that records follow one another from `head` (from the first one unless given); the new head.

    Raises ValueError that names the first record that was changed, is missing or is out of place.
    """
    head = head or AuditHead(0, FIRST_PREVIOUS)
    for record in records:
        if record.sequence != head.sequence + 1:
            raise ValueError(f"after audit record {head.sequence} comes {record.sequence}: some are missing")
        if record.previous_hash != head.hash or record_hash(record) != record.hash:
            raise ValueError(f"audit record {record.sequence} or the one before it was changed")
        head = AuditHead(record.sequence, record.hash)
    return head
