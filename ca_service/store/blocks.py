"""Who gets no certificates: stored blocks, and the list of them that is matched in memory."""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from sqlalchemy import ColumnElement, Connection, delete, insert, select, text, update

from ca_service.authority.ports import Actor, Clock
from ca_service.authority.revocation_rules import is_active, stricter_block
from ca_service.authority.status_ports import Block
from ca_service.authority.waiting import Background, Lately, WouldWait
from ca_service.errors import CAError, IdentityBlocked
from ca_service.store import audit
from ca_service.store.database import Database
from ca_service.store.globs import compiled, is_glob
from ca_service.store.quick import Statement, Transaction
from ca_service.store.schema import blocks, generations
from ca_service.vocabulary import SubjectName

GENERATION = Statement(select(generations.c.blocks))
_COLUMNS = (
    blocks.c.subject_pattern,
    blocks.c.oidc_issuer,
    blocks.c.oidc_subject,
    blocks.c.key_sha256,
    blocks.c.reason,
    blocks.c.created,
    blocks.c.expires,
    blocks.c.id,
)
"""In the order of Block's members."""

_USABLE = 10
"""How many times as old as fresh an answer may be while another thread asks for a new one."""

_ALL = Statement(select(*_COLUMNS).order_by(blocks.c.id))


@dataclass(slots=True)
class BlockList:
    """All blocks of one generation, each filed under the one member by which it is found fastest."""

    generation: int = -1
    _by_name: dict[str, list[Block]] = field(default_factory=dict)
    _by_key: dict[str, list[Block]] = field(default_factory=dict)
    _by_subject: dict[str, list[Block]] = field(default_factory=dict)
    _others: list[tuple[re.Pattern[str] | None, Block]] = field(default_factory=list)

    @classmethod
    def of(cls, generation: int, stored: Sequence[Block]) -> "BlockList":
        """Sort blocks by how they are found."""
        listed = cls(generation)
        for block in stored:
            pattern, _, oidc_subject, key_sha256 = block.target
            if pattern is not None and is_glob(pattern):
                listed._others.append((compiled(pattern), block))
            elif pattern is not None:
                listed._by_name.setdefault(pattern, []).append(block)
            elif key_sha256 is not None:
                listed._by_key.setdefault(key_sha256, []).append(block)
            elif oidc_subject is not None:
                listed._by_subject.setdefault(oidc_subject, []).append(block)
            else:
                listed._others.append((None, block))
        return listed

    def check(
        self, subject: SubjectName, oidc_issuer: str, oidc_subject: str, key_sha256: str, now: int
    ) -> None:
        """Raise IdentityBlocked when a block concerns them at `now`, in seconds since 1970."""
        name = subject.normalized
        for block in (
            *self._by_name.get(name, ()),
            *self._by_key.get(key_sha256, ()),
            *self._by_subject.get(oidc_subject, ()),
            *(block for pattern, block in self._others if pattern is None or pattern.fullmatch(name)),
        ):
            if (
                block.oidc_issuer in (None, oidc_issuer)
                and block.oidc_subject in (None, oidc_subject)
                and block.key_sha256 in (None, key_sha256)
                and is_active(block, now)
            ):
                raise IdentityBlocked(
                    f"this identity gets no certificates: block {block.number} of this service concerns it",
                    block=str(block.number),
                )


def lock_against_sequencing(connection: Connection) -> None:
    """Take the lock of every log: what is stored next counts for all entries that are logged after it.

    Everything that was logged before can be read afterwards, also of a log that was just opened.
    """
    if connection.dialect.name == "postgresql":
        # The table and not its rows: no log can be opened meanwhile whose lock nobody has taken.
        connection.execute(text("LOCK TABLE tree_heads IN EXCLUSIVE MODE"))
    # On SQLite a writing transaction is alone from its beginning.


def current_list(transaction: Transaction, known: BlockList) -> BlockList:
    """`known`, or the list that has replaced it."""
    row = transaction.row(GENERATION, {})
    generation = row[0] if row else 0
    if generation == known.generation:
        return known
    return BlockList.of(generation, [Block(*stored) for stored in transaction.rows(_ALL, {})])


def add(connection: Connection, block: Block, now: int) -> tuple[Block | None, Block]:
    """Store a block in a transaction that has taken `lock_against_sequencing`; `now` is in seconds.

    Returns what stood (None: nothing of this target that has not expired) and what stands; both are the same
    when nothing changed. Raises ValueError for a block that concerns everybody.
    """
    if block.target == (None, None, None, None):
        raise ValueError("a block names a subject, an issuer, an issuer's subject or a key")
    stood = next((one for one in _same_target(connection, block) if is_active(one, now)), None)
    if stood is None:
        columns = {**_columns_of(block), "created": now}
        number = connection.execute(insert(blocks).values(columns).returning(blocks.c.id)).scalar_one()
        stands = replace(block, subject=block.normalized, created=now, number=number)
    else:
        stands = stricter_block(stood, block)
        if stands == stood:
            return stood, stands
        connection.execute(update(blocks).where(blocks.c.id == stands.number).values(_columns_of(stands)))
    _count_change(connection)
    return stood, stands


def described(block: Block, before: Block | None = None) -> dict[str, object]:
    """What the audit says of a block, and of what it was before."""
    said: dict[str, object] = {
        "block": block.number,
        "subject": block.normalized,
        "oidc_issuer": block.oidc_issuer,
        "oidc_subject": block.oidc_subject,
        "key_sha256": block.key_sha256,
        "reason": block.reason,
        "expires": block.expires,
    }
    if before is not None:
        said["before"] = {"reason": before.reason, "expires": before.expires}
    return said


def _columns_of(block: Block) -> dict[str, object]:
    return {
        "subject_pattern": block.normalized,
        "oidc_issuer": block.oidc_issuer,
        "oidc_subject": block.oidc_subject,
        "key_sha256": block.key_sha256,
        "reason": audit.storable(block.reason),
        "expires": block.expires,
    }


def _same_target(connection: Connection, block: Block) -> list[Block]:
    columns = (blocks.c.subject_pattern, blocks.c.oidc_issuer, blocks.c.oidc_subject, blocks.c.key_sha256)
    same = [
        column.is_(None) if value is None else column == value
        for column, value in zip(columns, block.target, strict=True)
    ]
    return _read_all(connection, *same)


def _count_change(connection: Connection) -> None:
    connection.execute(update(generations).values(blocks=generations.c.blocks + 1))


def _read_all(connection: Connection, *conditions: ColumnElement[bool]) -> list[Block]:
    query = select(*_COLUMNS).where(*conditions).order_by(blocks.c.id)
    return [Block(*row) for row in connection.execute(query)]


class SqlBlocks:
    """Blocks in the database; a check costs one short read while no block changes."""

    def __init__(self, database: Database, clock: Clock, *, fresh_ms: int = 0) -> None:
        """Take the database and the clock by which blocks expire.

        `check` may go by what was known `fresh_ms` before, where the sequencer checks again under its lock.
        """
        self._database = database
        self._clock = clock
        self._lately = Lately(fresh_ms / 1000, _USABLE * fresh_ms / 1000)
        self._known = BlockList()
        self._background = Background("blocks", self._refresh_quietly)

    def check(self, subject: SubjectName, oidc_issuer: str, oidc_subject: str, key_sha256: str) -> None:
        """Raise IdentityBlocked when one of them is blocked now; StoreUnavailable when it cannot be known."""
        if self._lately.is_due():
            self._refresh_soon()
        now = self._clock() // 1000
        try:
            self._known.check(subject, oidc_issuer, oidc_subject, key_sha256, now)
        except IdentityBlocked:
            # It may have been lifted since; that counts at once.
            self.refresh()
            self._known.check(subject, oidc_issuer, oidc_subject, key_sha256, now)

    def _refresh_soon(self) -> None:
        try:
            self.refresh()
        except WouldWait:
            # Begun anew by another thread, the request would cost twice, and be a batch of the log alone.
            if not self._lately.is_usable():
                raise
            self._background.want()

    def _refresh_quietly(self) -> None:
        # Where it fails, soon no answer is usable any more: then a request asks, and is told why.
        with suppress(CAError):
            self.refresh()

    def refresh(self) -> None:
        """Make what `check` goes by that of this moment; raises StoreUnavailable."""
        row = self._database.quick_row(GENERATION, {})
        if row is None or row[0] != self._known.generation:
            with self._database.quick_reading() as transaction:
                self._known = current_list(transaction, self._known)
        self._lately.went_well()

    def add(self, block: Block, actor: Actor) -> Block:
        """Store a block durably, with its audit record: no entry logged after this escapes it.

        Returns what stands, which may be an earlier one of the same target, made stricter if the new one is.
        Raises StoreUnavailable.
        """
        now = self._clock()
        with self._database.writing() as connection:
            lock_against_sequencing(connection)
            stood, stands = add(connection, block, now // 1000)
            if stands != stood:
                audit.append(connection, now, actor, "block", described(stands, stood))
        return stands

    def remove(self, number: int, comment: str, actor: Actor) -> Block | None:
        """Take a block away, with its audit record; returns it, or None when there is none of this number."""
        if not 0 < number < 1 << 31:
            return None
        with self._database.writing() as connection:
            lock_against_sequencing(connection)
            removed = _read_all(connection, blocks.c.id == number)
            self._remove(connection, removed, comment, actor)
        return removed[0] if removed else None

    def remove_target(self, block: Block, comment: str, actor: Actor) -> Sequence[Block]:
        """Take every block of exactly this target away, each with its audit record; returns them."""
        with self._database.writing() as connection:
            lock_against_sequencing(connection)
            removed = _same_target(connection, block)
            self._remove(connection, removed, comment, actor)
        return removed

    def _remove(self, connection: Connection, removed: Sequence[Block], comment: str, actor: Actor) -> None:
        for block in removed:
            connection.execute(delete(blocks).where(blocks.c.id == block.number))
            said = {**described(block), "comment": audit.storable(comment)}
            audit.append(connection, self._clock(), actor, "unblock", said)
        if removed:
            _count_change(connection)

    def all(self) -> Sequence[Block]:
        """Every stored block, oldest first, the expired ones too; raises StoreUnavailable."""
        with self._database.reading() as connection:
            return _read_all(connection)
