"""Reads of what was issued; the rows are written by the sequencer, with the log entry they belong to."""

from collections.abc import Sequence

from ca_service.authority.status_ports import IssuedCertificate, Revocation, Selector
from ca_service.store.database import Database
from ca_service.store.schema import issued
from ca_service.store.selection import (
    conditions_of,
    read_issued,
    read_with_revocation,
    select_issued,
    select_with_revocations,
)
from ca_service.vocabulary import Serial, format_serial


class SqlIssuedCertificates:
    """Issued certificates, found by serial or by what a selector says."""

    def __init__(self, database: Database) -> None:
        """Take the database."""
        self._database = database

    def by_serial(self, serial: Serial) -> IssuedCertificate | None:
        """The certificate with this serial, of whichever authority key; raises StoreUnavailable."""
        query = select_issued().where(issued.c.serial == format_serial(serial))
        with self._database.reading() as connection:
            row = connection.execute(query).first()
        return None if row is None else read_issued(row)

    def find(self, selector: Selector, limit: int) -> Sequence[tuple[IssuedCertificate, Revocation | None]]:
        """What the selector means, newest first, at most `limit`; an empty selector means none.

        Raises StoreUnavailable, and InvalidRequest for a pattern of over 4,000 signs.
        """
        if selector == Selector() or limit <= 0:
            return []
        conditions = conditions_of(selector)
        if conditions is None:
            return []
        query = select_with_revocations(conditions).limit(limit)
        with self._database.reading() as connection:
            return [read_with_revocation(row) for row in connection.execute(query)]
