"""Revocations, blocks, audit and CRLs of a database that must not be behind its high-water mark."""

from collections.abc import Callable, Iterable, Sequence

from ca_service.authority.audit import AuditHead, AuditRecord, Detail
from ca_service.authority.desk_ports import (
    AuditTrail,
    BlockStore,
    IdentityRevocation,
    Preview,
    RevocationOrder,
    RevocationStore,
)
from ca_service.authority.ports import Actor
from ca_service.authority.rollback import RollbackGuard
from ca_service.authority.status_ports import (
    Block,
    BuiltCrl,
    CertificateStatus,
    CrlBuilder,
    CrlShard,
    CrlStanding,
    Revocation,
    Shards,
)
from ca_service.errors import RolledBack
from ca_service.vocabulary import KeyId, Serial

Changed = Callable[[], object]
"""Told after a change is durable and the mark has risen to it; it must not raise."""


def _unheard() -> None:
    """Tell nobody."""


class GuardedRevocations:
    """An adapter of RevocationStore over another; each method raises RolledBack, MarkUnavailable too."""

    def __init__(
        self, revocations: RevocationStore, guard: RollbackGuard, changed: Changed = _unheard
    ) -> None:
        """Take the revocations as stored, what watches their database, and whom to tell of a change."""
        self._revocations = revocations
        self._guard = guard
        self._changed = changed

    def generation(self) -> int:
        """The number of revocation changes so far, when they are all there were."""
        return self._guard.admit_answers()

    def status(self, authority_key: KeyId, serial: Serial) -> CertificateStatus:
        """What is known of a serial; `generation` is asked before it, and refuses."""
        return self._revocations.status(authority_key, serial)

    def revoke(self, revocations: Sequence[Revocation], actor: Actor, action: str) -> Sequence[Revocation]:
        """Store them, and return only once the mark has risen to them."""
        self._guard.admit_answers()
        changed = self._revocations.revoke(revocations, actor, action)
        self._guard.record_administration()
        self._changed()
        return changed

    def preview(self, order: RevocationOrder, limit: int) -> Preview:
        """What an order would do now, when the database is the newest there was."""
        self._guard.admit_answers()
        return self._revocations.preview(order, limit)

    def revoke_selected(
        self, order: RevocationOrder, block: Block | None, actor: Actor
    ) -> IdentityRevocation:
        """Carry an order out, and return only once the mark has risen to it."""
        self._guard.admit_answers()
        done = self._revocations.revoke_selected(order, block, actor)
        self._guard.record_administration()
        self._changed()
        return done

    def withdraw(self, serial: Serial, comment: str, actor: Actor) -> Revocation | None:
        """Take a revocation away, and return only once the mark has risen to that."""
        self._guard.admit_answers()
        withdrawn = self._revocations.withdraw(serial, comment, actor)
        self._guard.record_administration()
        self._changed()
        return withdrawn


class GuardedBlocks:
    """An adapter of BlockStore over another; changes raise RolledBack, MarkUnavailable too."""

    def __init__(self, blocks: BlockStore, guard: RollbackGuard, changed: Changed = _unheard) -> None:
        """Take the blocks as stored, what watches their database, and whom to tell of a change."""
        self._blocks = blocks
        self._guard = guard
        self._changed = changed

    def all(self) -> Sequence[Block]:
        """Every block, as stored."""
        return self._blocks.all()

    def add(self, block: Block, actor: Actor) -> Block:
        """Store a block, and return only once the mark has risen to it."""
        self._guard.admit_answers()
        stands = self._blocks.add(block, actor)
        self._guard.record_administration()
        self._changed()
        return stands

    def remove(self, number: int, comment: str, actor: Actor) -> Block | None:
        """Take a block away, and return only once the mark has risen to that."""
        self._guard.admit_answers()
        removed = self._blocks.remove(number, comment, actor)
        self._guard.record_administration()
        self._changed()
        return removed

    def remove_target(self, block: Block, comment: str, actor: Actor) -> Sequence[Block]:
        """Take the blocks of a target away, and return only once the mark has risen to that."""
        self._guard.admit_answers()
        removed = self._blocks.remove_target(block, comment, actor)
        self._guard.record_administration()
        self._changed()
        return removed


class GuardedAudit:
    """An adapter of AuditTrail over another, which knows by the mark when its end was cut off."""

    def __init__(self, audit: AuditTrail, guard: RollbackGuard) -> None:
        """Take the audit trail as stored, and what watches its database."""
        self._audit = audit
        self._guard = guard

    def append(self, actor: Actor, action: str, detail: Detail) -> None:
        """Record an act, and return only once the mark has risen to it."""
        self._guard.admit_answers()
        self._audit.append(actor, action, detail)
        self._guard.record_administration()

    def records(self, after: int, limit: int) -> Sequence[AuditRecord]:
        """Records, as stored."""
        return self._audit.records(after, limit)

    def verify(self) -> AuditHead:
        """Check every record, and that the mark has seen no later and no other one; else ValueError."""
        head = self._audit.verify()
        try:
            self._guard.check()
        except RolledBack as error:
            raise ValueError(error.message) from error
        return head


class GuardedShards:
    """An adapter of status_ports.Shards over another; what reads or signs a CRL raises RolledBack too.

    A CRL that is handed out has been noted in the mark, so that an older one is never handed out after it.
    """

    def __init__(self, shards: Shards, guard: RollbackGuard) -> None:
        """Take the shards as stored, and what watches their database."""
        self._shards = shards
        self._guard = guard

    def get(self, authority_key: KeyId, name: str) -> CrlShard | None:
        """The shard with its newest CRL, unless a newer one was published before."""
        place = (authority_key, name)
        seen = self._guard.crl_number(place)
        shard = self._shards.get(authority_key, name)
        self._guard.admit_crl(place, seen, shard.crl_number if shard else None)
        return self._noted(shard) if shard else None

    def all(self) -> Sequence[CrlStanding]:
        """Every shard, when none is missing or older than it was published before."""
        seen = self._guard.refuse_when_behind().crl_numbers
        standings = self._shards.all()
        has = {(each.authority_key, each.name): each.crl_number for each in standings}
        for place, number in seen.items():
            self._guard.admit_crl(place, number, has.get(place))
        for place, number in has.items():
            if number != seen.get(place):
                self._guard.record_crl(place, number)
        return standings

    def authority_keys(self) -> frozenset[KeyId]:
        """The keys that sign the shards."""
        return self._shards.authority_keys()

    def due(self, signed_before: int) -> Sequence[CrlStanding]:
        """Shards to be signed anew."""
        return self._shards.due(signed_before)

    def create(self, shard: CrlShard, within: float | None = None) -> CrlShard:
        """Store a new shard."""
        self._guard.admit_answers()
        return self._noted(self._shards.create(shard, within))

    def rebuild(self, authority_key: KeyId, name: str, build: CrlBuilder) -> CrlShard:
        """Sign a shard anew, unless the database is behind."""
        place = (authority_key, name)
        self._guard.admit_answers()
        seen = self._guard.crl_number(place)

        def admitted(shard: CrlShard, crl_number: int, revocations: Iterable[Revocation]) -> BuiltCrl | None:
            self._guard.admit_crl(place, seen, shard.crl_number)
            return build(shard, crl_number, revocations)

        return self._noted(self._shards.rebuild(authority_key, name, admitted))

    def _noted(self, shard: CrlShard) -> CrlShard:
        self._guard.record_crl((shard.authority_key, shard.name), shard.crl_number)
        return shard
