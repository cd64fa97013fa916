"""The shards of the log: their periods, opening, freezing, retiring, each with its audit record."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select, update

from ca_service.authority.entries import PRECERTIFICATE_KIND
from ca_service.authority.log import (
    LogHead,
    LogIdentity,
    NextHead,
    SignTreeHead,
    next_timestamp,
    sign_head,
)
from ca_service.authority.log_ports import TreeHead
from ca_service.authority.log_shards import LogShard, Period, place
from ca_service.authority.ports import Actor, Clock
from ca_service.errors import AlreadyExists, InvalidRequest, NotFound
from ca_service.merkle.tree import Frontier
from ca_service.store import audit
from ca_service.store.database import Database
from ca_service.store.faults import RowRefused
from ca_service.store.logs import insert_log
from ca_service.store.schema import issued, logs, tree_heads
from ca_service.vocabulary import LogId, TimestampMs, format_seconds

_LIVED_SECONDS = 2 * 86_400
"""A certificate issued longer ago than this has expired, however long certificates were set to live."""

Rows = Mapping[str, Row[Any]]


class SqlLogShards:
    """The shards of the certificate log: an adapter of authority.log_shards.LogShards."""

    def __init__(self, database: Database, clock: Clock) -> None:
        """Take the database, and the time that heads and audit records carry."""
        self._database = database
        self._clock = clock

    def all(self) -> Sequence[LogShard]:
        """Every shard, the earliest period first; raises StoreUnavailable."""
        with self._database.reading() as connection:
            return [_shard(row) for row in connection.execute(_query())]

    def open(self, log: LogIdentity, head: TreeHead, starts: int, actor: Actor) -> LogShard:
        """Store a new shard with the head of its empty tree, and end the period of the one before it.

        Raises AlreadyExists, StoreUnavailable.
        """
        try:
            with self._database.writing() as connection:
                rows = _locked(connection)
                period = self._make_room(connection, rows, map(_shard, rows.values()), starts)
                insert_log(connection, log, head, period)
                self._record(connection, actor, "log-open", log.shard, period, log_id=log.log_id.hex())
        except RowRefused:
            raise AlreadyExists(
                f"the database has a log of shard {log.shard}, or with its key, already"
            ) from None
        return LogShard(log, period)

    def move(self, shard: str, starts: int, actor: Actor) -> LogShard:
        """Give an empty shard whose period has not begun another start.

        Raises NotFound, InvalidRequest, AlreadyExists, StoreUnavailable.
        """
        with self._database.writing() as connection:
            rows = _locked(connection)
            row = _of(rows, shard)
            if row.tree_size or row.frozen or row.starts <= self._now():
                raise InvalidRequest(f"the period of the log shard {shard} has begun, or it has entries")
            others = []
            for other in (_shard(each) for name, each in rows.items() if name != shard):
                if other.frozen or other.period.ends != row.starts:
                    others.append(other)
                else:
                    # As if the shard had never been: the one before it gets the time back.
                    others.append(replace(other, period=Period(other.period.starts, row.ends)))
                    _change(connection, rows[other.name].id, ends=row.ends)
            period = self._make_room(connection, rows, others, starts)
            _change(connection, row.id, starts=period.starts, ends=period.ends)
            self._record(connection, actor, "log-move", shard, period)
            return replace(_shard(row), period=period)

    def freeze(self, shard: str, sign: SignTreeHead, actor: Actor) -> TreeHead:
        """Sign the final head of a shard whose period is over; the same again returns that head.

        Raises NotFound, InvalidRequest, ClockBehind, StoreUnavailable.
        """
        with self._database.writing() as connection:
            row = _of(_locked(connection), shard)
            log = _shard(row).identity
            if row.frozen:
                return TreeHead(
                    log.log_id, row.tree_size, TimestampMs(row.timestamp), row.root_hash, row.signature
                )
            if row.ends is None or row.ends > self._now():
                until = "goes on until the next one starts"
                raise InvalidRequest(
                    f"the period of the log shard {shard} "
                    f"{until if row.ends is None else f'goes on until {format_seconds(row.ends)}'}; prepare "
                    "the next with `ca-service log rotate`, and freeze this one when its period is over"
                )
            frontier = Frontier.decode(row.tree_size, row.frontier)
            timestamp = next_timestamp(LogHead(frontier, TimestampMs(row.timestamp)), self._clock())
            final = sign_head(log, NextHead((), LogHead(frontier, timestamp), frontier.root()), sign)
            _change(connection, row.id, frozen=True, timestamp=final.timestamp, signature=final.signature)
            period = Period(row.starts, row.ends)
            self._record(connection, actor, "log-freeze", shard, period, tree_size=final.tree_size)
            return final

    def retire(self, shard: str, reason: str, actor: Actor) -> LogShard:
        """Close a shard at once and sign nothing; raises NotFound, InvalidRequest, StoreUnavailable."""
        if not reason.strip():
            raise InvalidRequest("say why the shard is retired: everybody who trusts it will ask")
        with self._database.writing() as connection:
            row = _of(_locked(connection), shard)
            if row.frozen:
                raise InvalidRequest(f"the log shard {shard} is closed already")
            now = self._now()
            # Its newest SCT may be of this very second, which must not be after the end.
            ends = max(row.starts, now + 1 if row.ends is None else min(now + 1, row.ends))
            told = audit.storable(reason.strip())
            _change(connection, row.id, frozen=True, ends=ends, retired_for=told)
            period = Period(row.starts, ends)
            self._record(connection, actor, "log-retire", shard, period, reason=told, tree_size=row.tree_size)
            return replace(_shard(row), period=period, frozen=True, retired_for=told)

    def _make_room(
        self, connection: Connection, rows: Rows, shards: Iterable[LogShard], starts: int
    ) -> Period:
        def newest_not_after(shard: LogShard) -> int:
            query = select(func.max(issued.c.not_after)).where(
                issued.c.log == rows[shard.name].id, issued.c.not_before > self._now() - _LIVED_SECONDS
            )
            return connection.execute(query).scalar_one() or 0

        try:
            placement = place(list(shards), starts, newest_not_after)
        except ValueError as taken:
            raise AlreadyExists(f"no shard can start at {format_seconds(starts)}: {taken}") from None
        if placement.shortened is not None:
            _change(connection, rows[placement.shortened.name].id, ends=placement.period.starts)
        return placement.period

    def _record(
        self, connection: Connection, actor: Actor, action: str, shard: str, period: Period, **more: object
    ) -> None:
        detail = {"shard": shard, "starts": period.starts, "ends": period.ends, **more}
        audit.append(connection, self._clock(), actor, action, detail)

    def _now(self) -> int:
        return self._clock() // 1000


def _query() -> Select[Any]:
    return (
        select(logs, *(column for column in tree_heads.c if column is not tree_heads.c.log))
        .join(tree_heads, tree_heads.c.log == logs.c.id)
        .where(logs.c.kind == PRECERTIFICATE_KIND)
        .order_by(tree_heads.c.starts, logs.c.id)
    )


def _locked(connection: Connection) -> Rows:
    """Every shard by name, held so that nothing is appended and no period changes until COMMIT."""
    found = connection.execute(_query().with_for_update(of=tree_heads))
    return {row.shard: row for row in found}


def _of(rows: Rows, shard: str) -> Row[Any]:
    if shard not in rows:
        raise NotFound(f"the log has no shard {shard[:80]!r}; it has {', '.join(rows)}")
    return rows[shard]


def _change(connection: Connection, number: int, **values: object) -> None:
    connection.execute(update(tree_heads).where(tree_heads.c.log == number).values(**values))


def _shard(row: Row[Any]) -> LogShard:
    return LogShard(
        LogIdentity(row.shard, row.origin, LogId(row.log_id), row.public_key, row.kind),
        Period(row.starts, row.ends),
        row.frozen,
        row.retired_for,
    )
