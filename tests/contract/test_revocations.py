"""status_ports.Revocations: stricter, never looser; counted, audited, and in step with the log."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from ca_service.authority.status_ports import Block, CertificateStatus, CrlShard, Revocation
from ca_service.errors import StoreUnavailable
from ca_service.store.audit import SqlAudit
from ca_service.store.blocks import SqlBlocks
from ca_service.store.database import Database
from ca_service.store.revocations import SqlRevocations
from ca_service.store.sequencer import BatchingSequencer
from ca_service.store.shards import SqlShards
from ca_service.vocabulary import KeyId, RevocationReason, Serial
from tests.support.store import ACTOR, AUTHORITY_KEY, NOW, SettableClock, TestLog, pending

SECOND = NOW // 1000
SHARD = "2026-09-0a"


def revocation(serial: int, **changes: object) -> Revocation:
    made = Revocation(
        Serial(serial), AUTHORITY_KEY, SHARD, SECOND, SECOND + 50, RevocationReason.UNSPECIFIED, "said"
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # tests change what the class has


@pytest.fixture
def revocations(database: Database, log: TestLog, clock: SettableClock) -> SqlRevocations:
    """The adapter, on a database that has a log."""
    return SqlRevocations(database, clock)


def test_status_tells_issued_and_revoked_apart(
    revocations: SqlRevocations, sequencer: BatchingSequencer
) -> None:
    entry = pending()
    assert revocations.status(AUTHORITY_KEY, entry.serial) == CertificateStatus(False, None)
    sequencer.append(entry)
    assert revocations.status(AUTHORITY_KEY, entry.serial) == CertificateStatus(True, None)
    assert revocations.status(KeyId("b2" * 20), entry.serial) == CertificateStatus(False, None)
    wanted = revocation(entry.serial)
    assert revocations.revoke([wanted], ACTOR, "revoke") == [wanted]
    assert revocations.status(AUTHORITY_KEY, entry.serial) == CertificateStatus(True, wanted)
    assert revocations.status(KeyId("b2" * 20), entry.serial) == CertificateStatus(False, None)


def test_every_change_moves_the_generation_and_nothing_else_does(
    revocations: SqlRevocations, sequencer: BatchingSequencer, database: Database, clock: SettableClock
) -> None:
    before = revocations.generation()
    sequencer.append(pending())
    SqlBlocks(database, clock).add(Block(subject="x"), ACTOR)
    assert revocations.generation() == before
    assert revocations.revoke([], ACTOR, "revoke") == []
    assert revocations.generation() == before
    revocations.revoke([revocation(1), revocation(2)], ACTOR, "revoke")
    after = revocations.generation()
    assert after > before
    revocations.revoke([revocation(1), revocation(2)], ACTOR, "revoke")
    assert revocations.generation() == after
    revocations.revoke([revocation(2), revocation(3)], ACTOR, "revoke")
    assert revocations.generation() > after
    assert SqlAudit(database, clock).verify().sequence == 3


@pytest.mark.parametrize(
    ("second", "stands"),
    [
        ({"revocation_date": SECOND - 5}, {"revocation_date": SECOND - 5}),
        ({"revocation_date": SECOND + 5}, {}),
        ({"reason": RevocationReason.KEY_COMPROMISE}, {"reason": RevocationReason.KEY_COMPROMISE}),
        (
            {"reason": RevocationReason.KEY_COMPROMISE, "revocation_date": SECOND + 5},
            {"reason": RevocationReason.KEY_COMPROMISE},
        ),
        ({"comment": "other"}, {}),
        ({"revoked_at": SECOND + 999}, {}),
        ({"revocation_date": SECOND - 5, "comment": ""}, {"revocation_date": SECOND - 5}),
    ],
)
def test_a_second_revocation_makes_it_stricter_or_changes_nothing(
    revocations: SqlRevocations, second: dict[str, object], stands: dict[str, object]
) -> None:
    first = revocation(7)
    revocations.revoke([first], ACTOR, "revoke")
    expected = revocation(7, **stands)
    changed = revocations.revoke([revocation(7, **second)], ACTOR, "revoke")
    assert changed == ([expected] if stands else [])
    assert revocations.status(AUTHORITY_KEY, Serial(7)).revocation == expected


def test_a_compromise_is_graver_than_another_reason(revocations: SqlRevocations) -> None:
    revocations.revoke([revocation(18, reason=RevocationReason.SUPERSEDED)], ACTOR, "revoke")
    graver = revocation(18, reason=RevocationReason.KEY_COMPROMISE)
    assert revocations.revoke([graver], ACTOR, "revoke") == [graver]
    assert revocations.status(AUTHORITY_KEY, Serial(18)).revocation == graver


def test_a_reason_once_given_is_not_replaced_by_one_no_graver(revocations: SqlRevocations) -> None:
    first = revocation(8, reason=RevocationReason.KEY_COMPROMISE)
    revocations.revoke([first], ACTOR, "revoke")
    for reason in (RevocationReason.UNSPECIFIED, RevocationReason.SUPERSEDED):
        assert revocations.revoke([revocation(8, reason=reason)], ACTOR, "revoke") == []
    assert revocations.status(AUTHORITY_KEY, Serial(8)).revocation == first


def test_a_serial_named_twice_in_one_call_is_one_revocation(revocations: SqlRevocations) -> None:
    changed = revocations.revoke([revocation(9), revocation(9, revocation_date=SECOND - 1)], ACTOR, "revoke")
    assert changed == [revocation(9, revocation_date=SECOND - 1)]


def test_each_touched_shard_becomes_due_once(revocations: SqlRevocations, database: Database) -> None:
    shards = SqlShards(database)
    for name in ("a", "b", "c"):
        shards.create(CrlShard(AUTHORITY_KEY, name, f"http://x/{name}", SECOND, 0, 1, 0, 1, 2, b"crl"))
    revocations.revoke(
        [revocation(1, crl_shard="a"), revocation(2, crl_shard="a"), revocation(3, crl_shard="b")],
        ACTOR,
        "revoke",
    )
    assert {shard.name: shard.generation for shard in shards.all()} == {"a": 1, "b": 1, "c": 0}


def test_a_thousand_at_once_are_one_change_and_fully_audited(
    revocations: SqlRevocations, database: Database, clock: SettableClock
) -> None:
    before = revocations.generation()
    wanted = [revocation(serial) for serial in range(1, 1_001)]
    assert set(revocations.revoke(wanted, ACTOR, "revoke")) == set(wanted)
    assert revocations.generation() == before + 1
    records = SqlAudit(database, clock).records()
    named = [item["serial"] for record in records for item in json.loads(record.detail)["revocations"]]
    assert sorted(int(serial, 16) for serial in named) == list(range(1, 1_001))
    assert SqlAudit(database, clock).verify().sequence == len(records)


def test_revoking_in_many_threads_loses_nothing(
    revocations: SqlRevocations, sequencer: BatchingSequencer, database: Database, clock: SettableClock
) -> None:
    before = revocations.generation()

    def one(serial: int) -> None:
        sequencer.append(pending())
        revocations.revoke([revocation(serial)], ACTOR, "revoke")

    with ThreadPoolExecutor(max_workers=8) as threads:
        list(threads.map(one, range(1, 41)))
    assert revocations.generation() == before + 40
    assert all(revocations.status(AUTHORITY_KEY, Serial(serial)).revocation for serial in range(1, 41))
    assert SqlAudit(database, clock).verify().sequence == 40


def test_a_writer_who_never_lets_go_is_an_error_of_the_store(
    database: Database, database_url: str, log: TestLog, clock: SettableClock, tmp_path: Path
) -> None:
    impatient = Database(database_url, folder=tmp_path, lock_timeout=0.5)
    revocations = SqlRevocations(impatient, clock)
    with database.writing() as connection:
        connection.exec_driver_sql("UPDATE tree_heads SET frozen = frozen")
        with pytest.raises(StoreUnavailable):
            revocations.revoke([revocation(1)], ACTOR, "revoke")
        assert revocations.generation() == 0
    impatient.close()
