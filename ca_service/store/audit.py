"""The audit records as stored; what makes them a chain is in authority/audit."""

from collections.abc import Sequence

from sqlalchemy import Connection, insert, select

from ca_service.authority.audit import (
    FIRST_PREVIOUS,
    AuditHead,
    AuditRecord,
    Detail,
    canonical_json,
    record_hash,
    verify,
)
from ca_service.authority.ports import Actor, Clock
from ca_service.store.database import Database
from ca_service.store.schema import audit, generations
from ca_service.vocabulary import TimestampMs

_AT_ONCE = 1000


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
