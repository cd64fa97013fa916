"""What the revocation desk needs of the world beyond ports.py, and the records that it hands out.

As in ports.py, a comment under a method is its contract, and tests/contract holds every adapter to it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ca_service.authority.audit import AuditHead, AuditRecord, Detail
from ca_service.authority.ports import Actor
from ca_service.authority.status_ports import Block, IssuedCertificate, Revocation, Revocations, Selector
from ca_service.vocabulary import RevocationReason, Serial


@dataclass(frozen=True, slots=True)
class RevocationOrder:
    """What is to be taken back, and how: the same for every certificate that the selector means.

    `revocation_date` None means each one's own: see `revocation_of`. Times are seconds since 1970.
    """

    selector: Selector
    reason: RevocationReason
    revocation_date: int | None
    comment: str
    decided_at: int

    def revocation_of(self, certificate: IssuedCertificate) -> Revocation:
        """The revocation of one: from the given date, else from `since`, never before its notBefore."""
        date = self.selector.since if self.revocation_date is None else self.revocation_date
        return Revocation(
            serial=certificate.serial,
            authority_key=certificate.authority_key,
            crl_shard=certificate.crl_shard,
            revocation_date=max(certificate.not_before, date or 0),
            revoked_at=self.decided_at,
            reason=self.reason,
            comment=self.comment,
        )


@dataclass(frozen=True, slots=True)
class Preview:
    """What an order would do now, before anything happens.

    Of the `matched` certificates `to_revoke` would change (revoked, or from an earlier date, or for a
    graver reason), `already_revoked` would stay as they are. `by_shard` counts to_revoke by CRL,
    written as "KEY-ID/SHARD". `since` and `until` (seconds) span the validity of all that matched.
    `certificates` are those to revoke, newest first, up to a limit; `blocks` what would be blocked: number 0
    when the block is new.
    """

    matched: int
    already_revoked: int
    to_revoke: int
    by_shard: Mapping[str, int]
    since: int | None
    until: int | None
    certificates: Sequence[IssuedCertificate] = ()
    blocks: Sequence[Block] = ()


@dataclass(frozen=True, slots=True)
class IdentityRevocation:
    """What an order did: `revoked` changed, `unchanged` stood already; `serials` are those that changed."""

    matched: int
    revoked: int
    unchanged: int
    by_shard: Mapping[str, int]
    block: Block | None
    serials: Sequence[Serial]


class RevocationStore(Revocations, Protocol):
    """Revocations, as the desk changes them; each change is one durable transaction with its audit record."""

    def preview(self, order: RevocationOrder, limit: int) -> Preview:
        """What `revoke_selected` would do now, with at most `limit` certificates, and no blocks."""
        ...

    def revoke_selected(
        self, order: RevocationOrder, block: Block | None, actor: Actor
    ) -> IdentityRevocation:
        """Revoke all that the selector means and store the block, in one transaction.

        It selects under the lock that sequencing takes: every certificate that was logged before is
        selected, and the block refuses every later one. Stricter, never looser, as `revoke`; a block that
        already stands is not stored twice (BlockStore.add). Nothing changed: no audit record.
        """
        ...

    def withdraw(self, serial: Serial, comment: str, actor: Actor) -> Revocation | None:
        """Take a revocation away and return it; None when there is none.

        Generations rise as with a revocation, so that OCSP and the next CRL say so at once.
        """
        ...


class BlockStore(Protocol):
    """Blocks, as the desk changes them; each change is one durable transaction with its audit record."""

    def all(self) -> Sequence[Block]:
        """Every stored block, oldest first, the expired ones too."""
        ...

    def add(self, block: Block, actor: Actor) -> Block:
        """Store it under the lock that sequencing takes: no certificate logged after it escapes it.

        One of the same target that has not expired stands for it, with a later end or a reason where there
        was none if the new one says so: stricter, never looser. Returns what stands.
        """
        ...

    def remove(self, number: int, comment: str, actor: Actor) -> Block | None:
        """Take the block of this number away and return it; None when there is none."""
        ...

    def remove_target(self, block: Block, comment: str, actor: Actor) -> Sequence[Block]:
        """Take away every block of exactly this target and return them."""
        ...


class AuditTrail(Protocol):
    """The audit records, oldest first."""

    def append(self, actor: Actor, action: str, detail: Detail) -> None:
        """Record an act that changes nothing else."""
        ...

    def records(self, after: int, limit: int) -> Sequence[AuditRecord]:
        """Records with a number above `after`, at most `limit`."""
        ...

    def verify(self) -> AuditHead:
        """Check every record; raises ValueError that names the first that was changed or is missing."""
        ...
