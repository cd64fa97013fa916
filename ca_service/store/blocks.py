"""Who gets no certificates: stored blocks, and the list of them that is matched in memory."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from ca_service.authority.ports import Actor, Clock
from ca_service.errors import IdentityBlocked
from ca_service.store import audit
from ca_service.store.database import Database
from ca_service.store.globs import compiled, is_glob
from ca_service.store.quick import Statement, Transaction
from ca_service.store.schema import blocks, generations, tree_heads
from ca_service.vocabulary import SubjectKind, SubjectName

_GENERATION = Statement(select(generations.c.blocks))
_ALL = Statement(
    select(
        blocks.c.subject_pattern,
        blocks.c.oidc_issuer,
        blocks.c.oidc_subject,
        blocks.c.reason,
        blocks.c.created,
        blocks.c.expires,
        blocks.c.id,
    ).order_by(blocks.c.id)
)


@dataclass(frozen=True, slots=True)
class Block:
    """Whom a block concerns: members that are None do not restrict, but one must be given.

    `subject` is a SAN, or a glob with `*` and `?`, compared under SubjectName.normalized; `created` and
    `expires` (None: never) are seconds since 1970; `number` is 0 until it is stored.
    """

    subject: str | None = None
    oidc_issuer: str | None = None
    oidc_subject: str | None = None
    reason: str = ""
    created: int = 0
    expires: int | None = None
    number: int = 0

    @property
    def normalized(self) -> str | None:
        """The subject pattern as subjects are compared."""
        return None if self.subject is None else SubjectName(SubjectKind.URI, self.subject).normalized


@dataclass(slots=True)
class BlockList:
    """All blocks of one generation, ready to be matched."""

    generation: int = -1
    _exact: dict[str, list[Block]] = field(default_factory=dict)
    _others: list[tuple[re.Pattern[str] | None, Block]] = field(default_factory=list)

    @classmethod
    def of(cls, generation: int, stored: Sequence[Block]) -> "BlockList":
        """Sort blocks by how they are found."""
        listed = cls(generation)
        for block in stored:
            pattern = block.normalized
            if pattern is None:
                listed._others.append((None, block))
            elif is_glob(pattern):
                listed._others.append((compiled(pattern), block))
            else:
                listed._exact.setdefault(pattern, []).append(block)
        return listed

    def check(self, subject: SubjectName, oidc_issuer: str, oidc_subject: str, now: int) -> None:
        """Raise IdentityBlocked when a block concerns them at `now`, in seconds since 1970."""
        name = subject.normalized
        for block in self._exact.get(name, ()):
            _refuse_if(block, oidc_issuer, oidc_subject, now)
        for pattern, block in self._others:
            if pattern is None or pattern.fullmatch(name):
                _refuse_if(block, oidc_issuer, oidc_subject, now)


def _refuse_if(block: Block, oidc_issuer: str, oidc_subject: str, now: int) -> None:
    concerned = (
        block.oidc_issuer in (None, oidc_issuer)
        and block.oidc_subject in (None, oidc_subject)
        and (block.expires is None or now < block.expires)
    )
    if concerned:
        raise IdentityBlocked(
            f"this identity gets no certificates: block {block.number} of this service concerns it",
            block=str(block.number),
        )


def lock_against_sequencing(connection: Connection) -> None:
    """Take the lock of every log: what is stored next counts for all entries that are logged after it."""
    connection.execute(select(tree_heads.c.log).order_by(tree_heads.c.log).with_for_update())


def current_list(transaction: Transaction, known: BlockList) -> BlockList:
    """`known`, or the list that has replaced it."""
    row = transaction.row(_GENERATION, {})
    generation = row[0] if row else 0
    if generation == known.generation:
        return known
    return BlockList.of(generation, [Block(*stored) for stored in transaction.rows(_ALL, {})])


def add(connection: Connection, block: Block) -> Block:
    """Store a block in a transaction that has taken `lock_against_sequencing`."""
    if block.normalized is None and block.oidc_issuer is None and block.oidc_subject is None:
        raise ValueError("a block names a subject, an issuer or an issuer's subject")
    number = connection.execute(
        insert(blocks)
        .values(
            subject_pattern=block.normalized,
            oidc_issuer=block.oidc_issuer,
            oidc_subject=block.oidc_subject,
            reason=block.reason,
            created=block.created,
            expires=block.expires,
        )
        .returning(blocks.c.id)
    ).scalar_one()
    connection.execute(update(generations).values(blocks=generations.c.blocks + 1))
    return replace(block, subject=block.normalized, number=number)


def described(block: Block) -> dict[str, object]:
    """What the audit says of a block."""
    return {
        "block": block.number,
        "subject": block.normalized,
        "oidc_issuer": block.oidc_issuer,
        "oidc_subject": block.oidc_subject,
        "reason": block.reason,
        "expires": block.expires,
    }


def _read_block(row: Row[Any]) -> Block:
    return Block(
        row.subject_pattern,
        row.oidc_issuer,
        row.oidc_subject,
        row.reason,
        row.created,
        row.expires,
        row.id,
    )


class SqlBlocks:
    """Blocks in the database; a check costs one short read while no block changes."""

    def __init__(self, database: Database, clock: Clock) -> None:
        """Take the database and the clock by which blocks expire."""
        self._database = database
        self._clock = clock
        self._known = BlockList()

    def check(self, subject: SubjectName, oidc_issuer: str, oidc_subject: str) -> None:
        """Raise IdentityBlocked when one of them is blocked now; StoreUnavailable when it cannot be known."""
        known = self._known
        row = self._database.quick_row(_GENERATION, {})
        if row is None or row[0] != known.generation:
            with self._database.quick_reading() as transaction:
                known = self._known = current_list(transaction, known)
        known.check(subject, oidc_issuer, oidc_subject, self._clock() // 1000)

    def add(self, block: Block, actor: Actor, action: str = "block") -> Block:
        """Store a block durably, with its audit record: no entry logged after this escapes it.

        Returns it with its number and time. Raises StoreUnavailable.
        """
        now = self._clock()
        with self._database.writing() as connection:
            lock_against_sequencing(connection)
            added = add(connection, replace(block, created=now // 1000))
            audit.append(connection, now, actor, action, described(added))
        return added

    def remove(self, number: int, actor: Actor, action: str = "unblock") -> Block | None:
        """Take a block away, with its audit record; returns it, or None when there is none of this number."""
        with self._database.writing() as connection:
            lock_against_sequencing(connection)
            row = connection.execute(select(blocks).where(blocks.c.id == number)).first()
            removed = None if row is None else _read_block(row)
            if removed is not None:
                connection.execute(delete(blocks).where(blocks.c.id == number))
                connection.execute(update(generations).values(blocks=generations.c.blocks + 1))
                audit.append(connection, self._clock(), actor, action, described(removed))
        return removed

    def all(self) -> Sequence[Block]:
        """Every stored block, oldest first, the expired ones too; raises StoreUnavailable."""
        with self._database.reading() as connection:
            return [_read_block(row) for row in connection.execute(select(blocks).order_by(blocks.c.id))]
