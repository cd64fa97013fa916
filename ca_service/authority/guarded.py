"""Revocations and CRL shards that answer only from a database which is not behind its high-water mark."""

from collections.abc import Iterable, Sequence

from ca_service.authority.ports import (
    Actor,
    BuiltCrl,
    CertificateStatus,
    CrlBuilder,
    CrlShard,
    CrlStanding,
    Revocation,
    Revocations,
    Shards,
)
from ca_service.authority.rollback import RollbackGuard
from ca_service.vocabulary import KeyId, Serial


class GuardedRevocations:
    """An adapter of ports.Revocations over another; each method raises RolledBack, MarkUnavailable too."""

    def __init__(self, revocations: Revocations, guard: RollbackGuard) -> None:
        """Take the revocations as stored, and what watches their database."""
        self._revocations = revocations
        self._guard = guard

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
        return changed


class GuardedShards:
    """An adapter of ports.Shards over another; each method but `due` raises RolledBack too.

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

    def due(self, signed_before: int) -> Sequence[CrlStanding]:
        """Shards to be signed anew."""
        return self._shards.due(signed_before)

    def create(self, shard: CrlShard) -> CrlShard:
        """Store a new shard."""
        self._guard.admit_answers()
        return self._noted(self._shards.create(shard))

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
