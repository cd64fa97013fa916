"""Lifting a database that was rolled back above everything that was published of its forgotten future."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import insert, select, update

from ca_service.authority.audit import Detail
from ca_service.authority.mark import CrlName
from ca_service.authority.ports import Actor, Clock
from ca_service.store import audit
from ca_service.store.database import Database
from ca_service.store.schema import crl_shards, generations


@dataclass(frozen=True, slots=True)
class CrlFloor:
    """A number above which a shard's next CRL must be; url and covers_from are for a shard that was lost."""

    name: CrlName
    url: str
    covers_from: int
    number: int


def lift(
    database: Database,
    clock: Clock,
    *,
    generation: int,
    floors: Sequence[CrlFloor],
    actor: Actor,
    detail: Detail,
) -> None:
    """Raise the revocation generation above `generation` and each shard's CRL number to its floor.

    Each of these shards is dirty afterwards, and those that were lost exist again. One transaction with its
    audit record; the same again changes nothing for the worse. Raises StoreUnavailable.
    """
    with database.writing() as connection:
        stands = connection.execute(select(generations.c.revocations).with_for_update()).scalar_one()
        connection.execute(update(generations).values(revocations=max(stands, generation) + 1))
        for floor in floors:
            key, name = floor.name
            place = (crl_shards.c.authority_key == key) & (crl_shards.c.name == name)
            number = connection.execute(select(crl_shards.c.crl_number).where(place)).scalar()
            if number is None:
                connection.execute(
                    insert(crl_shards).values(
                        authority_key=key,
                        name=name,
                        url=floor.url,
                        covers_from=floor.covers_from,
                        generation=1,
                        crl_number=floor.number,
                        published_generation=0,
                        this_update=0,
                        next_update=0,
                        crl=b"",
                    )
                )
            else:
                connection.execute(
                    update(crl_shards)
                    .where(place)
                    .values(crl_number=max(number, floor.number), generation=crl_shards.c.generation + 1)
                )
        audit.append(connection, clock(), actor, "recover", detail)
