"""status_ports.Blocks: who is blocked, when, and that every act is audited."""

import pytest

from ca_service.authority.status_ports import Block
from ca_service.authority.waiting import WouldWait, at_once
from ca_service.errors import IdentityBlocked
from ca_service.store.audit import SqlAudit
from ca_service.store.blocks import SqlBlocks
from ca_service.store.database import Database
from ca_service.vocabulary import SubjectKind, SubjectName
from tests.support.processes import wait_until
from tests.support.store import ACTOR, ISSUER, NOW, SettableClock, TestLog

DEV = SubjectName(SubjectKind.EMAIL, "Dev@Example.com")
KEY = "0b" * 32
RELEASE = SubjectName(
    SubjectKind.URI, "https://github.com/org/repo/.github/workflows/release.yml@refs/tags/v1"
)


@pytest.fixture
def blocks(database: Database, log: TestLog, clock: SettableClock) -> SqlBlocks:
    """The blocks, of a database that has a log."""
    return SqlBlocks(database, clock)


@pytest.mark.parametrize(
    ("block", "subject"),
    [
        (Block(subject="dev@example.COM"), DEV),
        (Block(subject=" dev@example.com "), DEV),
        (Block(subject="*@example.com"), DEV),
        (Block(subject="d?v@*"), DEV),
        (Block(subject="https://github.com/ORG/*"), RELEASE),
        (Block(oidc_issuer=ISSUER), DEV),
        (Block(oidc_subject="1234"), DEV),
        (Block(key_sha256=KEY), DEV),
        (Block(key_sha256=KEY, oidc_subject="1234", oidc_issuer=ISSUER), DEV),
        (Block(subject="dev@*", oidc_issuer=ISSUER, oidc_subject="1234"), DEV),
    ],
)
def test_whom_a_block_concerns_gets_nothing(blocks: SqlBlocks, block: Block, subject: SubjectName) -> None:
    blocks.check(subject, ISSUER, "1234", KEY)
    blocks.add(block, ACTOR)
    with pytest.raises(IdentityBlocked) as told:
        blocks.check(subject, ISSUER, "1234", KEY)
    assert "@" not in told.value.message
    assert "github" not in told.value.message


@pytest.mark.parametrize(
    "block",
    [
        Block(subject="dev@example.co"),
        Block(subject="dev@example.com?"),
        Block(subject="[d]ev@example.com"),
        Block(subject="dev.example.com"),
        Block(subject="dev@example.com", oidc_issuer="https://other.example"),
        Block(subject="dev@example.com", oidc_subject="12345"),
        Block(oidc_issuer=ISSUER + "/"),
        Block(key_sha256="0c" * 32),
        Block(subject="*", key_sha256="0c" * 32),
    ],
)
def test_whom_it_does_not_concern_is_left_alone(blocks: SqlBlocks, block: Block) -> None:
    blocks.add(block, ACTOR)
    blocks.check(DEV, ISSUER, "1234", KEY)


def test_a_block_ends_when_it_expires_or_is_taken_away(blocks: SqlBlocks, clock: SettableClock) -> None:
    expiring = blocks.add(Block(subject="dev@example.com", expires=NOW // 1000 + 60), ACTOR)
    clock.now += 59_999
    with pytest.raises(IdentityBlocked):
        blocks.check(DEV, ISSUER, "1234", KEY)
    clock.now += 1
    blocks.check(DEV, ISSUER, "1234", KEY)
    lasting = blocks.add(Block(subject="dev@example.com", reason="stolen laptop"), ACTOR)
    assert [block.number for block in blocks.all()] == [expiring.number, lasting.number]
    assert blocks.remove(lasting.number, "", ACTOR) == lasting
    assert blocks.remove(lasting.number, "", ACTOR) is None
    blocks.check(DEV, ISSUER, "1234", KEY)
    again = blocks.add(Block(subject="dev@example.com"), ACTOR)
    assert again.number > lasting.number


def test_a_block_of_another_process_counts_at_once(
    blocks: SqlBlocks, database: Database, clock: SettableClock
) -> None:
    blocks.check(DEV, ISSUER, "1234", KEY)
    SqlBlocks(database, clock).add(Block(oidc_subject="1234"), ACTOR)
    with pytest.raises(IdentityBlocked):
        blocks.check(DEV, ISSUER, "1234", KEY)


def test_a_thread_that_may_not_wait_has_blocks_looked_at_by_another(
    blocks: SqlBlocks, database: Database, clock: SettableClock
) -> None:
    here = SqlBlocks(database, clock, fresh_ms=300)
    here.check(DEV, ISSUER, "1234", KEY)
    blocks.add(Block(oidc_subject="1234"), ACTOR)

    def is_seen() -> bool:
        try:
            with at_once():
                here.check(DEV, ISSUER, "1234", KEY)
        except (IdentityBlocked, WouldWait):
            return True
        return False

    wait_until(is_seen, 60.0, "the block")
    with pytest.raises(IdentityBlocked):
        here.check(DEV, ISSUER, "1234", KEY)


def test_a_block_that_concerns_everybody_is_refused(blocks: SqlBlocks) -> None:
    with pytest.raises(ValueError, match="names"):
        blocks.add(Block(reason="all"), ACTOR)
    assert blocks.all() == []


def test_who_blocked_and_unblocked_stands_in_the_audit(
    blocks: SqlBlocks, database: Database, clock: SettableClock
) -> None:
    block = blocks.add(Block(subject="dev@example.com", reason="stolen"), ACTOR)
    blocks.remove(block.number, "found it", ACTOR)
    audit = SqlAudit(database, clock)
    assert [(record.action, record.actor) for record in audit.records()] == [
        ("block", ACTOR), ("unblock", ACTOR)
    ]  # fmt: skip
    assert '"reason":"stolen"' in audit.records()[0].detail
    assert audit.verify().sequence == 2


def test_a_block_that_was_lifted_refuses_nobody_by_an_old_list(
    blocks: SqlBlocks, database: Database, clock: SettableClock
) -> None:
    elsewhere = SqlBlocks(database, clock, fresh_ms=3_600_000)
    stands = blocks.add(Block(oidc_subject="1234"), ACTOR)
    with pytest.raises(IdentityBlocked):
        elsewhere.check(DEV, ISSUER, "1234", KEY)
    blocks.remove(stands.number, "it was not stolen", ACTOR)
    elsewhere.check(DEV, ISSUER, "1234", KEY)
