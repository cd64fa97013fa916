"""How shards follow one another, what a process knows of them, and what clients are told."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ca_service.authority.authorities import Authorities
from ca_service.authority.log import LogIdentity
from ca_service.authority.log_shards import (
    LogShard,
    Period,
    ShardDirectory,
    ShardState,
    next_name,
    place,
)
from ca_service.authority.trust import TrustMaterial
from ca_service.errors import LogClosed, LogUnavailable, StoreUnavailable
from ca_service.pki.keys import spki_der
from ca_service.vocabulary import LogId, TimestampMs, parse_time
from tests.support.pki import FOUNDED, authority, log_key
from tests.support.store import RecordingObserver

DAY = 86_400


def shard(name: str, starts: int = 0, ends: int | None = None, **more: object) -> LogShard:
    identity = LogIdentity(name, f"ca.example/ctlog/{name}", LogId(name.encode().ljust(32)), b"key")
    return replace(LogShard(identity, Period(starts, ends)), **more)  # type: ignore[arg-type]


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=6))
def test_wherever_shards_are_opened_every_moment_from_the_first_on_belongs_to_exactly_one(
    openings: list[tuple[int, int]],
) -> None:
    shards = [shard("first")]
    newest = {"first": 0}
    for number, (starts, logged) in enumerate(openings):
        covering = next(each for each in shards if each.period.covers(logged))
        newest[covering.name] = max(newest[covering.name], logged)
        try:
            placement = place(shards, starts, lambda each: newest[each.name])
        except ValueError:
            assert any(each.period.starts >= starts for each in shards)
            continue
        shortened = placement.shortened
        assert shortened is not None
        shards.remove(shortened)
        shards += [
            replace(shortened, period=Period(shortened.period.starts, placement.period.starts)),
            shard(f"{number}", placement.period.starts, placement.period.ends),
        ]
        newest[f"{number}"] = 0
        assert placement.period.starts >= starts
    for moment in range(60):
        assert sum(each.period.covers(moment) for each in shards) == 1
    for each in shards:
        assert newest[each.name] == 0 or each.period.covers(newest[each.name])


def test_a_closed_shard_gives_its_time_up() -> None:
    lost = shard("2026", 0, 100, frozen=True, retired_for="lost")
    assert place([lost, shard("2028", 500)], 90, lambda _: 0).period == Period(90, 500)
    assert place([lost], 50, lambda _: 0).shortened is None


def test_the_state_follows_from_the_period_and_what_was_closed() -> None:
    states = [shard("2026", 100, 200).state(moment) for moment in (99, 100, 199, 200)]
    assert states == [ShardState.PREPARED, ShardState.ACTIVE, ShardState.ACTIVE, ShardState.ENDED]
    assert shard("2026", 100, 200, frozen=True).state(150) is ShardState.FROZEN
    assert shard("2026", 100, 200, frozen=True, retired_for="lost").state(150) is ShardState.RETIRED


def test_a_period_refuses_what_expires_outside_of_it() -> None:
    Period(100, 200).require("2026", 100)
    for outside in (99, 200):
        with pytest.raises(LogClosed, match="2026"):
            Period(100, 200).require("2026", outside)


def test_names_are_years_and_never_taken() -> None:
    taken = {"2027", "2027-2"}
    assert next_name(2027, taken.__contains__) == "2027-3"
    assert next_name(2028, taken.__contains__) == "2028"


class Table:
    """A list of shards that can be out of reach; `at` is the directory's clock."""

    def __init__(self, *shards: LogShard) -> None:
        self.shards: Sequence[LogShard] = shards
        self.reads = 0
        self.broken = False
        self.at = 0.0
        self.observer = RecordingObserver()
        self.directory = ShardDirectory(self.read, lambda: self.at, self.observer)

    def read(self) -> Sequence[LogShard]:
        self.reads += 1
        if self.broken:
            raise StoreUnavailable("no database")
        return self.shards


def test_a_new_shard_is_known_within_a_second_by_one_read() -> None:
    table = Table(shard("2026"))
    assert [table.directory.taking(moment).name for moment in range(100)] == ["2026"] * 100
    table.shards = [shard("2026", 0, 50), shard("2027", 50)]
    assert table.directory.get("2027") is None
    table.at = 1.1
    assert [table.directory.taking(moment).name for moment in (49, 50)] == ["2026", "2027"]
    assert table.reads == 2


def test_what_is_known_stays_when_the_database_does_not_answer() -> None:
    table = Table(shard("2026"))
    table.broken = True
    with pytest.raises(StoreUnavailable):
        table.directory.all()
    table.broken = False
    assert table.directory.taking(1).name == "2026"
    table.broken, table.at = True, 5.0
    assert table.directory.taking(1).name == "2026"
    assert table.observer.counted == [("log_shards_not_read", {})]
    with pytest.raises(StoreUnavailable):
        table.directory.refreshed()


def test_without_an_open_shard_nothing_is_issued() -> None:
    table = Table(shard("2026", 0, 50), shard("2027", 50, frozen=True))
    with pytest.raises(LogUnavailable, match="no other is open"):
        table.directory.taking(60)


def test_trusted_root_names_every_shard_with_the_time_of_its_scts() -> None:
    spki = spki_der(log_key().public_key())
    start = int(FOUNDED.timestamp()) + 30 * DAY
    shards = [
        LogShard(LogIdentity(name, f"ca.example/ctlog/{name}", LogId(b"i" * 32), spki), period)
        for name, period in (("2026", Period(0, start)), ("2027", Period(start)))
    ]
    material = TrustMaterial(
        authorities=lambda: Authorities([authority()]),
        clock=lambda: TimestampMs(int(FOUNDED.timestamp() * 1000)),
        logs=lambda: shards,
        current_log=lambda: shards[0].identity,
        url="https://ca.example",
        organization="Example",
    )
    logs = material.trusted_root()["ctlogs"]
    assert isinstance(logs, list)
    assert [log["baseUrl"].rpartition("/")[2] for log in logs] == ["2026", "2027"]
    periods = [log["publicKey"]["validFor"] for log in logs]
    assert parse_time(periods[0]["start"]) == authority().certificate.not_valid_before_utc
    assert parse_time(periods[0]["end"]).timestamp() == start
    assert parse_time(periods[1]["start"]).timestamp() == start - DAY, "a day is the longest lifetime"
    assert "end" not in periods[1]
