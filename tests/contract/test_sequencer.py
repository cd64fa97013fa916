"""log_ports.Sequencer: durable before it returns, or not at all."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from ca_service.authority.log_ports import PendingCertificate, Sequenced
from ca_service.authority.status_ports import Block
from ca_service.errors import (
    CAError,
    ClockBehind,
    ConfigurationError,
    IdentityBlocked,
    IdentityRefused,
    LogBusy,
    LogUnavailable,
)
from ca_service.pki.sct import precertificate_leaf
from ca_service.store.blocks import SqlBlocks
from ca_service.store.database import Database
from ca_service.store.issued import SqlIssuedCertificates
from ca_service.store.logs import SqlLogReader
from ca_service.store.sequencer import BatchingSequencer
from ca_service.vocabulary import format_serial
from tests.support.store import ACTOR, CHAIN, NOW, SettableClock, TestLog, audit_log, pending


def outcomes(sequencer: BatchingSequencer, entries: list[PendingCertificate]) -> list[Sequenced | CAError]:
    """Append all at once, from as many threads, so that they share batches."""

    def one(entry: PendingCertificate) -> Sequenced | CAError:
        try:
            return sequencer.append(entry)
        except CAError as error:
            return error

    with ThreadPoolExecutor(max_workers=len(entries)) as threads:
        return list(threads.map(one, entries))


def test_what_is_returned_is_in_the_log_as_it_was_returned(
    sequencer: BatchingSequencer, reader: SqlLogReader, log: TestLog, clock: SettableClock
) -> None:
    for expected in range(3):
        clock.now += 7
        entry = pending()
        sequenced = sequencer.append(entry)
        assert sequenced.leaf_index == expected
        assert sequenced.timestamp == clock.now
        assert sequenced.log_id == log.identity.log_id
        assert sequenced.leaf == precertificate_leaf(clock.now, expected, entry.issuer_key_hash, entry.tbs)
        (stored,) = reader.entries(expected, expected + 1)
        assert (stored.leaf, stored.precertificate, stored.chain) == (
            sequenced.leaf, entry.precertificate, CHAIN
        )  # fmt: skip
        assert reader.head().tree_size == expected + 1
    audit_log(reader, log)


def test_the_issued_row_is_there_when_append_returns(
    sequencer: BatchingSequencer, database: Database
) -> None:
    entry = pending("Dev@Example.com")
    sequenced = sequencer.append(entry)
    stored = SqlIssuedCertificates(database).by_serial(entry.serial)
    assert stored is not None
    assert (stored.log_shard, stored.leaf_index) == ("2026", sequenced.leaf_index)
    assert (stored.subject, stored.key_sha256, stored.crl_shard) == (
        entry.subject, entry.key_sha256, entry.crl_shard
    )  # fmt: skip


def test_many_at_once_each_get_an_index_of_their_own_across_full_tiles(
    sequencer: BatchingSequencer, reader: SqlLogReader, log: TestLog
) -> None:
    results = outcomes(sequencer, [pending() for _ in range(600)])
    assert sorted(result.leaf_index for result in results if isinstance(result, Sequenced)) == list(
        range(600)
    )
    for result in results:
        assert isinstance(result, Sequenced)
        assert reader.entries(result.leaf_index, result.leaf_index + 1)[0].leaf == result.leaf
    assert audit_log(reader, log).tree_size == 600


def test_two_processes_worth_of_sequencers_share_one_log(
    database: Database, reader: SqlLogReader, log: TestLog
) -> None:
    pair = [log.sequencer(database), log.sequencer(database)]
    with ThreadPoolExecutor(max_workers=2) as threads:
        results = list(threads.map(lambda one: outcomes(one, [pending() for _ in range(40)]), pair))
    indexes = [item.leaf_index for result in results for item in result if isinstance(item, Sequenced)]
    assert sorted(indexes) == list(range(80))
    audit_log(reader, log)
    for one in pair:
        one.close()


def test_a_block_stops_its_entries_inside_the_batch_and_no_others(
    sequencer: BatchingSequencer, database: Database, clock: SettableClock, reader: SqlLogReader, log: TestLog
) -> None:
    sequencer.append(pending("stolen@example.com"))
    blocks = SqlBlocks(database, clock)
    block = blocks.add(Block(subject="STOLEN@*"), ACTOR)
    names = ["stolen@example.com", "other@example.com"] * 10
    results = outcomes(sequencer, [pending(name) for name in names])
    for name, result in zip(names, results, strict=True):
        assert isinstance(result, IdentityBlocked if name.startswith("stolen") else Sequenced), result
    assert audit_log(reader, log).tree_size == 11
    blocks.remove(block.number, "", ACTOR)
    assert sequencer.append(pending("stolen@example.com")).leaf_index == 11


def test_a_serial_that_is_there_fails_alone(
    sequencer: BatchingSequencer, reader: SqlLogReader, log: TestLog
) -> None:
    sequencer.append(pending(serial=77))
    results = outcomes(sequencer, [pending(serial=77), *(pending() for _ in range(20))])
    assert isinstance(results[0], LogUnavailable)
    assert all(isinstance(result, Sequenced) for result in results[1:])
    assert audit_log(reader, log).tree_size == 21


def test_an_entry_that_the_database_refuses_fails_alone(
    sequencer: BatchingSequencer, reader: SqlLogReader, log: TestLog
) -> None:
    refused = replace(pending(), not_after=1 << 63)
    results = outcomes(sequencer, [refused, *(pending() for _ in range(20))])
    assert isinstance(results[0], LogUnavailable)
    assert f"could not store the certificate {format_serial(refused.serial)}" in results[0].message
    assert "the database refused a row" in results[0].message
    assert all(isinstance(result, Sequenced) for result in results[1:])
    assert audit_log(reader, log).tree_size == 20


def test_the_same_serial_twice_in_one_batch_is_stored_once(
    sequencer: BatchingSequencer, reader: SqlLogReader, log: TestLog
) -> None:
    results = outcomes(sequencer, [pending(serial=78) for _ in range(8)])
    assert sum(isinstance(result, Sequenced) for result in results) == 1
    assert audit_log(reader, log).tree_size == 1


def test_a_clock_a_little_behind_is_carried_and_one_far_behind_stops_the_log(
    sequencer: BatchingSequencer, clock: SettableClock, reader: SqlLogReader, log: TestLog
) -> None:
    sequencer.append(pending())
    clock.now = NOW - 1_999
    assert sequencer.append(pending()).timestamp == NOW
    clock.now = NOW - 2_001
    with pytest.raises(ClockBehind, match="2001 ms behind"):
        sequencer.append(pending())
    with pytest.raises(ClockBehind):
        sequencer.republish(0)
    assert audit_log(reader, log).tree_size == 2


def test_an_idle_log_gets_a_fresh_head_over_the_same_tree(
    sequencer: BatchingSequencer, clock: SettableClock, reader: SqlLogReader, log: TestLog
) -> None:
    sequencer.append(pending())
    before = reader.head()
    clock.now += 3_600_000
    assert sequencer.republish() is None
    clock.now += 1
    fresh = sequencer.republish()
    assert fresh == reader.head()
    assert fresh is not None
    log.verify(fresh)
    assert (fresh.timestamp, fresh.root_hash, fresh.tree_size) == (clock.now, before.root_hash, 1)


def test_a_full_queue_says_busy_and_when_to_come_back(
    database: Database, log: TestLog, reader: SqlLogReader
) -> None:
    sequencer = log.sequencer(database, queue_size=4, batch_size=2)
    with ThreadPoolExecutor(max_workers=12) as threads:
        with database.writing() as connection:
            connection.exec_driver_sql("UPDATE tree_heads SET frozen = frozen")
            tried = [threads.submit(sequencer.append, pending()) for _ in range(12)]
            while sum(one.done() for one in tried) < 6:  # two are being written and four wait
                time.sleep(0.01)
        errors = [one.exception() for one in tried]
    refused = [error for error in errors if error is not None]
    assert all(isinstance(error, LogBusy) and error.retry_after for error in refused), refused
    assert 6 <= len(refused) <= 8
    assert audit_log(reader, log).tree_size == 12 - len(refused)
    sequencer.close()


def test_a_holder_of_the_lock_who_never_lets_go_makes_the_log_unavailable(
    database: Database, database_url: str, log: TestLog, reader: SqlLogReader, tmp_path: Path
) -> None:
    impatient = Database(database_url, folder=tmp_path, lock_timeout=0.5)
    sequencer = log.sequencer(impatient)
    with database.writing() as connection:
        connection.exec_driver_sql("UPDATE tree_heads SET frozen = frozen")
        with pytest.raises(LogUnavailable) as told:
            sequencer.append(pending())
        assert told.value.retry_after
    sequencer.close()
    impatient.close()
    assert audit_log(reader, log).tree_size == 0
    sequencer = log.sequencer(database)
    sequencer.append(pending())
    assert audit_log(reader, log).tree_size == 1
    sequencer.close()


def test_a_caller_in_a_hurry_is_told_though_the_log_would_wait_longer(
    database: Database, sequencer: BatchingSequencer, reader: SqlLogReader
) -> None:
    with database.writing() as connection:
        connection.exec_driver_sql("UPDATE tree_heads SET frozen = frozen")
        with pytest.raises(LogUnavailable, match=r"within 0\.1 s"):
            sequencer.append(pending(), within=0.1)
    sequencer.append(pending(), within=60)
    assert reader.head().tree_size in (1, 2), "the first may have been on its way already"


def test_who_gave_up_keeps_nobody_of_the_same_batch_waiting(
    database: Database, log: TestLog, reader: SqlLogReader
) -> None:
    sequencer = log.sequencer(database, timeout=60)
    with ThreadPoolExecutor(max_workers=8) as threads:
        with database.writing() as connection:
            connection.exec_driver_sql("UPDATE tree_heads SET frozen = frozen")
            with pytest.raises(LogUnavailable):
                sequencer.append(pending(), within=0.1)
            patient = [threads.submit(sequencer.append, pending()) for _ in range(8)]
        indexes = {one.result().leaf_index for one in patient}
    sequencer.close()
    assert len(indexes) == 8
    assert audit_log(reader, log).tree_size in (8, 9), "the first was on its way when its caller went"


def test_an_entry_nobody_waits_for_any_more_is_not_logged_later(
    database: Database, log: TestLog, reader: SqlLogReader
) -> None:
    sequencer = log.sequencer(database, timeout=0.2, batch_size=1)
    with database.writing() as connection:
        connection.exec_driver_sql("UPDATE tree_heads SET frozen = frozen")
        results = outcomes(sequencer, [pending() for _ in range(6)])
        assert all(isinstance(result, LogUnavailable) for result in results), results
    sequencer.close()
    assert audit_log(reader, log).tree_size <= 1


def test_a_frozen_log_takes_no_entries(
    sequencer: BatchingSequencer, database: Database, reader: SqlLogReader
) -> None:
    sequencer.append(pending())
    with database.writing() as connection:
        connection.exec_driver_sql("UPDATE tree_heads SET frozen = true")
    with pytest.raises(LogUnavailable, match="frozen"):
        sequencer.append(pending())
    assert reader.head().tree_size == 1


def test_an_identity_that_no_row_can_hold_is_refused_and_a_long_one_is_kept(
    sequencer: BatchingSequencer, database: Database
) -> None:
    for entry in (pending("a\0b"), pending(oidc_subject="a\0b"), pending("x" * 2_001)):
        with pytest.raises(IdentityRefused):
            sequencer.append(entry)
    longest = pending("ü" * 1_000)
    sequencer.append(longest)
    stored = SqlIssuedCertificates(database).by_serial(longest.serial)
    assert stored is not None
    assert stored.subject == longest.subject


def test_a_log_key_other_than_the_stored_one_is_a_configuration_error(
    database: Database, log: TestLog, reader: SqlLogReader
) -> None:
    for wrong, why in ((TestLog("2026"), "another key"), (TestLog("2027"), "no log of shard 2027")):
        sequencer = wrong.sequencer(database)
        with pytest.raises(ConfigurationError, match=why):
            sequencer.append(pending())
        sequencer.close()
    assert reader.head().tree_size == 0
