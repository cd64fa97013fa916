"""The audit records: each holds the hash of the one before, so that none can be changed or taken out.

A cut-off end shows only against a head that was kept elsewhere.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select

from ca_service.authority.ports import Actor, Clock
from ca_service.store.database import Database
from ca_service.store.schema import audit, generations
from ca_service.vocabulary import TimestampMs

Detail = Mapping[str, object]
"""What was done, as JSON can say it."""

FIRST_PREVIOUS = "0" * 64
_AT_ONCE = 1000


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


def append(connection: Connection, time: TimestampMs, actor: Actor, action: str, detail: Detail) -> None:
    """Add a record in the transaction of what it records."""
    connection.execute(select(generations.c.id).with_for_update())  # one writer of the chain at a time
    head = _head(connection)
    draft = AuditRecord(
        head.sequence + 1,
        head.hash,
        "",
        time,
        Actor(storable(actor.name), storable(actor.source), storable(actor.request_id)),
        action,
        canonical_json(detail),
    )
    connection.execute(
        insert(audit).values(
            sequence=draft.sequence,
            previous_hash=draft.previous_hash,
            hash=record_hash(draft),
            time=draft.time,
            actor=draft.actor.name,
            source=draft.actor.source,
            request_id=draft.actor.request_id,
            action=draft.action,
            detail=draft.detail,
        )
    )


def _head(connection: Connection) -> AuditHead:
    newest = connection.execute(
        select(audit.c.sequence, audit.c.hash).order_by(audit.c.sequence.desc()).limit(1)
    ).first()
    return AuditHead(newest.sequence, newest.hash) if newest else AuditHead(0, FIRST_PREVIOUS)


def storable(text: str) -> str:
    """What both databases can store: PostgreSQL takes no NUL, and neither takes a lone surrogate."""
    return text.replace("\0", "␀").encode("utf-8", "replace").decode("utf-8")


class SqlAudit:
    """Reads of the audit records, and records of acts that change nothing else in the database."""

    def __init__(self, database: Database, clock: Clock) -> None:
        """Take the database and the time that records carry."""
        self._database = database
        self._clock = clock

    def append(self, actor: Actor, action: str, detail: Detail) -> None:
        """Record an act durably; raises StoreUnavailable."""
        with self._database.writing() as connection:
            append(connection, self._clock(), actor, action, detail)

    def head(self) -> AuditHead:
        """The newest record's number and hash; raises StoreUnavailable."""
        with self._database.reading() as connection:
            return _head(connection)

    def records(self, after: int = 0, limit: int = _AT_ONCE) -> Sequence[AuditRecord]:
        """Records with a number above `after`, oldest first, at most `limit`; raises StoreUnavailable."""
        query = select(audit).where(audit.c.sequence > after).order_by(audit.c.sequence).limit(limit)
        with self._database.reading() as connection:
            return [
                AuditRecord(
                    row.sequence,
                    row.previous_hash,
                    row.hash,
                    TimestampMs(row.time),
                    Actor(row.actor, row.source, row.request_id),
                    row.action,
                    row.detail,
                )
                for row in connection.execute(query)
            ]

    def verify(self) -> AuditHead:
        """Check every record; raises ValueError as `verify` does, and StoreUnavailable."""
        head = AuditHead(0, FIRST_PREVIOUS)
        while records := self.records(after=head.sequence):
            head = verify(records, head)
        return head
