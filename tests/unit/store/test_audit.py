"""The audit records form a chain: no change, gap or swap goes unseen."""

from dataclasses import replace
from pathlib import Path

import pytest

from ca_service.authority.audit import AuditRecord, canonical_json, verify
from ca_service.authority.ports import Actor
from ca_service.store.audit import SqlAudit
from ca_service.store.database import Database
from tests.support.store import ACTOR, SettableClock


@pytest.fixture
def records(tmp_path: Path) -> list[AuditRecord]:
    """Five records as they were stored."""
    database = Database("sqlite:///ca.db", folder=tmp_path)
    database.migrate()
    audit = SqlAudit(database, SettableClock())
    assert audit.head().sequence == audit.verify().sequence == 0
    for number in range(4):
        audit.append(ACTOR, "act", {"number": number, "b": ["x", None], "a": "ü\0"})
    audit.append(Actor("a\0b", "\ud800", "r"), "act", {})
    stored = list(audit.records())
    assert audit.verify() == audit.head()
    assert [record.sequence for record in audit.records(after=2, limit=2)] == [3, 4]
    database.close()
    return stored


def test_an_unchanged_chain_verifies_from_its_start_and_from_a_known_head(records: list[AuditRecord]) -> None:
    head = verify(records)
    assert (head.sequence, head.hash) == (5, records[-1].hash)
    assert verify(records[2:], verify(records[:2])) == head


@pytest.mark.parametrize(
    "changes",
    [
        {"time": 1},
        {"actor": Actor("other", ACTOR.source, ACTOR.request_id)},
        {"actor": Actor(ACTOR.name, "other", ACTOR.request_id)},
        {"actor": Actor(ACTOR.name, ACTOR.source, "other")},
        {"action": "other"},
        {"detail": "{}"},
        {"hash": "0" * 64},
        {"previous_hash": "0" * 64},
        {"sequence": 9},
    ],
)
def test_a_changed_record_is_named(records: list[AuditRecord], changes: dict[str, object]) -> None:
    records[2] = replace(records[2], **changes)  # type: ignore[arg-type]  # what the class has
    with pytest.raises(ValueError, match=r"record 3|comes 9"):
        verify(records)


def test_a_missing_or_swapped_record_is_seen(records: list[AuditRecord]) -> None:
    for spoilt in (records[1:], records[:2] + records[3:], [records[1], records[0], *records[2:]]):
        with pytest.raises(ValueError, match="missing"):
            verify(spoilt)


def test_detail_is_canonical_and_ascii(records: list[AuditRecord]) -> None:
    assert records[1].detail == '{"a":"\\u00fc\\u0000","b":["x",null],"number":1}'
    assert records[4].actor == Actor("a␀b", "?", "r")
    with pytest.raises(ValueError):
        canonical_json({"number": float("nan")})
