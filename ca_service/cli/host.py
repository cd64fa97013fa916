"""What the administrative verbs need of a directory on this host: its database, and who is acting."""

import getpass
import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ca_service.authority.guarded import GuardedRevocations
from ca_service.authority.ports import Actor
from ca_service.authority.revocation import RevocationDesk
from ca_service.authority.rollback import RollbackGuard
from ca_service.files.high_water_mark import MarkFile
from ca_service.settings import Settings
from ca_service.store.database import Database
from ca_service.store.issued import SqlIssuedCertificates
from ca_service.store.position import SqlPosition
from ca_service.store.revocations import SqlRevocations
from ca_service.vocabulary import TimestampMs


class Unobserved:
    """Counts nothing: a command ends before anybody could read its metrics."""

    def count(self, event: str, **labels: str) -> None:
        """Count nothing."""

    def duration(self, stage: str, seconds: float) -> None:
        """Time nothing."""


def clock() -> TimestampMs:
    """The time of this machine."""
    return TimestampMs(time.time_ns() // 1_000_000)


@contextmanager
def desk_of(settings: Settings) -> Iterator[RevocationDesk]:
    """The revocation desk on the directory's database; it needs no private key.

    Raises ConfigurationError or StoreUnavailable when the database is not as this program needs it; revoking
    raises RolledBack when it is not the newest there was.
    """
    database = Database(settings.database.url, folder=settings.folder)
    try:
        database.check()
        # Not app.guard_of: with `app` comes the whole service, which takes longer than revoking.
        mark = MarkFile(settings.high_water_mark.path)
        guard = RollbackGuard(
            mark, SqlPosition(database), Unobserved(), strict=settings.high_water_mark.strict
        )
        yield RevocationDesk(
            issued=SqlIssuedCertificates(database),
            revocations=GuardedRevocations(SqlRevocations(database, clock), guard),
            clock=clock,
            observer=Unobserved(),
        )
    finally:
        database.close()


def local_actor() -> Actor:
    """Who acts here: the user who logged in, also behind sudo, and this host."""
    user = os.environ.get("SUDO_USER") or getpass.getuser()
    return Actor(name=f"local:{user}", source=socket.gethostname(), request_id=secrets.token_hex(16))
