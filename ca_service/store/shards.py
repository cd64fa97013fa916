"""CRL shards and the newest CRL of each."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from ca_service.authority.status_ports import CrlBuilder, CrlShard, CrlStanding, Revocation
from ca_service.errors import NotFound, StoreUnavailable
from ca_service.store.database import Database
from ca_service.store.faults import RowRefused
from ca_service.store.revocations import revocations_of
from ca_service.store.schema import crl_shards
from ca_service.vocabulary import KeyId

_STANDING = [column for column in crl_shards.c if column.name != "crl"]


class SqlShards:
    """CRL shards in the database."""

    def __init__(self, database: Database) -> None:
        """Take the database."""
        self._database = database

    def get(self, authority_key: KeyId, name: str) -> CrlShard | None:
        """The shard with its newest published CRL, or None; raises StoreUnavailable."""
        if "\0" in authority_key or "\0" in name:
            return None
        with self._database.reading() as connection:
            return _get(connection, authority_key, name)

    def all(self) -> Sequence[CrlStanding]:
        """Every shard without its CRL, oldest first; raises StoreUnavailable."""
        query = select(*_STANDING).order_by(
            crl_shards.c.covers_from, crl_shards.c.authority_key, crl_shards.c.name
        )
        with self._database.reading() as connection:
            return [_read_standing(row) for row in connection.execute(query)]

    def authority_keys(self) -> frozenset[KeyId]:
        """The keys that sign the shards; raises StoreUnavailable."""
        query = select(crl_shards.c.authority_key).distinct()
        with self._database.reading() as connection:
            return frozenset(KeyId(key) for key in connection.scalars(query))

    def due(self, signed_before: int) -> Sequence[CrlStanding]:
        """Shards that are dirty or whose CRL is older; raises StoreUnavailable."""
        query = select(*_STANDING).where(
            (crl_shards.c.generation != crl_shards.c.published_generation)
            | (crl_shards.c.this_update <= signed_before)
        )
        with self._database.reading() as connection:
            return [_read_standing(row) for row in connection.execute(query)]

    def create(self, shard: CrlShard, within: float | None = None) -> CrlShard:
        """Store a new shard with its first CRL; when another worker was first, return that one.

        `within` (seconds) bounds the wait for other writers, where it is less than the database's own bound.
        Raises StoreUnavailable.
        """
        try:
            with self._database.writing(within) as connection:
                connection.execute(
                    insert(crl_shards).values(
                        authority_key=shard.authority_key,
                        name=shard.name,
                        url=shard.url,
                        covers_from=shard.covers_from,
                        generation=shard.generation,
                        crl_number=shard.crl_number,
                        published_generation=shard.published_generation,
                        this_update=shard.this_update,
                        next_update=shard.next_update,
                        crl=shard.crl,
                    )
                )
            return shard
        except RowRefused:
            there = self.get(shard.authority_key, shard.name)
            if there is None:
                raise
            return there

    def rebuild(self, authority_key: KeyId, name: str, build: CrlBuilder) -> CrlShard:
        """Under the shard's lock: read it and its revocations, call `build`, store what it returns.

        Revocations go on meanwhile; those that `build` did not see leave the shard's generation ahead of
        the published one. Raises NotFound for a shard that does not exist, and StoreUnavailable.
        """
        with self._database.build_lock(f"crl/{authority_key}/{name}"):
            with self._database.reading() as connection:
                # The shard first: without a snapshot, what is read later may only be newer than it says.
                shard = _get(connection, authority_key, name)
                if shard is None:
                    raise NotFound(f"there is no CRL shard {name} of the authority key {authority_key}")
                number = shard.crl_number + 1
                built = build(shard, number, _when_asked(connection, authority_key, name))
            if built is None:
                return shard
            with self._database.writing() as connection:
                changed = connection.execute(
                    update(crl_shards)
                    .where(
                        crl_shards.c.authority_key == authority_key,
                        crl_shards.c.name == name,
                        crl_shards.c.crl_number == shard.crl_number,
                    )
                    .values(
                        crl=built.crl,
                        crl_number=number,
                        published_generation=shard.generation,
                        this_update=built.this_update,
                        next_update=built.next_update,
                    )
                ).rowcount
                stored = _get(connection, authority_key, name)
                if changed != 1 or stored is None:
                    raise StoreUnavailable(
                        f"the CRL shard {name} was rebuilt by another process that did not take its lock; "
                        "make sure that every process uses this database and no copy of it"
                    )
            return stored


def _get(connection: Connection, authority_key: KeyId, name: str) -> CrlShard | None:
    row = connection.execute(
        select(crl_shards).where(crl_shards.c.authority_key == authority_key, crl_shards.c.name == name)
    ).first()
    return None if row is None else _read_shard(row)


def _when_asked(connection: Connection, authority_key: KeyId, name: str) -> Iterator[Revocation]:
    """A shard may have very many, and who waited for its lock mostly finds that nothing is left to do."""
    yield from revocations_of(connection, authority_key, name)


def _read_standing(row: Row[Any]) -> CrlStanding:
    return CrlStanding(
        authority_key=KeyId(row.authority_key),
        name=row.name,
        url=row.url,
        covers_from=row.covers_from,
        generation=row.generation,
        crl_number=row.crl_number,
        published_generation=row.published_generation,
        this_update=row.this_update,
        next_update=row.next_update,
    )


def _read_shard(row: Row[Any]) -> CrlShard:
    return CrlShard(
        authority_key=KeyId(row.authority_key),
        name=row.name,
        url=row.url,
        covers_from=row.covers_from,
        generation=row.generation,
        crl_number=row.crl_number,
        published_generation=row.published_generation,
        this_update=row.this_update,
        next_update=row.next_update,
        crl=row.crl,
    )
