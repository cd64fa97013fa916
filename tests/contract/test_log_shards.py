"""Shards follow one another without a gap and without an entry in the wrong one, on every database."""

import json
import threading
from collections.abc import Iterator

import pytest

from ca_service.authority.log import first_tree_head
from ca_service.authority.log_shards import LogShard, Period, ShardDirectory, ShardedSequencer, ShardState
from ca_service.errors import AlreadyExists, InvalidRequest, LogClosed, LogUnavailable, NotFound
from ca_service.merkle.tree import EMPTY_ROOT
from ca_service.store.audit import SqlAudit
from ca_service.store.database import Database
from ca_service.store.log_shards import SqlLogShards
from ca_service.store.logs import SqlLogReader
from ca_service.store.sequencer import BatchingSequencer
from ca_service.vocabulary import TimestampMs
from tests.support.store import (
    ACTOR,
    NOW,
    RecordingObserver,
    SettableClock,
    TestLog,
    audit_log,
    pending,
)

SECONDS = NOW // 1000
WEEK = 7 * 86_400


@pytest.fixture
def shards(database: Database, clock: SettableClock) -> SqlLogShards:
    return SqlLogShards(database, clock)


@pytest.fixture
def following() -> TestLog:
    return TestLog("2027")


def opened(shards: SqlLogShards, log: TestLog, starts: int, now: int = NOW) -> LogShard:
    head = first_tree_head(log.identity, TimestampMs(now), log.sign)
    return shards.open(log.identity, head, starts, ACTOR)


def periods(shards: SqlLogShards) -> dict[str, Period]:
    return {shard.name: shard.period for shard in shards.all()}


class Sharded:
    """Two logs behind one sequencer, as a worker process has them."""

    def __init__(self, database: Database, clock: SettableClock, *logs: TestLog) -> None:
        self.seconds = 0.0
        self.logs = {log.identity.shard: log for log in logs}
        self.observer = RecordingObserver()
        self.directory = ShardDirectory(
            SqlLogShards(database, clock).all, lambda: self.seconds, self.observer
        )
        self.sequencer = ShardedSequencer(
            self.directory, lambda shard: self.logs[shard.name].sequencer(database, clock)
        )


@pytest.fixture
def sharded(database: Database, clock: SettableClock, log: TestLog, following: TestLog) -> Iterator[Sharded]:
    made = Sharded(database, clock, log, following)
    yield made
    made.sequencer.close()


def test_a_new_shard_ends_the_period_of_the_one_before_it_and_is_recorded(
    database: Database, log: TestLog, following: TestLog, shards: SqlLogShards, clock: SettableClock
) -> None:
    assert shards.all() == [LogShard(log.identity)]
    second = opened(shards, following, SECONDS + WEEK)
    assert shards.all() == [LogShard(log.identity, Period(0, SECONDS + WEEK)), second]
    assert second == LogShard(following.identity, Period(SECONDS + WEEK))
    assert [shard.state(SECONDS + 600) for shard in shards.all()] == [ShardState.ACTIVE, ShardState.PREPARED]
    assert [shard.state(SECONDS + WEEK) for shard in shards.all()] == [ShardState.ENDED, ShardState.ACTIVE]
    head = SqlLogReader(database, "2027").head()
    assert (head.tree_size, head.root_hash) == (0, EMPTY_ROOT)
    following.verify(head)
    (record,) = SqlAudit(database, clock).records()
    detail = json.loads(record.detail)
    assert (record.action, record.actor, detail["shard"]) == ("log-open", ACTOR, "2027")


def test_each_entry_goes_into_the_shard_of_its_not_after(
    database: Database, log: TestLog, following: TestLog, shards: SqlLogShards, sharded: Sharded
) -> None:
    start = SECONDS + WEEK
    opened(shards, following, start)
    into = {}
    for not_before in (SECONDS, start - 601, start - 600, start + 10):
        into[not_before + 600] = sharded.sequencer.append(pending(not_before=not_before))
    assert {expires: put.log_id for expires, put in into.items()} == {
        SECONDS + 600: log.identity.log_id,
        start - 1: log.identity.log_id,
        start: following.identity.log_id,
        start + 610: following.identity.log_id,
    }
    assert [put.leaf_index for put in into.values()] == [0, 1, 0, 1]
    for each in (log, following):
        assert audit_log(SqlLogReader(database, each.identity.shard), each).tree_size == 2


def test_a_worker_that_knows_the_old_periods_puts_nothing_into_the_wrong_shard(
    log: TestLog, following: TestLog, shards: SqlLogShards, sharded: Sharded, database: Database
) -> None:
    assert sharded.sequencer.append(pending()).log_id == log.identity.log_id
    opened(shards, following, SECONDS)  # in an emergency: from now on
    assert [shard.name for shard in sharded.directory.all()] == ["2026"], "it does not know yet"
    put = sharded.sequencer.append(pending(not_before=SECONDS + 1))
    assert (put.log_id, put.leaf_index) == (following.identity.log_id, 0)
    stale = log.sequencer(database)
    with pytest.raises(LogClosed, match="expires"):
        stale.append(pending(not_before=SECONDS + 1))
    stale.close()


def test_a_shard_that_starts_at_once_starts_after_what_was_issued(
    log: TestLog, following: TestLog, shards: SqlLogShards, sequencer: BatchingSequencer
) -> None:
    sequencer.append(pending(not_before=SECONDS))
    sequencer.append(pending(not_before=SECONDS - 5))
    second = opened(shards, following, SECONDS)
    assert second.period == Period(SECONDS + 601)
    assert periods(shards)["2026"] == Period(0, SECONDS + 601)


def test_a_prepared_shard_can_be_moved_until_it_begins(
    log: TestLog, following: TestLog, shards: SqlLogShards, clock: SettableClock, sharded: Sharded
) -> None:
    opened(shards, following, SECONDS + WEEK)
    for start in (SECONDS + 2 * WEEK, SECONDS + 1000):
        assert shards.move("2027", start, ACTOR).period == Period(start)
        assert periods(shards) == {"2026": Period(0, start), "2027": Period(start)}
    with pytest.raises(InvalidRequest, match="has begun"):
        shards.move("2026", SECONDS + 5, ACTOR)
    sharded.sequencer.append(pending(not_before=SECONDS + 1000))
    with pytest.raises(InvalidRequest, match="has entries"):
        shards.move("2027", SECONDS + WEEK, ACTOR)
    with pytest.raises(NotFound, match="it has 2026, 2027"):
        shards.move("2028", SECONDS + WEEK, ACTOR)


def test_a_shard_between_two_others_takes_the_time_between(
    log: TestLog, following: TestLog, shards: SqlLogShards
) -> None:
    opened(shards, following, SECONDS + WEEK)
    between = TestLog("2026-2")
    opened(shards, between, SECONDS + 100)
    assert periods(shards) == {
        "2026": Period(0, SECONDS + 100),
        "2026-2": Period(SECONDS + 100, SECONDS + WEEK),
        "2027": Period(SECONDS + WEEK),
    }
    with pytest.raises(AlreadyExists, match="another shard starts"):
        opened(shards, TestLog("other"), SECONDS + WEEK)
    with pytest.raises(AlreadyExists, match="2027"):
        opened(shards, TestLog("2027"), SECONDS + 2 * WEEK)
    assert len(shards.all()) == 3, "what failed left nothing"


def test_a_frozen_shard_has_a_final_head_and_takes_nothing(
    database: Database,
    log: TestLog,
    following: TestLog,
    shards: SqlLogShards,
    clock: SettableClock,
    sequencer: BatchingSequencer,
) -> None:
    sequencer.append(pending())
    with pytest.raises(InvalidRequest, match="until the next one starts"):
        shards.freeze("2026", log.sign, ACTOR)
    opened(shards, following, SECONDS + WEEK)
    with pytest.raises(InvalidRequest, match="goes on until 2026-"):
        shards.freeze("2026", log.sign, ACTOR)
    clock.now += WEEK * 1000
    final = shards.freeze("2026", log.sign, ACTOR)
    assert (final.tree_size, final.timestamp) == (1, clock.now)
    assert audit_log(SqlLogReader(database, "2026"), log) == final
    clock.now += 5000

    def no_key(_: bytes) -> bytes:
        raise AssertionError("a final head is signed once")

    assert shards.freeze("2026", no_key, ACTOR) == final
    for refused in (lambda: sequencer.append(pending()), lambda: sequencer.republish(older_than_ms=0)):
        with pytest.raises(LogClosed, match="frozen"):
            refused()
    assert SqlLogReader(database, "2026").head() == final


def test_a_retired_shard_is_closed_at_once_and_signs_nothing_more(
    database: Database,
    log: TestLog,
    following: TestLog,
    shards: SqlLogShards,
    sharded: Sharded,
) -> None:
    sharded.sequencer.append(pending())
    before = SqlLogReader(database, "2026").head()
    with pytest.raises(InvalidRequest, match="say why"):
        shards.retire("2026", " ", ACTOR)
    shards.retire("2026", "an old backup was restored", ACTOR)
    assert SqlLogReader(database, "2026").head() == before
    (shard,) = shards.all()
    assert (shard.state(SECONDS), shard.retired_for) == (ShardState.RETIRED, "an old backup was restored")
    with pytest.raises(LogUnavailable, match="no other is open"):
        sharded.sequencer.append(pending())
    second = opened(shards, following, SECONDS)
    assert second.period == Period(SECONDS)
    sharded.directory.refreshed()
    assert sharded.sequencer.append(pending()).log_id == following.identity.log_id
    with pytest.raises(InvalidRequest, match="closed already"):
        shards.retire("2026", "again", ACTOR)


def test_no_entry_is_lost_or_astray_when_shards_change_under_load(
    database: Database,
    log: TestLog,
    following: TestLog,
    shards: SqlLogShards,
    clock: SettableClock,
    sharded: Sharded,
) -> None:
    other_worker = Sharded(database, clock, log, following)
    put: list[tuple[int, bytes, int]] = []
    stop = threading.Event()

    def fill(worker: Sharded) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            entry = pending(not_before=clock.now // 1000)
            sequenced = worker.sequencer.append(entry)
            put.append((entry.not_after, sequenced.log_id, sequenced.leaf_index))
            if number > 4000:
                return

    threads = [threading.Thread(target=fill, args=(worker,)) for worker in (sharded, other_worker) * 2]
    for thread in threads:
        thread.start()
    while len(put) < 60:
        clock.now += 10
    second = opened(shards, following, clock.now // 1000, clock.now)
    while len({log_id for _, log_id, _ in put}) < 2:
        clock.now += 10
        if not any(thread.is_alive() for thread in threads):
            break
    stop.set()
    for thread in threads:
        thread.join()
    other_worker.sequencer.close()
    sharded.sequencer.close()
    for each in (log, following):
        of_log = [(expires, index) for expires, log_id, index in put if log_id == each.identity.log_id]
        assert of_log
        assert {expires >= second.period.starts for expires, _ in of_log} == {each is following}
        assert sorted(index for _, index in of_log) == list(range(len(of_log)))
        assert audit_log(SqlLogReader(database, each.identity.shard), each).tree_size == len(of_log)
