"""Revocations, and the counter of their changes that every cached answer is keyed by."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, exists, insert, select, update

from ca_service.authority.ports import Actor, CertificateStatus, Clock, Revocation
from ca_service.errors import StoreUnavailable
from ca_service.store import audit, blocks
from ca_service.store.blocks import Block
from ca_service.store.database import Database
from ca_service.store.quick import Statement
from ca_service.store.schema import crl_shards, generations, issued, revocations
from ca_service.vocabulary import KeyId, RevocationReason, Serial, format_serial

_AT_ONCE = 400
"""Revocations in one statement, and in one audit record."""

_GENERATION = Statement(select(generations.c.revocations))
# One statement is one look: never a revocation from before and an issued row from after a change.
_STATUS = Statement(
    select(
        exists()
        .where(issued.c.serial == bindparam("serial"), issued.c.authority_key == bindparam("authority_key"))
        .label("known"),
        revocations.c.crl_shard,
        revocations.c.revocation_date,
        revocations.c.revoked_at,
        revocations.c.reason,
        revocations.c.comment,
    ).select_from(
        generations.outerjoin(
            revocations,
            and_(
                revocations.c.authority_key == bindparam("authority_key"),
                revocations.c.serial == bindparam("serial"),
            ),
        )
    )
)

_REASONS = {reason.number: reason for reason in RevocationReason}


class SqlRevocations:
    """Revocations in the database."""

    def __init__(self, database: Database, clock: Clock) -> None:
        """Take the database and the time that audit records carry."""
        self._database = database
        self._clock = clock

    def generation(self) -> int:
        """The number of revocation changes so far, read afresh; raises StoreUnavailable."""
        row = self._database.quick_row(_GENERATION, {})
        if row is None:
            raise StoreUnavailable("the database has no generation row; it was not made by this program")
        return int(row[0])

    def status(self, authority_key: KeyId, serial: Serial) -> CertificateStatus:
        """Whether this key issued the serial, and its revocation; raises StoreUnavailable."""
        row = self._database.quick_row(
            _STATUS, {"serial": format_serial(serial), "authority_key": authority_key}
        )
        if row is None:
            raise StoreUnavailable("the database gave no answer about a certificate")
        known, shard, date, revoked_at, reason, comment = row
        if shard is None:
            return CertificateStatus(bool(known), None)
        revocation = Revocation(serial, authority_key, shard, date, revoked_at, _REASONS[reason], comment)
        return CertificateStatus(bool(known), revocation)

    def revoke(
        self,
        wanted: Sequence[Revocation],
        actor: Actor,
        action: str,
        *,
        block: Block | None = None,
        detail: audit.Detail | None = None,
    ) -> Sequence[Revocation]:
        """Store revocations, bump generations, append the audit records: one durable transaction.

        It waits for entries that are being logged, and they for it. Returns, as they now stand, those that
        changed something: one already revoked changes only to an earlier date, or from no reason to one.
        A `block` is stored in the same transaction, `detail` stands in the first audit record beside what
        changed. Raises StoreUnavailable.
        """
        now = self._clock()
        with self._database.writing() as connection:
            blocks.lock_against_sequencing(connection)
            changed: list[tuple[Revocation | None, Revocation]] = []
            for start in range(0, len(wanted), _AT_ONCE):
                changed.extend(_store(connection, wanted[start : start + _AT_ONCE]))
            said: dict[str, object] = dict(detail or {})
            if block is not None:
                said["block"] = blocks.described(blocks.add(connection, replace(block, created=now // 1000)))
            if changed:
                self._bump(connection, {(new.authority_key, new.crl_shard) for _, new in changed})
            if changed or block is not None:
                for start in range(0, len(changed) or 1, _AT_ONCE):
                    said["revocations"] = [_described(*pair) for pair in changed[start : start + _AT_ONCE]]
                    audit.append(connection, now, actor, action, said)
                    said = {}
        return [new for _, new in changed]

    @staticmethod
    def _bump(connection: Connection, shards: Iterable[tuple[str, str]]) -> None:
        connection.execute(update(generations).values(revocations=generations.c.revocations + 1))
        for authority_key, name in sorted(shards):
            connection.execute(
                update(crl_shards)
                .where(crl_shards.c.authority_key == authority_key, crl_shards.c.name == name)
                .values(generation=crl_shards.c.generation + 1)
            )


def read_revocation(row: Row[Any], prefix: str = "") -> Revocation:
    """Read a row of the table, whose columns may carry a prefix."""
    fields = row._mapping  # noqa: SLF001 - the documented way to read columns by name
    return Revocation(
        Serial(int(fields[f"{prefix}serial"], 16)),
        KeyId(fields[f"{prefix}authority_key"]),
        fields[f"{prefix}crl_shard"],
        fields[f"{prefix}revocation_date"],
        fields[f"{prefix}revoked_at"],
        _REASONS[fields[f"{prefix}reason"]],
        fields[f"{prefix}comment"],
    )


def revocations_of(connection: Connection, authority_key: KeyId, shard: str) -> Iterable[Revocation]:
    """The revocations of one CRL shard, by serial; rows are turned into records as they are asked for."""
    rows = connection.execute(
        select(
            revocations.c.serial,
            revocations.c.revocation_date,
            revocations.c.revoked_at,
            revocations.c.reason,
            revocations.c.comment,
        )
        .where(revocations.c.authority_key == authority_key, revocations.c.crl_shard == shard)
        .order_by(revocations.c.serial)
    ).all()
    return (
        Revocation(Serial(int(serial, 16)), authority_key, shard, date, revoked_at, _REASONS[reason], comment)
        for serial, date, revoked_at, reason, comment in rows
    )


def _store(
    connection: Connection, wanted: Sequence[Revocation]
) -> list[tuple[Revocation | None, Revocation]]:
    """Store what changes something; pairs of what stood (None: nothing) and what stands now."""
    rows = connection.execute(
        select(revocations).where(
            revocations.c.authority_key.in_({one.authority_key for one in wanted}),
            revocations.c.serial.in_({format_serial(one.serial) for one in wanted}),
        )
    )
    before = {(found.authority_key, found.serial): found for found in map(read_revocation, rows)}
    after = dict(before)
    for one in wanted:
        place = (one.authority_key, one.serial)
        after[place] = _stricter(after.get(place), one)
    new = [one for place, one in after.items() if place not in before]
    if new:
        connection.execute(insert(revocations), [_row(one) for one in new])
    changed = [one for place, one in after.items() if place in before and before[place] != one]
    for one in changed:
        connection.execute(
            update(revocations)
            .where(
                revocations.c.authority_key == one.authority_key,
                revocations.c.serial == format_serial(one.serial),
            )
            .values(_row(one))
        )
    return [(before.get((one.authority_key, one.serial)), one) for one in (*new, *changed)]


def _stricter(stands: Revocation | None, wanted: Revocation) -> Revocation:
    """What stands after both: the earlier date, and a reason rather than none; otherwise what stood."""
    if stands is None:
        return wanted
    gives_reason = (
        stands.reason is RevocationReason.UNSPECIFIED and wanted.reason is not RevocationReason.UNSPECIFIED
    )
    if wanted.revocation_date >= stands.revocation_date and not gives_reason:
        return stands
    return Revocation(
        stands.serial,
        stands.authority_key,
        stands.crl_shard,
        min(stands.revocation_date, wanted.revocation_date),
        stands.revoked_at,
        wanted.reason if gives_reason else stands.reason,
        wanted.comment or stands.comment,
    )


def _row(one: Revocation) -> dict[str, object]:
    return {
        "authority_key": one.authority_key,
        "serial": format_serial(one.serial),
        "crl_shard": one.crl_shard,
        "revocation_date": one.revocation_date,
        "revoked_at": one.revoked_at,
        "reason": one.reason.number,
        "comment": audit.storable(one.comment),
    }


def _described(stood: Revocation | None, stands: Revocation) -> dict[str, object]:
    said: dict[str, object] = {
        "serial": format_serial(stands.serial),
        "authority_key": stands.authority_key,
        "revocation_date": stands.revocation_date,
        "reason": stands.reason.label,
        "comment": stands.comment,
    }
    if stood is not None:
        said["before"] = {"revocation_date": stood.revocation_date, "reason": stood.reason.label}
    return said
