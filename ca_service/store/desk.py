"""The revocation desk on a database: the one place that joins its adapters."""

from ca_service.authority.guarded import GuardedAudit, GuardedBlocks, GuardedRevocations
from ca_service.authority.ports import Clock, Observer, WakeUps
from ca_service.authority.revocation import RevocationDesk
from ca_service.authority.rollback import RollbackGuard
from ca_service.store.audit import SqlAudit
from ca_service.store.blocks import SqlBlocks
from ca_service.store.database import Database
from ca_service.store.issued import SqlIssuedCertificates
from ca_service.store.revocations import SqlRevocations


def revocation_desk(
    database: Database, guard: RollbackGuard, clock: Clock, observer: Observer, wake_ups: WakeUps
) -> RevocationDesk:
    """The desk of a database that `guard` watches; it needs no private key, and nothing is read yet.

    After each change it wakes those who publish it.
    """
    return RevocationDesk(
        issued=SqlIssuedCertificates(database),
        revocations=GuardedRevocations(SqlRevocations(database, clock), guard, wake_ups.send),
        blocks=GuardedBlocks(SqlBlocks(database, clock), guard, wake_ups.send),
        audit=GuardedAudit(SqlAudit(database, clock), guard),
        clock=clock,
        observer=observer,
    )
