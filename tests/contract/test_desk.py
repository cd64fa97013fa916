"""The revocation desk on both databases: what it takes back, whom it blocks, and what never gets looser."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ca_service.authority.facts import preview_facts, preview_from
from ca_service.authority.log_ports import PendingCertificate
from ca_service.authority.revocation import RevocationDesk
from ca_service.authority.rollback import RollbackGuard
from ca_service.authority.status_ports import Block, BuiltCrl, CrlShard, Revocation, Selector
from ca_service.cache.wake_ups import MemoryWakeUps
from ca_service.errors import CAError, IdentityBlocked, InvalidRequest, NotFound, RolledBack
from ca_service.files.high_water_mark import MarkFile
from ca_service.store.audit import SqlAudit
from ca_service.store.blocks import SqlBlocks, add, lock_against_sequencing
from ca_service.store.database import Database
from ca_service.store.desk import revocation_desk
from ca_service.store.position import SqlPosition
from ca_service.store.revocations import SqlRevocations
from ca_service.store.sequencer import BatchingSequencer
from ca_service.store.shards import SqlShards
from ca_service.vocabulary import RevocationReason, Serial, SubjectKind, SubjectName, format_serial
from tests.support.store import (
    ACTOR,
    AUTHORITY_KEY,
    ISSUER,
    NOW,
    RecordingObserver,
    SettableClock,
    TestLog,
    pending,
)

SECOND = NOW // 1000
ALICE = "Alice@Example.com"
WORKFLOW = "https://github.com/Org/repo/.github/workflows/release.yml@refs/tags/v1"
KEY_COMPROMISE, SUPERSEDED = RevocationReason.KEY_COMPROMISE, RevocationReason.SUPERSEDED
UNSPECIFIED = RevocationReason.UNSPECIFIED


@pytest.fixture
def clock() -> SettableClock:
    """An hour later than the certificates of these tests."""
    return SettableClock(NOW + 3_600_000)


@pytest.fixture
def mark(tmp_path: Path) -> MarkFile:
    return MarkFile(tmp_path / "other volume" / "high-water.json")


@pytest.fixture
def desk(database: Database, log: TestLog, clock: SettableClock, mark: MarkFile) -> RevocationDesk:
    """The desk as the service has it, on a database that has a log."""
    guard = RollbackGuard(mark, SqlPosition(database), None, strict=False)
    return revocation_desk(database, guard, clock, RecordingObserver(), MemoryWakeUps())


def dates(desk: RevocationDesk, entries: list[PendingCertificate]) -> list[int | None]:
    """From when each certificate is revoked, in seconds after SECOND; None: it is not."""
    found = []
    for entry in entries:
        ((_, revocation),) = desk.find(Selector(serial=entry.serial), 1)
        found.append(None if revocation is None else revocation.revocation_date - SECOND)
    return found


def log_all(sequencer: BatchingSequencer, entries: list[PendingCertificate]) -> list[PendingCertificate]:
    for entry in entries:
        sequencer.append(entry)
    return entries


# -- what is meant -------------------------------------------------------------------------------------


MEANT: list[tuple[Selector, list[int], list[int]]] = [
    (Selector(identity="alice@EXAMPLE.com"), [0, 1, 3], [0, 1, 3]),
    (Selector(identity=" ALICE@example.com "), [0, 1, 3], [0, 1, 3]),
    (Selector(identity="alice@*"), [0, 1, 3], [0, 1, 3]),
    (Selector(identity="*@example.com"), [0, 1, 2, 3], [0, 1, 2, 3]),
    (Selector(identity="alice@example.com", oidc_issuer=ISSUER), [0, 1], [0, 1]),
    (Selector(oidc_issuer="https://other.example"), [3], [3]),
    (Selector(oidc_subject="bob-1"), [2], [2]),
    (Selector(identity="*", oidc_subject="bob-1"), [2], [2]),
    (Selector(key_sha256="0B" * 32), [1], [1]),
    (Selector(identity=WORKFLOW.upper()), [4], [4]),
    (Selector(identity="https://github.com/org/*"), [4], [4]),
    (Selector(log_index=("2026", 2)), [2], [2]),
    (Selector(log_index=("2026", 0)), [0], [0, 1]),
    (Selector(identity="alice@example.com", since=SECOND + 700), [1], [0, 1, 3]),
    (Selector(identity="alice@example.com", until=SECOND + 599), [0, 3], [0, 1, 3]),
    (Selector(identity="alicia@example.com"), [], []),
    (Selector(identity="lice@example.com"), [], []),
    (Selector(identity="alice@example.co?"), [0, 1, 3], [0, 1, 3]),
]
"""Selectors; which of the entries below they take back, and which they refuse from then on."""


def test_what_a_selector_takes_back_and_whom_it_blocks(
    desk: RevocationDesk, sequencer: BatchingSequencer, database: Database, clock: SettableClock
) -> None:
    entries = log_all(
        sequencer,
        [
            pending(ALICE),
            pending("alice@example.com", key_sha256="0b" * 32, not_before=SECOND + 600),
            pending("bob@example.com", oidc_subject="bob-1"),
            pending("ALICE@EXAMPLE.COM", oidc_issuer="https://other.example"),
            pending(WORKFLOW, kind=SubjectKind.URI),
        ],
    )
    blocks = SqlBlocks(database, clock)

    def is_refused(entry: PendingCertificate) -> bool:
        name = SubjectName(entry.subject.kind, entry.subject.value.swapcase())
        try:
            blocks.check(name, entry.oidc_issuer, entry.oidc_subject, entry.key_sha256)
        except IdentityBlocked:
            return True
        return False

    for selector, taken, refused in MEANT:
        expected = desk.preview(selector, reason=KEY_COMPROMISE)
        assert preview_from(preview_facts(expected)) == expected
        assert {one.serial for one in expected.certificates} == {entries[place].serial for place in taken}
        done = desk.revoke_identity(selector, reason=KEY_COMPROMISE, comment="stolen", actor=ACTOR)
        assert set(done.serials) == {entries[place].serial for place in taken}, selector
        assert (done.matched, done.by_shard) == (expected.matched, expected.by_shard)
        revoked = [place for place, date in enumerate(dates(desk, entries)) if date is not None]
        assert (revoked, [p for p, entry in enumerate(entries) if is_refused(entry)]) == (taken, refused)
        for serial in done.serials:
            desk.withdraw(serial, comment="the next case", actor=ACTOR)
        desk.unblock(selector if done.block is None else done.block.number, comment="", actor=ACTOR)
        assert not any(map(is_refused, entries))
    assert desk.blocks() == []
    assert set(dates(desk, entries)) == {None}


def test_a_name_is_one_name_however_its_letters_are_composed(
    desk: RevocationDesk, sequencer: BatchingSequencer
) -> None:
    composed, decomposed = "Zo\u00eb!example.com", "zoe\u0308!example.com"
    entry = pending(decomposed, kind=SubjectKind.USERNAME)
    sequencer.append(entry)
    done = desk.revoke_identity(Selector(identity=composed), reason=UNSPECIFIED, comment="", actor=ACTOR)
    assert done.serials == [entry.serial]
    for name in (composed, decomposed, composed.upper()):
        with pytest.raises(IdentityBlocked):
            sequencer.append(pending(name, kind=SubjectKind.USERNAME))


SLIPS = [
    (Selector(), "must name"),
    (Selector(identity="*"), "--all"),
    (Selector(identity="*@*.*"), "--all"),
    (Selector(identity="?*", since=SECOND), "--all"),
    (Selector(since=SECOND), "--all"),
    (Selector(identity="a", since=SECOND + 5, until=SECOND), "before it begins"),
    (Selector(identity="a", since=SECOND + 9_999), "future"),
    (Selector(identity="alice@b\u00fccher.example"), "xn--"),
    (Selector(identity="https://b\u00fccher.example/*"), "xn--"),
    (Selector(identity="alice@example.com\0"), "sign"),
    (Selector(key_sha256="abc"), "64 hex"),
]


def test_a_selector_that_may_be_a_slip_is_refused(desk: RevocationDesk, sequencer: BatchingSequencer) -> None:
    sequencer.append(pending(ALICE))
    for selector, told in SLIPS:
        with pytest.raises(InvalidRequest, match=told):
            desk.revoke_identity(selector, reason=UNSPECIFIED, comment="", actor=ACTOR)
    assert desk.blocks() == []
    assert desk.audit_records(0, 10) == []


def test_everybody_is_taken_back_when_that_is_confirmed(
    desk: RevocationDesk, sequencer: BatchingSequencer
) -> None:
    entries = log_all(sequencer, [pending(ALICE), pending("bob@example.com")])
    window = Selector(since=SECOND)
    with pytest.raises(InvalidRequest, match="--no-block"):
        desk.revoke_identity(window, reason=UNSPECIFIED, comment="", everybody=True, actor=ACTOR)
    done = desk.revoke_identity(
        window, reason=UNSPECIFIED, comment="", everybody=True, block=False, actor=ACTOR
    )
    assert (done.revoked, done.block) == (2, None)
    sequencer.append(pending(ALICE))
    (stop,) = desk.block(Selector(identity="*"), reason="", expires=None, everybody=True, actor=ACTOR)
    with pytest.raises(IdentityBlocked):
        sequencer.append(pending("carol@example.com"))
    desk.unblock(stop.number, comment="", actor=ACTOR)
    sequencer.append(pending("carol@example.com"))
    assert dates(desk, entries) == [0, 0]


MOMENTS: list[tuple[dict[str, int], list[int | None]]] = [
    ({}, [0, 600, 1200]),
    ({"since": SECOND + 700}, [None, 700, 1200]),
    ({"since": SECOND + 600}, [600, 600, 1200]),
    ({"until": SECOND + 600}, [0, 600, None]),
    ({"since": SECOND + 300, "date": SECOND + 100}, [100, 600, 1200]),
    ({"date": SECOND + 900}, [900, 900, 1200]),
    ({"date": 1}, [0, 600, 1200]),
]
"""Window and date as given; from when three certificates are revoked that began ten minutes apart."""


def test_from_when_each_certificate_is_not_to_be_trusted(
    desk: RevocationDesk, sequencer: BatchingSequencer
) -> None:
    for case, (given, expected) in enumerate(MOMENTS):
        name = f"case-{case}@example.com"
        entries = log_all(sequencer, [pending(name, not_before=SECOND + 600 * step) for step in range(3)])
        selector = Selector(identity=name, since=given.get("since"), until=given.get("until"))
        desk.revoke_identity(
            selector, reason=UNSPECIFIED, revocation_date=given.get("date"), comment="", actor=ACTOR
        )
        assert dates(desk, entries) == expected, given


# -- stricter, never looser ----------------------------------------------------------------------------


def test_the_same_again_changes_nothing_and_is_no_act(
    desk: RevocationDesk, sequencer: BatchingSequencer, database: Database
) -> None:
    log_all(sequencer, [pending(ALICE), pending(ALICE)])
    selector = Selector(identity=ALICE)
    first = desk.revoke_identity(selector, reason=KEY_COMPROMISE, comment="stolen", actor=ACTOR)
    before = (database_state(database), desk.audit_records(0, 10))
    assert desk.preview(selector, reason=KEY_COMPROMISE).to_revoke == 0
    assert desk.preview(selector).blocks == [first.block]
    again = desk.revoke_identity(
        Selector(identity=ALICE.upper()), reason=SUPERSEDED, comment="other", actor=ACTOR
    )
    assert (again.matched, again.revoked, again.unchanged, again.serials) == (2, 0, 2, [])
    assert again.block == first.block
    assert (database_state(database), desk.audit_records(0, 10)) == before


def test_only_what_gets_stricter_changes_and_the_record_says_what_it_was(
    desk: RevocationDesk, sequencer: BatchingSequencer
) -> None:
    entries = log_all(sequencer, [pending(ALICE, not_before=SECOND + 600 * step) for step in range(3)])
    late, no_reason = entries[0].serial, entries[1].serial
    desk.revoke_certificate(
        late, reason=SUPERSEDED, revocation_date=SECOND + 500, comment="first", actor=ACTOR
    )
    desk.revoke_certificate(no_reason, reason=UNSPECIFIED, revocation_date=None, comment="", actor=ACTOR)
    selector = Selector(identity=ALICE)
    preview = desk.preview(selector, reason=KEY_COMPROMISE)
    assert (preview.matched, preview.already_revoked, preview.to_revoke) == (3, 0, 3)
    assert (preview.since, preview.until) == (SECOND, SECOND + 1800)
    done = desk.revoke_identity(
        selector, reason=KEY_COMPROMISE, revocation_date=SECOND, comment="stolen", block=False, actor=ACTOR
    )
    assert (done.revoked, done.unchanged) == (3, 0)
    stands = {one.serial: revocation for one, revocation in desk.find(selector, 10) if revocation}
    assert (stands[late].revocation_date, stands[late].reason) == (SECOND, KEY_COMPROMISE)
    assert stands[no_reason].reason == KEY_COMPROMISE
    detail = json.loads(desk.audit_records(2, 10)[0].detail)
    said = {one["serial"]: one for one in detail["revocations"]}
    assert said[format_serial(late)]["before"] == {
        "revocation_date": SECOND + 500,
        "reason": "superseded",
        "comment": "first",
    }
    assert detail["selector"] == {"identity": ALICE}
    assert (detail["matched"], detail["changed"]) == (3, 3)


LASTING: list[tuple[int | None, int | None, int | None]] = [
    (None, None, None),
    (None, SECOND + 9_999, None),
    (SECOND + 9_999, None, None),
    (SECOND + 8_000, SECOND + 9_999, SECOND + 9_999),
    (SECOND + 9_999, SECOND + 8_000, SECOND + 9_999),
]


def test_a_block_given_twice_is_one_and_lasts_longer_but_never_shorter(desk: RevocationDesk) -> None:
    for first, second, stands in LASTING:
        selector = Selector(identity=ALICE, oidc_issuer=ISSUER)
        before = len(desk.audit_records(0, 100))
        (one,) = desk.block(selector, reason="stolen", expires=first, actor=ACTOR)
        (two,) = desk.block(selector, reason="other", expires=second, actor=ACTOR)
        assert (two.number, two.expires, two.reason) == (one.number, stands, "stolen")
        assert desk.blocks() == [two]
        changes = desk.audit_records(before + 1, 100)
        assert len(changes) == (0 if first == stands else 1)
        for change in changes:
            assert json.loads(change.detail)["before"] == {"reason": "stolen", "expires": first}
        desk.unblock(one.number, comment="", actor=ACTOR)


# -- blocks --------------------------------------------------------------------------------------------


def test_an_expired_block_is_listed_but_refuses_nobody_and_another_takes_its_place(
    desk: RevocationDesk, sequencer: BatchingSequencer, clock: SettableClock
) -> None:
    selector = Selector(identity=ALICE)
    now = clock.now // 1000
    with pytest.raises(InvalidRequest, match="future"):
        desk.block(selector, reason="", expires=now, actor=ACTOR)
    (expiring,) = desk.block(selector, reason="", expires=now + 60, actor=ACTOR)
    with pytest.raises(IdentityBlocked):
        sequencer.append(pending(ALICE))
    clock.now += 60_000
    sequencer.append(pending(ALICE))
    assert desk.blocks() == [expiring]
    (new,) = desk.block(selector, reason="", expires=None, actor=ACTOR)
    assert new.number > expiring.number
    assert desk.unblock(selector, comment="over", actor=ACTOR) == [expiring, new]
    assert desk.blocks() == []


def test_unblocking_takes_exactly_what_it_names(desk: RevocationDesk, sequencer: BatchingSequencer) -> None:
    entry = pending(ALICE, oidc_subject="a-1")
    sequencer.append(entry)
    (domain,) = desk.block(Selector(identity="*@example.com"), reason="", expires=None, actor=ACTOR)
    (person,) = desk.block(Selector(serial=entry.serial), reason="", expires=None, actor=ACTOR)
    assert person.target == ("alice@example.com", ISSUER, "a-1", None)
    for other in (Selector(identity=ALICE), Selector(oidc_issuer=ISSUER), 999, 1 << 80):
        with pytest.raises(NotFound, match="blocks"):
            desk.unblock(other, comment="", actor=ACTOR)
    with pytest.raises(InvalidRequest, match="window"):
        desk.unblock(Selector(identity=ALICE, since=SECOND), comment="", actor=ACTOR)
    assert desk.unblock(Selector(serial=entry.serial), comment="", actor=ACTOR) == [person]
    assert desk.unblock(domain.number, comment="found", actor=ACTOR) == [domain]
    assert json.loads(desk.audit_records(3, 1)[0].detail)["comment"] == "found"
    sequencer.append(pending(ALICE))


def test_a_block_takes_no_window_and_needs_a_certificate_that_is_there(desk: RevocationDesk) -> None:
    for window in (Selector(identity=ALICE, since=SECOND), Selector(until=SECOND)):
        with pytest.raises(InvalidRequest, match="--expires"):
            desk.block(window, reason="", expires=None, actor=ACTOR)
    for missing in (Selector(serial=Serial(77)), Selector(log_index=("2026", 5))):
        with pytest.raises(NotFound):
            desk.block(missing, reason="", expires=None, actor=ACTOR)
        with pytest.raises(NotFound):
            desk.revoke_identity(missing, reason=UNSPECIFIED, comment="", actor=ACTOR)
    assert desk.blocks() == []


# -- withdrawing ---------------------------------------------------------------------------------------


def test_a_withdrawn_revocation_is_gone_at_once_and_stays_on_record(
    desk: RevocationDesk, sequencer: BatchingSequencer, database: Database
) -> None:
    entry = pending(ALICE)
    sequencer.append(entry)
    shards = SqlShards(database)
    shards.create(CrlShard(AUTHORITY_KEY, entry.crl_shard, "http://x/a", SECOND, 0, 1, 0, 1, 2, b"crl"))
    revoked = desk.revoke_certificate(
        entry.serial, reason=KEY_COMPROMISE, revocation_date=None, comment="oops", actor=ACTOR
    )
    generation = SqlRevocations(database, SettableClock()).generation()
    with pytest.raises(InvalidRequest, match="why"):
        desk.withdraw(entry.serial, comment=" ", actor=ACTOR)
    assert desk.withdraw(entry.serial, comment="wrong serial", actor=ACTOR) == revoked
    assert dates(desk, [entry]) == [None]
    assert SqlRevocations(database, SettableClock()).generation() == generation + 1
    shard = shards.get(AUTHORITY_KEY, entry.crl_shard)
    assert shard is not None
    assert shard.generation == 2
    (record,) = desk.audit_records(1, 10)
    assert (record.action, record.actor) == ("withdraw", ACTOR)
    detail = json.loads(record.detail)
    assert (detail["comment"], detail["before"]["reason"], detail["before"]["comment"]) == (
        "wrong serial", "keyCompromise", "oops"
    )  # fmt: skip
    with pytest.raises(NotFound, match="not revoked"):
        desk.withdraw(entry.serial, comment="again", actor=ACTOR)
    with pytest.raises(NotFound, match="issued here"):
        desk.withdraw(Serial(77), comment="never issued", actor=ACTOR)
    assert len(desk.audit_records(0, 10)) == 2


# -- many ----------------------------------------------------------------------------------------------


def test_ten_thousand_of_one_identity_in_one_call_and_each_list_is_rebuilt_once(
    desk: RevocationDesk, log: TestLog, database: Database, clock: SettableClock
) -> None:
    names = [f"2026-09-{number:02x}" for number in range(16)]
    shards = SqlShards(database)
    for name in [*names, "untouched"]:
        shards.create(CrlShard(AUTHORITY_KEY, name, f"http://x/{name}", SECOND, 0, 7, 0, 1, 2, b"crl"))
    appender = log.appender(database, clock)
    for start in range(0, 10_000, 500):
        appender.append([pending(ALICE, crl_shard=names[place % 16]) for place in range(start, start + 500)])
    appender.append([pending("bob@example.com", crl_shard="untouched")])
    preview = desk.preview(Selector(identity="alice@*"), limit=10)
    assert (preview.matched, len(preview.certificates)) == (10_000, 10)
    done = desk.revoke_identity(
        Selector(identity="alice@*"), reason=KEY_COMPROMISE, comment="stolen", actor=ACTOR
    )
    assert (done.revoked, done.by_shard) == (10_000, preview.by_shard)
    assert done.by_shard == {f"{AUTHORITY_KEY}/{name}": 625 for name in names}
    listed: Counter[str] = Counter()
    while due := [each for each in shards.due(0) if each.is_dirty]:
        for each in due:

            def build(shard: CrlShard, crl_number: int, revocations: Iterable[Revocation]) -> BuiltCrl:
                listed[shard.name] += sum(1 for _ in revocations)
                return BuiltCrl(b"crl", 3, 4)

            shards.rebuild(each.authority_key, each.name, build)
    assert listed == dict.fromkeys(names, 625)
    numbers = {each.name: each.crl_number for each in shards.all()}
    assert numbers == {**dict.fromkeys(names, 8), "untouched": 7}
    records = desk.audit_records(0, 1000)
    named = [one["serial"] for record in records for one in json.loads(record.detail)["revocations"]]
    assert len(set(named)) == len(named) == 10_000
    assert desk.verify_audit().sequence == len(records)


def test_nothing_issued_for_an_identity_while_it_is_revoked_escapes(
    desk: RevocationDesk, log: TestLog, database: Database, clock: SettableClock
) -> None:
    """Two sequencers and many clients, as with two workers; whoever has a certificate has a revoked one."""
    released: list[Serial] = []
    begun, enough = threading.Semaphore(0), threading.Event()
    refused: list[str] = []

    def client(sequencer: BatchingSequencer, name: str) -> None:
        while True:
            entry = pending(name)
            try:
                sequencer.append(entry)
            except IdentityBlocked:
                refused.append("blocked")
                return
            except CAError as error:  # a busy machine may not take them all
                refused.append(error.reason)
            else:
                released.append(entry.serial)
                begun.release()
            if enough.is_set():
                return

    sequencers = [log.sequencer(database, clock) for _ in range(2)]
    with ThreadPoolExecutor(16) as clients:
        try:
            running = [
                clients.submit(client, sequencers[place % 2], (ALICE, ALICE.lower())[place // 2 % 2])
                for place in range(16)
            ]
            for _ in range(60):
                assert begun.acquire(timeout=120)
            done = desk.revoke_identity(
                Selector(identity="alice@example.com"), reason=KEY_COMPROMISE, comment="stolen", actor=ACTOR
            )
            for each in running:
                each.result(120)
        finally:
            enough.set()
    for sequencer in sequencers:
        sequencer.close()
    assert refused.count("blocked") == 16
    assert done.revoked >= 60
    assert set(released) <= set(done.serials), "a certificate was released that is not revoked"
    found = desk.find(Selector(identity=ALICE), 100_000)
    assert all(revocation is not None for _, revocation in found)
    assert {one.serial for one, _ in found} == set(done.serials)


def test_a_log_that_is_opened_meanwhile_waits_for_the_block(
    database: Database, log: TestLog, clock: SettableClock
) -> None:
    opened = threading.Event()

    def open_another() -> None:
        TestLog("2027").create(database)
        opened.set()

    with database.writing() as connection:
        lock_against_sequencing(connection)
        thread = threading.Thread(target=open_another)
        thread.start()
        add(connection, Block(subject=ALICE), SECOND)
        assert not opened.wait(0.3)
    thread.join(120)
    assert opened.is_set()
    assert len(SqlBlocks(database, clock).all()) == 1


# -- on record -----------------------------------------------------------------------------------------


def acts(desk: RevocationDesk, serial: Serial) -> list[tuple[str, Callable[[], object]]]:
    """Every act that changes something, by the name of its record."""
    selector = Selector(identity=ALICE)
    return [
        ("revoke-certificate", lambda: desk.revoke_certificate(
            serial, reason=UNSPECIFIED, revocation_date=None, comment="", actor=ACTOR)),
        ("revoke-identity", lambda: desk.revoke_identity(
            selector, reason=KEY_COMPROMISE, comment="", actor=ACTOR)),
        ("withdraw", lambda: desk.withdraw(serial, comment="wrong", actor=ACTOR)),
        ("unblock", lambda: desk.unblock(selector, comment="", actor=ACTOR)),
        ("block", lambda: desk.block(selector, reason="", expires=None, actor=ACTOR)),
        ("unblock", lambda: desk.unblock(2, comment="", actor=ACTOR)),
        ("refused", lambda: desk.record(ACTOR, "refused", {"why": "no role"})),
    ]  # fmt: skip


def test_every_act_is_on_record_and_the_mark_has_seen_it(
    desk: RevocationDesk, sequencer: BatchingSequencer, mark: MarkFile
) -> None:
    entry = pending(ALICE)
    sequencer.append(entry)
    for count, (action, act) in enumerate(acts(desk, entry.serial), start=1):
        act()
        newest = desk.audit_records(0, 100)[-1]
        assert (newest.sequence, newest.action, newest.actor) == (count, action, ACTOR)
        assert (mark.read().audit_sequence, mark.read().audit_hash) == (count, newest.hash)
    assert desk.verify_audit().sequence == len(acts(desk, entry.serial))


def test_nothing_is_done_on_a_database_that_was_rolled_back(
    desk: RevocationDesk, sequencer: BatchingSequencer, mark: MarkFile, database: Database
) -> None:
    entry = pending(ALICE)
    sequencer.append(entry)
    desk.block(Selector(identity="bob@example.com"), reason="", expires=None, actor=ACTOR)
    seen = mark.read()
    assert mark.advance(seen, seen.with_administration(seen.generation + 1, 5, "ab" * 32))
    for _, act in acts(desk, entry.serial):
        with pytest.raises(RolledBack):
            act()
    assert len(SqlAudit(database, SettableClock()).records()) == 1
    with pytest.raises(ValueError, match="audit"):
        desk.verify_audit()


def database_state(database: Database) -> tuple[int, list[Block]]:
    clock = SettableClock()
    return SqlRevocations(database, clock).generation(), list(SqlBlocks(database, clock).all())
