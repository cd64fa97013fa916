"""Revocations, and the counter of their changes that every cached answer is keyed by."""

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, and_, bindparam, delete, exists, insert, select, update

from ca_service.authority.audit import Detail
from ca_service.authority.desk_ports import IdentityRevocation, Preview, RevocationOrder
from ca_service.authority.facts import selector_facts
from ca_service.authority.ports import Actor, Clock
from ca_service.authority.revocation_rules import stricter
from ca_service.authority.status_ports import Block, CertificateStatus, Revocation
from ca_service.errors import StoreUnavailable
from ca_service.store import audit, blocks
from ca_service.store.database import Database
from ca_service.store.quick import Statement
from ca_service.store.schema import crl_shards, generations, issued, revocations
from ca_service.store.selection import REASONS, by_shard, preview_of, read_revocation, targets_of
from ca_service.vocabulary import KeyId, Serial, format_serial

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

_Change = tuple[Revocation | None, Revocation]
"""What stood (None: nothing) and what stands."""

_CHANGE = (
    update(revocations)
    .where(revocations.c.authority_key == bindparam("of_key"), revocations.c.serial == bindparam("of_serial"))
    .values({column: bindparam(column.name) for column in revocations.c})
)


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
            _STATUS, {"serial": bytes.fromhex(format_serial(serial)), "authority_key": authority_key}
        )
        if row is None:
            raise StoreUnavailable("the database gave no answer about a certificate")
        known, shard, date, revoked_at, reason, comment = row
        if shard is None:
            return CertificateStatus(bool(known), None)
        revocation = Revocation(serial, authority_key, shard, date, revoked_at, REASONS[reason], comment)
        return CertificateStatus(bool(known), revocation)

    def revoke(self, wanted: Sequence[Revocation], actor: Actor, action: str) -> Sequence[Revocation]:
        """Store revocations, bump generations, append the audit records: one durable transaction.

        It waits for entries that are being logged, and they for it. Returns, as they now stand, those that
        changed something: one already revoked changes only to an earlier date, or from no reason to one.
        Raises StoreUnavailable.
        """
        with self._database.writing() as connection:
            blocks.lock_against_sequencing(connection)
            changes: list[_Change] = []
            for start in range(0, len(wanted), _AT_ONCE):
                changes.extend(_changes(connection, wanted[start : start + _AT_ONCE]))
            _store(connection, changes)
            self._record(connection, actor, action, changes, {})
        return [stands for _, stands in changes]

    def preview(self, order: RevocationOrder, limit: int) -> Preview:
        """What `revoke_selected` would do now, blocks apart; raises StoreUnavailable, InvalidRequest."""
        with self._database.reading() as connection:
            return preview_of(connection, order, limit)

    def revoke_selected(
        self, order: RevocationOrder, block: Block | None, actor: Actor
    ) -> IdentityRevocation:
        """Revoke all that the selector means and store the block: one durable transaction.

        What is meant is decided under the lock that sequencing takes, after whatever was logged before.
        Raises StoreUnavailable, and InvalidRequest for a pattern of over 4,000 signs.
        """
        with self._database.writing() as connection:
            blocks.lock_against_sequencing(connection)
            targets = targets_of(connection, order)
            changes = [(stands, after) for stands, after in targets if stands != after]
            _store(connection, changes)
            stood, stands = None, None
            if block is not None:
                stood, stands = blocks.add(connection, block, order.decided_at)
            shards = by_shard(after for _, after in changes)
            if changes or stands != stood:
                said: dict[str, object] = {
                    "selector": selector_facts(order.selector),
                    "matched": len(targets),
                    "changed": len(changes),
                    "reason": order.reason.label,
                    "comment": audit.storable(order.comment),
                    "by_shard": shards,
                }
                if stands is not None:
                    said["block"] = blocks.described(stands, stood if stood != stands else None)
                self._record(connection, actor, "revoke-identity", changes, said)
        return IdentityRevocation(
            matched=len(targets),
            revoked=len(changes),
            unchanged=len(targets) - len(changes),
            by_shard=shards,
            block=stands,
            serials=[after.serial for _, after in changes],
        )

    def withdraw(self, serial: Serial, comment: str, actor: Actor) -> Revocation | None:
        """Take a revocation away, with its audit record; returns it, or None when there is none.

        Raises StoreUnavailable.
        """
        of_serial = revocations.c.serial == format_serial(serial)
        with self._database.writing() as connection:
            blocks.lock_against_sequencing(connection)
            found = [read_revocation(row) for row in connection.execute(select(revocations).where(of_serial))]
            if not found:
                return None
            connection.execute(delete(revocations).where(of_serial))
            _bump(connection, {(one.authority_key, one.crl_shard) for one in found})
            for one in found:
                said = {
                    "serial": format_serial(one.serial),
                    "authority_key": one.authority_key,
                    "before": {**_members(one), "revoked_at": one.revoked_at, "comment": one.comment},
                    "comment": audit.storable(comment),
                }
                audit.append(connection, self._clock(), actor, "withdraw", said)
        return found[0]

    def _record(
        self,
        connection: Connection,
        actor: Actor,
        action: str,
        changes: Sequence[_Change],
        detail: Detail,
    ) -> None:
        """Bump generations and append as many records as the changes need, `detail` in the first."""
        now = self._clock()
        if changes:
            _bump(connection, {(new.authority_key, new.crl_shard) for _, new in changes})
        said = dict(detail)
        if not changes and said:
            audit.append(connection, now, actor, action, said)
        for start in range(0, len(changes), _AT_ONCE):
            said["revocations"] = [_described(*pair) for pair in changes[start : start + _AT_ONCE]]
            audit.append(connection, now, actor, action, said)
            said = {}


def _bump(connection: Connection, shards: Iterable[tuple[str, str]]) -> None:
    connection.execute(update(generations).values(revocations=generations.c.revocations + 1))
    for authority_key, name in sorted(shards):
        connection.execute(
            update(crl_shards)
            .where(crl_shards.c.authority_key == authority_key, crl_shards.c.name == name)
            .values(generation=crl_shards.c.generation + 1)
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
        ).where(revocations.c.authority_key == authority_key, revocations.c.crl_shard == shard)
    ).all()
    # Sorted here: asked to, SQLite walks along the primary key, through every revocation there is.
    rows = sorted(rows, key=lambda row: row.serial)
    return (
        Revocation(Serial(int(serial, 16)), authority_key, shard, date, revoked_at, REASONS[reason], comment)
        for serial, date, revoked_at, reason, comment in rows
    )


def _changes(connection: Connection, wanted: Sequence[Revocation]) -> list[_Change]:
    """What the wanted revocations change."""
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
        after[place] = stricter(after.get(place), one)
    return [(before.get(place), one) for place, one in after.items() if before.get(place) != one]


def _store(connection: Connection, changes: Sequence[_Change]) -> None:
    new = [_row(one) for stood, one in changes if stood is None]
    if new:
        connection.execute(insert(revocations), new)
    changed = [_row(one) for stood, one in changes if stood is not None]
    if changed:
        connection.execute(
            _CHANGE, [{**row, "of_key": row["authority_key"], "of_serial": row["serial"]} for row in changed]
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
        **_members(stands),
        "comment": stands.comment,
    }
    if stood is not None:
        said["before"] = {**_members(stood), "comment": stood.comment}
    return said


def _members(one: Revocation) -> dict[str, object]:
    return {"revocation_date": one.revocation_date, "reason": one.reason.label}
