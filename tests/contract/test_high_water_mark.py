"""The high-water mark rises, whole and durably, whoever moves it; a database behind it is refused."""

import multiprocessing
import queue
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ca_service.authority.guarded import GuardedRevocations, GuardedShards
from ca_service.authority.log_ports import Sequenced
from ca_service.authority.mark import LogMark, Mark
from ca_service.authority.rollback import RollbackGuard
from ca_service.authority.status_ports import CrlShard, Revocation
from ca_service.errors import AlreadyExists, CAError, MarkMissing, MarkUnavailable, RolledBack
from ca_service.files.high_water_mark import MarkFile
from ca_service.store.audit import SqlAudit
from ca_service.store.database import Database
from ca_service.store.logs import SqlLogReader
from ca_service.store.position import SqlPosition
from ca_service.store.revocations import SqlRevocations
from ca_service.store.sequencer import BatchingSequencer
from ca_service.store.shards import SqlShards
from ca_service.vocabulary import KeyId, LogId, RevocationReason, Serial, TimestampMs
from tests.support.store import ACTOR, AUTHORITY_KEY, NOW, RecordingObserver, SettableClock, TestLog, pending

LOG = LogId(b"l" * 32)


def head(size: int) -> LogMark:
    return LogMark(size, size.to_bytes(32, "big"), TimestampMs(NOW + size))


@pytest.fixture
def mark(tmp_path: Path) -> MarkFile:
    return MarkFile(tmp_path / "other volume" / "high-water.json")


# -- the file ------------------------------------------------------------------------------------------


def test_what_was_stored_is_read_by_others_whatever_is_in_it(mark: MarkFile) -> None:
    full = Mark(
        {LOG: head(7), LogId(b"m" * 32): head(300)},
        12,
        4,
        "ab" * 32,
        {(KeyId("a1" * 20), f"2026-11-{n:02x}"): n for n in range(400)},
    )
    mark.create(Mark())
    assert mark.advance(Mark(), full), "it outgrows the first size of the file"
    assert MarkFile(mark.path).read() == mark.read() == full
    assert stat.S_IMODE(mark.path.stat().st_mode) == 0o600
    with pytest.raises(AlreadyExists):
        mark.create(Mark())


def test_it_only_rises_and_only_from_what_was_seen(mark: MarkFile) -> None:
    mark.create(Mark({LOG: head(5)}, 3, 2, "cd" * 32, {(KeyId("k"), "s"): 8}))
    seen = mark.read()
    for lower in (
        seen.with_log(LOG, head(4)),
        seen.with_crl((KeyId("k"), "s"), 7),
        seen.with_administration(2, 2, "cd" * 32),
        seen.with_administration(3, 1, "cd" * 32),
        Mark(),
    ):
        with pytest.raises(ValueError, match="only rises"):
            mark.advance(seen, lower)
    other = MarkFile(mark.path)
    assert other.advance(seen, seen.with_log(LOG, head(6)))
    assert not mark.advance(seen, seen.with_log(LOG, head(9))), "another process was first"
    assert mark.read().logs[LOG] == head(6)
    mark.reset(Mark())
    assert other.read() == Mark()


def test_a_write_that_was_cut_off_leaves_what_was_there_and_damage_is_no_low_mark(mark: MarkFile) -> None:
    mark.create(Mark())
    for size in (1, 2, 3):
        assert mark.advance(mark.read(), mark.read().with_log(LOG, head(size)))
    content = mark.path.read_bytes()
    half = len(content) // 2
    newest = 0 if b'"tree_size":3' in content[:half] else half
    torn = bytearray(content)
    torn[newest + 100 : newest + 200] = b"\0" * 100
    mark.path.write_bytes(torn)
    assert MarkFile(mark.path).read().logs[LOG] == head(2)
    for damaged in (
        b"",
        b"\0" * len(content),
        content[:half],
        torn.replace(b'"tree_size":2', b'"tree_size":1'),
    ):
        mark.path.write_bytes(damaged)
        with pytest.raises(MarkUnavailable, match="damaged"):
            MarkFile(mark.path).read()


def test_every_part_that_another_process_raised_is_seen(mark: MarkFile) -> None:
    crl, pair = (KeyId("a1" * 20), "2026-11-0a"), (mark, MarkFile(mark.path))
    mark.create(Mark({LOG: head(1)}, crl_numbers={crl: 1}))
    for step in range(2, 10):
        seen = pair[0].read()
        risen = seen.with_log(LOG, head(step))
        if step % 3 == 0:
            risen = risen.with_crl(crl, step)
        assert pair[step % 2].advance(seen, risen)
        assert pair[0].read() == pair[1].read() == MarkFile(mark.path).read() == risen


def test_a_missing_mark_is_an_error_of_its_own(mark: MarkFile) -> None:
    with pytest.raises(MarkMissing):
        mark.read()
    with pytest.raises(MarkMissing):
        mark.advance(Mark(), Mark())


def climb(path: Path, steps: int) -> None:
    """Raise a log's size by one, so many times."""
    mark = MarkFile(path, lock_timeout=30)
    done = 0
    while done < steps:
        seen = mark.read()
        size = seen.logs[LOG].tree_size + 1 if LOG in seen.logs else 1
        done += mark.advance(seen, seen.with_log(LOG, head(size)))


def test_processes_that_move_it_at_once_lose_no_step(mark: MarkFile) -> None:
    mark.create(Mark())
    processes = [
        multiprocessing.get_context("spawn").Process(target=climb, args=(mark.path, 20)) for _ in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert mark.read().logs[LOG] == head(60)


# -- the guard, on each database -----------------------------------------------------------------------


@pytest.fixture
def guard(database: Database, log: TestLog, mark: MarkFile) -> RollbackGuard:
    mark.create(SqlPosition(database).whole())
    return guard_on(database, mark)


def guard_on(database: Database, mark: MarkFile) -> RollbackGuard:
    return RollbackGuard(mark, SqlPosition(database), RecordingObserver(), strict=True)


@pytest.fixture
def guarded(database: Database, log: TestLog, guard: RollbackGuard) -> Iterator[BatchingSequencer]:
    made = log.sequencer(database, guard=guard)
    yield made
    made.close()


def revocation(serial: int) -> Revocation:
    return Revocation(
        Serial(serial), AUTHORITY_KEY, "2026-09-0a", NOW // 1000, NOW // 1000, RevocationReason.SUPERSEDED
    )


def shard(number: int) -> CrlShard:
    return CrlShard(AUTHORITY_KEY, "2026-09-0a", "http://x", 0, 0, number, 0, 0, 0, b"crl")


def test_the_mark_has_everything_that_was_released(
    database: Database, guarded: BatchingSequencer, guard: RollbackGuard, mark: MarkFile, clock: SettableClock
) -> None:
    for count in (1, 2, 3):
        guarded.append(pending())
        assert [seen.tree_size for seen in mark.read().logs.values()] == [count]
    revocations = GuardedRevocations(SqlRevocations(database, clock), guard)
    revocations.revoke([revocation(5)], ACTOR, "revoke-certificate")
    shards = GuardedShards(SqlShards(database), guard)
    shards.create(shard(1))
    assert mark.read() == SqlPosition(database).whole()
    assert revocations.generation() == mark.read().generation == 1
    guard.check()


class SlowVolume(MarkFile):
    """A mark whose volume takes nothing until it is told to, and fails when it is told so."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.asked = threading.Semaphore(0)
        self.goes_on = threading.Event()
        self.broken = False

    def change(self, made: Callable[[Mark], Mark]) -> None:
        self.asked.release()
        assert self.goes_on.wait(60)
        if self.broken:
            raise MarkUnavailable("the volume is gone", retry_after=5)
        super().change(made)


@pytest.mark.parametrize("broken", [False, True])
def test_batches_are_stored_while_the_mark_rises_and_none_is_released_before_it(
    database: Database, log: TestLog, mark: MarkFile, broken: bool
) -> None:
    mark.create(SqlPosition(database).whole())
    slow = SlowVolume(mark.path)
    slow.broken = broken
    sequencer = log.sequencer(database, guard=guard_on(database, slow), timeout=60)
    answers: queue.SimpleQueue[Sequenced | CAError] = queue.SimpleQueue()

    def append() -> None:
        try:
            answers.put(sequencer.append(pending()))
        except CAError as error:
            answers.put(error)

    callers = [threading.Thread(target=append) for _ in range(5)]
    callers[0].start()
    assert slow.asked.acquire(timeout=60), "the first batch is stored and waits for the mark"
    reader = SqlLogReader(database, log.identity.shard)
    for stored, caller in enumerate(callers[1:], 2):
        caller.start()
        deadline = time.monotonic() + 60
        while reader.head().tree_size < stored:
            assert time.monotonic() < deadline, "the next batch waits for the mark of the one before"
            time.sleep(0.01)
    assert answers.empty(), "something was released that the mark did not know"
    assert mark.read().logs[log.identity.log_id].tree_size == 0
    slow.goes_on.set()
    got = [answers.get(timeout=60) for _ in callers]
    sequencer.close()
    if broken:
        assert all(isinstance(answer, MarkUnavailable) for answer in got)
    else:
        assert sorted(answer.leaf_index for answer in got if isinstance(answer, Sequenced)) == list(range(5))
        assert mark.read().logs[log.identity.log_id].tree_size == 5
        assert slow.asked.acquire(timeout=60)
        assert not slow.asked.acquire(blocking=False), "one write is enough for all that waited"


def test_workers_of_one_service_share_the_mark(
    database: Database, log: TestLog, guarded: BatchingSequencer, mark: MarkFile
) -> None:
    other = log.sequencer(database, guard=guard_on(database, MarkFile(mark.path)))
    for each in (guarded, guarded, other, guarded, other, other, guarded):
        each.append(pending())
    other.close()
    assert [seen.tree_size for seen in mark.read().logs.values()] == [7]


@pytest.mark.parametrize("ahead", ["log", "fork", "generation", "audit", "other audit", "crl", "unknown log"])
def test_a_database_behind_the_mark_signs_nothing_and_the_reason_is_told(
    database: Database,
    log: TestLog,
    guarded: BatchingSequencer,
    guard: RollbackGuard,
    mark: MarkFile,
    clock: SettableClock,
    ahead: str,
) -> None:
    guarded.append(pending())
    SqlAudit(database, clock).append(ACTOR, "noted", {})
    guard.catch_up()
    seen, log_id = mark.read(), log.identity.log_id
    higher, says = {
        "log": (seen.with_log(log_id, head(9)), "had 9 entries"),
        "fork": (seen.with_log(log_id, head(1)), "hold different entries"),
        "generation": (seen.with_administration(4, 1, seen.audit_hash), "had come to 4; the database has 0"),
        "audit": (seen.with_administration(0, 6, "ee" * 32), "audit trail had come to 6"),
        "other audit": (seen.with_administration(0, 1, "ee" * 32), "audit record 1 had the hash eeee"),
        "crl": (seen.with_crl((AUTHORITY_KEY, "2026-09-0a"), 3), "was published with number 3"),
        "unknown log": (seen.with_log(LOG, head(2)), "the database has no such log"),
    }[ahead]
    mark.reset(higher)

    fresh = guard_on(database, mark)
    revocations = GuardedRevocations(SqlRevocations(database, clock), fresh)
    shards = GuardedShards(SqlShards(database), fresh)
    with pytest.raises(RolledBack, match=says):
        fresh.check()
    for refused in (
        lambda: revocations.generation(),
        lambda: revocations.revoke([revocation(5)], ACTOR, "revoke-certificate"),
        lambda: shards.create(shard(1)),
        lambda: shards.rebuild(AUTHORITY_KEY, "2026-09-0a", lambda *_: None),
        lambda: fresh.refuse_when_behind(),
        lambda: fresh.catch_up(),
    ):
        with pytest.raises(RolledBack, match=says):
            refused()
    sequencer = log.sequencer(database, guard=fresh)
    with pytest.raises(RolledBack, match=says):
        sequencer.append(pending())
    sequencer.close()
    assert mark.read() == higher

    mark.reset(SqlPosition(database).whole())
    assert revocations.generation() == 0, "a mark that was put right is noticed without a restart"


def test_an_older_list_than_was_published_is_not_served(
    database: Database, guard: RollbackGuard, mark: MarkFile
) -> None:
    shards = GuardedShards(SqlShards(database), guard)
    shards.create(shard(2))
    mark.reset(mark.read().with_crl((AUTHORITY_KEY, "2026-09-0a"), 3))
    with pytest.raises(RolledBack, match="published with number 3; the database has number 2"):
        shards.get(AUTHORITY_KEY, "2026-09-0a")


def test_two_databases_with_one_log_key_and_one_mark_do_not_both_go_on(
    database: Database, log: TestLog, guarded: BatchingSequencer, mark: MarkFile, tmp_path: Path
) -> None:
    copy = Database("sqlite:///copy/ca.db", folder=tmp_path)
    copy.migrate()
    log.create(copy)
    second = log.sequencer(copy, guard=guard_on(copy, MarkFile(mark.path)))
    guarded.append(pending())
    with pytest.raises(RolledBack):
        second.append(pending())
    guarded.append(pending())
    second.close()
    copy.close()


def test_a_relaxed_guard_makes_a_missing_mark_and_a_strict_one_refuses(
    database: Database, log: TestLog, mark: MarkFile
) -> None:
    with pytest.raises(MarkMissing):
        guard_on(database, mark).check()
    RollbackGuard(mark, SqlPosition(database), RecordingObserver(), strict=False).check()
    assert mark.read() == SqlPosition(database).whole()
