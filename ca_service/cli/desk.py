"""The desk as the administrative verbs see it: the same on this host and over HTTP.

Who acts is not said here: on the host it is the local user, remotely the owner of the token.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from ca_service.authority.audit import AuditHead, AuditRecord
from ca_service.authority.desk_ports import IdentityRevocation, Preview
from ca_service.authority.status_ports import Block, IssuedCertificate, Revocation, Selector
from ca_service.vocabulary import RevocationReason, Serial


class Desk(Protocol):
    """What administrators can do; authority/revocation says what each of it means and raises."""

    def find(self, selector: Selector, limit: int) -> Sequence[tuple[IssuedCertificate, Revocation | None]]:
        """What a selector means, newest first."""
        ...

    def preview(
        self,
        selector: Selector,
        *,
        revocation_date: int | None,
        reason: RevocationReason,
        limit: int,
    ) -> Preview:
        """What `revoke_identity` would do now."""
        ...

    def blocks(self) -> Sequence[Block]:
        """Every block, the expired ones too."""
        ...

    def audit_records(self, after: int, limit: int) -> Sequence[AuditRecord]:
        """Audit records above a number."""
        ...

    def verify_audit(self) -> AuditHead:
        """Check the audit chain; ValueError names what does not fit."""
        ...

    def revoke_certificate(
        self, serial: Serial, *, reason: RevocationReason, revocation_date: int | None, comment: str
    ) -> Revocation:
        """Revoke one certificate."""
        ...

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
        ...

    def withdraw(self, serial: Serial, *, comment: str) -> Revocation:
        """Take a wrong revocation away."""
        ...

    def block(
        self, selector: Selector, *, reason: str, expires: int | None, everybody: bool
    ) -> Sequence[Block]:
        """Block whom a selector names."""
        ...

    def unblock(self, selector_or_number: Selector | int, *, comment: str) -> Sequence[Block]:
        """Take blocks away."""
        ...


OpenDesk = Callable[[], AbstractContextManager[Desk]]
"""Opens the desk that the options name, for as long as the command needs it."""
