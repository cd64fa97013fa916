"""What the administrative verbs need of a directory on this host: its database, and who is acting."""

import os
import pwd
import secrets
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

from ca_service.authority.audit import AuditHead, AuditRecord
from ca_service.authority.desk_ports import IdentityRevocation, Preview
from ca_service.authority.ports import Actor
from ca_service.authority.revocation import RevocationDesk
from ca_service.authority.rollback import RollbackGuard
from ca_service.authority.status_ports import Block, IssuedCertificate, Revocation, Selector
from ca_service.cache.wake_ups import wake_ups_of
from ca_service.files.high_water_mark import MarkFile
from ca_service.settings import Settings
from ca_service.store.database import Database
from ca_service.store.desk import revocation_desk
from ca_service.store.position import SqlPosition
from ca_service.vocabulary import RevocationReason, Serial, TimestampMs


class Unobserved:
    """Counts nothing: a command ends before anybody could read its metrics."""

    def count(self, event: str, **labels: str) -> None:
        """Count nothing."""

    def duration(self, stage: str, seconds: float) -> None:
        """Time nothing."""

    def size(self, what: str, number: float) -> None:
        """Measure nothing."""

    def level(self, what: str, value: float, **labels: str) -> None:
        """Note nothing."""


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
        wake_ups = wake_ups_of(settings.redis.url, settings.service.url, Unobserved())
        with closing(wake_ups):
            yield revocation_desk(database, guard, clock, Unobserved(), wake_ups)
    finally:
        database.close()


def local_actor() -> Actor:
    """Who acts here: the user of this process, behind `sudo` who called it, and this host."""
    try:
        # By the number and not by $USER, which anybody can set.
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    caller = os.environ.get("SUDO_USER", user)
    name = f"local:{user}" if caller == user else f"local:{caller} as {user}"
    return Actor(name=name, source=socket.gethostname(), request_id=secrets.token_hex(16))


class HostDesk:
    """The desk of this host; what is done at it is recorded with the local user."""

    def __init__(self, desk: RevocationDesk, actor: Actor) -> None:
        """Take the desk and who acts."""
        self._desk = desk
        self._actor = actor

    def find(self, selector: Selector, limit: int) -> Sequence[tuple[IssuedCertificate, Revocation | None]]:
        """What a selector means, newest first."""
        return self._desk.find(selector, limit)

    def preview(
        self,
        selector: Selector,
        *,
        revocation_date: int | None,
        reason: RevocationReason,
        limit: int,
    ) -> Preview:
        """What `revoke_identity` would do now."""
        return self._desk.preview(selector, revocation_date=revocation_date, reason=reason, limit=limit)

    def blocks(self) -> Sequence[Block]:
        """Every block, the expired ones too."""
        return self._desk.blocks()

    def audit_records(self, after: int, limit: int) -> Sequence[AuditRecord]:
        """Audit records above a number."""
        return self._desk.audit_records(after, limit)

    def verify_audit(self) -> AuditHead:
        """Check the audit chain; ValueError names what does not fit."""
        return self._desk.verify_audit()

    def revoke_certificate(
        self, serial: Serial, *, reason: RevocationReason, revocation_date: int | None, comment: str
    ) -> Revocation:
        """Revoke one certificate."""
        return self._desk.revoke_certificate(
            serial, reason=reason, revocation_date=revocation_date, comment=comment, actor=self._actor
        )

    def revoke_identity(
        self,
        selector: Selector,
        *,
        reason: RevocationReason,
        revocation_date: int | None,
        block: bool,
        block_expires: int | None,
        everybody: bool,
        comment: str,
    ) -> IdentityRevocation:
        """Revoke all that a selector means, and block whom it names."""
        return self._desk.revoke_identity(
            selector,
            reason=reason,
            revocation_date=revocation_date,
            block=block,
            block_expires=block_expires,
            everybody=everybody,
            comment=comment,
            actor=self._actor,
        )

    def withdraw(self, serial: Serial, *, comment: str) -> Revocation:
        """Take a wrong revocation away."""
        return self._desk.withdraw(serial, comment=comment, actor=self._actor)

    def block(
        self, selector: Selector, *, reason: str, expires: int | None, everybody: bool
    ) -> Sequence[Block]:
        """Block whom a selector names."""
        return self._desk.block(
            selector, reason=reason, expires=expires, everybody=everybody, actor=self._actor
        )

    def unblock(self, selector_or_number: Selector | int, *, comment: str) -> Sequence[Block]:
        """Take blocks away."""
        return self._desk.unblock(selector_or_number, comment=comment, actor=self._actor)


@contextmanager
def host_desk(settings: Settings) -> Iterator[HostDesk]:
    """The desk of the local user on this host; raises as `desk_of`."""
    with desk_of(settings) as desk:
        yield HostDesk(desk, local_actor())
