"""status_ports.Shards: numbers only rise, nothing is lost between a revocation and its CRL."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import insert

from ca_service.authority.status_ports import BuiltCrl, CrlShard, Revocation
from ca_service.errors import NotFound, StoreUnavailable
from ca_service.store.database import Database
from ca_service.store.revocations import SqlRevocations
from ca_service.store.schema import crl_shards
from ca_service.store.shards import SqlShards
from ca_service.vocabulary import RevocationReason, Serial
from tests.support.store import ACTOR, AUTHORITY_KEY, NOW, SettableClock, TestLog

SECOND = NOW // 1000


def shard(name: str, covers_from: int = SECOND, crl: bytes = b"first") -> CrlShard:
    return CrlShard(
        AUTHORITY_KEY, name, f"http://ca/{name}.crl", covers_from, 0, 1, 0, SECOND, SECOND + 7, crl
    )


def revocation(serial: int, name: str) -> Revocation:
    return Revocation(
        Serial(serial), AUTHORITY_KEY, name, SECOND, SECOND, RevocationReason.KEY_COMPROMISE, "said"
    )


class Builder:
    """Builds a text that says what it was given."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def __call__(self, shard: CrlShard, crl_number: int, revocations: Iterable[Revocation]) -> BuiltCrl:
        self.numbers.append(crl_number)
        serials = ",".join(str(one.serial) for one in revocations)
        return BuiltCrl(f"{crl_number}:{serials}".encode(), SECOND + crl_number, SECOND + 100 + crl_number)


@pytest.fixture
def shards(database: Database, log: TestLog) -> SqlShards:
    """The adapter, on a database that has a log."""
    return SqlShards(database)


@pytest.fixture
def revocations(database: Database, clock: SettableClock) -> SqlRevocations:
    """What makes shards due."""
    return SqlRevocations(database, clock)


def test_a_shard_is_made_once_and_the_second_maker_gets_the_first(shards: SqlShards) -> None:
    assert shards.get(AUTHORITY_KEY, "a") is None
    assert shards.get(AUTHORITY_KEY, "a\0") is None
    first = shard("a")
    assert shards.create(first) == first
    assert shards.create(shard("a", crl=b"second")) == first
    assert shards.get(AUTHORITY_KEY, "a") == first


def test_many_makers_at_once_agree(shards: SqlShards) -> None:
    with ThreadPoolExecutor(max_workers=8) as threads:
        made = list(threads.map(lambda n: shards.create(shard("a", crl=b"%d" % n)), range(8)))
    assert set(made) == {shards.get(AUTHORITY_KEY, "a")}


def test_all_shards_come_oldest_first(shards: SqlShards) -> None:
    for name, covers_from in (("2026-10-00", SECOND + 9), ("2026-09-01", SECOND), ("2026-09-00", SECOND)):
        shards.create(shard(name, covers_from))
    assert [one.name for one in shards.all()] == ["2026-09-00", "2026-09-01", "2026-10-00"]


def test_due_are_the_dirty_and_the_old(shards: SqlShards, revocations: SqlRevocations) -> None:
    for name in ("a", "b"):
        shards.create(shard(name))
    signed = shard("a").this_update
    assert shards.due(signed - 1) == []
    assert sorted(each.name for each in shards.due(signed)) == ["a", "b"]
    revocations.revoke([revocation(5, "b")], ACTOR, "revoke")
    (due,) = shards.due(signed - 1)
    assert (due.name, due.is_dirty, due.this_update) == ("b", True, signed)


def test_a_rebuilt_crl_shows_its_own_revocations_and_its_generation(
    shards: SqlShards, revocations: SqlRevocations
) -> None:
    for name in ("a", "b"):
        shards.create(shard(name))
    revocations.revoke([revocation(5, "a"), revocation(3, "a"), revocation(4, "b")], ACTOR, "revoke")
    rebuilt = shards.rebuild(AUTHORITY_KEY, "a", Builder())
    assert rebuilt == shards.get(AUTHORITY_KEY, "a")
    assert rebuilt.crl == b"2:3,5"
    assert (rebuilt.crl_number, rebuilt.generation, rebuilt.published_generation) == (2, 1, 1)
    assert (rebuilt.this_update, rebuilt.next_update) == (SECOND + 2, SECOND + 102)
    other = shards.get(AUTHORITY_KEY, "b")
    assert other is not None
    assert (other.crl, other.generation, other.published_generation) == (b"first", 1, 0)


def test_the_builder_gets_whole_revocations(shards: SqlShards, revocations: SqlRevocations) -> None:
    shards.create(shard("a"))
    wanted = revocation(5, "a")
    revocations.revoke([wanted], ACTOR, "revoke")
    seen: list[Revocation] = []

    def build(shard: CrlShard, crl_number: int, revocations: Iterable[Revocation]) -> None:
        seen.extend(revocations)

    before = shards.get(AUTHORITY_KEY, "a")
    assert shards.rebuild(AUTHORITY_KEY, "a", build) == before == shards.get(AUTHORITY_KEY, "a")
    assert seen == [wanted]


def test_a_revocation_during_the_build_waits_for_nothing_and_leaves_the_shard_due(
    shards: SqlShards, revocations: SqlRevocations
) -> None:
    shards.create(shard("a"))
    revocations.revoke([revocation(1, "a")], ACTOR, "revoke")
    builder, desk = Builder(), revocations

    def build(shard: CrlShard, crl_number: int, revocations: Iterable[Revocation]) -> BuiltCrl:
        desk.revoke([revocation(2, "a")], ACTOR, "revoke")
        return builder(shard, crl_number, revocations)

    rebuilt = shards.rebuild(AUTHORITY_KEY, "a", build)
    # Where the database has no snapshots, the list may show more than its generation says, never less.
    assert rebuilt.crl in (b"2:1", b"2:1,2")
    assert (rebuilt.generation, rebuilt.published_generation) == (2, 1)
    assert shards.rebuild(AUTHORITY_KEY, "a", builder).crl == b"3:1,2"


def test_builders_take_turns_and_no_number_is_given_twice(shards: SqlShards) -> None:
    shards.create(shard("a"))
    builder = Builder()
    with ThreadPoolExecutor(max_workers=6) as threads:
        list(threads.map(lambda _: shards.rebuild(AUTHORITY_KEY, "a", builder), range(12)))
    assert builder.numbers == list(range(2, 14))


def test_a_failed_build_leaves_the_shard_as_it_was(shards: SqlShards) -> None:
    before = shards.create(shard("a"))

    def build(shard: CrlShard, crl_number: int, revocations: Iterable[Revocation]) -> BuiltCrl:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        shards.rebuild(AUTHORITY_KEY, "a", build)
    assert shards.get(AUTHORITY_KEY, "a") == before
    assert shards.rebuild(AUTHORITY_KEY, "a", Builder()).crl_number == 2
    with pytest.raises(NotFound):
        shards.rebuild(AUTHORITY_KEY, "none", Builder())


def test_a_maker_in_a_hurry_is_told_though_the_database_would_wait_longer(
    shards: SqlShards, database: Database
) -> None:
    with database.writing() as connection:
        made = shard("a")
        connection.execute(
            insert(crl_shards).values(
                authority_key=made.authority_key,
                name=made.name,
                url=made.url,
                covers_from=made.covers_from,
                generation=made.generation,
                crl_number=made.crl_number,
                published_generation=made.published_generation,
                this_update=made.this_update,
                next_update=made.next_update,
                crl=made.crl,
            )
        )
        with pytest.raises(StoreUnavailable):
            shards.create(made, within=0.2)
    assert shards.create(shard("a", crl=b"second"), within=60) == made
