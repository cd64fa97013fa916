"""A token with a use gets exactly one certificate, whoever else asks with it at the same moment."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest

from ca_service.authority.log_ports import PendingCertificate, Sequenced
from ca_service.authority.ports import TokenUse
from ca_service.authority.status_ports import Block
from ca_service.errors import CAError, IdentityBlocked, TokenReused
from ca_service.store.blocks import SqlBlocks
from ca_service.store.database import Database
from ca_service.store.logs import SqlLogReader
from ca_service.store.sequencer import BatchingSequencer
from ca_service.store.token_uses import CLOCK_TOLERANCE, SqlTokenUses
from tests.support.store import ACTOR, NOW, SettableClock, TestLog, audit_log, pending

EXPIRES = NOW // 1000 + 600


def used(name: str, subject: str = "dev@example.com", expires: int = EXPIRES) -> PendingCertificate:
    """An entry of its own for the token of this name."""
    return replace(pending(subject), token_use=TokenUse(hashlib.sha256(name.encode()).digest(), expires))


def test_the_second_use_is_refused_and_other_tokens_are_not(
    sequencer: BatchingSequencer, reader: SqlLogReader, log: TestLog
) -> None:
    sequencer.append(used("one"))
    with pytest.raises(TokenReused, match="takes each token once"):
        sequencer.append(used("one"))
    sequencer.append(used("two"))
    for _ in range(2):
        sequencer.append(pending())
    assert audit_log(reader, log).tree_size == 4


def test_of_many_uses_at_once_in_several_workers_one_is_logged(
    database: Database, database_url: str, log: TestLog, reader: SqlLogReader, tmp_path: Path
) -> None:
    tokens = [f"token {number}" for number in range(12)]
    with ExitStack() as stack:
        # As two processes: nothing is shared but the database.
        workers = [
            stack.enter_context(closing(log.sequencer(stack.enter_context(closing(opened)))))
            for opened in (Database(database_url, folder=tmp_path) for _ in range(2))
        ]

        def append(place: int) -> Sequenced | CAError:
            try:
                return workers[place % 2].append(used(tokens[place // 4]))
            except CAError as error:
                return error

        with ThreadPoolExecutor(16) as threads:
            results = list(threads.map(append, range(4 * len(tokens))))
    for place in range(0, len(results), 4):
        kinds = sorted(type(result).__name__ for result in results[place : place + 4])
        assert kinds == ["Sequenced", "TokenReused", "TokenReused", "TokenReused"]
    assert audit_log(reader, log).tree_size == len(tokens)


def test_a_token_that_got_no_certificate_stays_good(
    sequencer: BatchingSequencer, database: Database, clock: SettableClock
) -> None:
    first = sequencer.append(used("first"))
    blocks = SqlBlocks(database, clock)
    block = blocks.add(Block(subject="dev@example.com"), ACTOR)
    with pytest.raises(IdentityBlocked):
        sequencer.append(used("one"))
    blocks.remove(block.number, "", ACTOR)
    # A whole transaction that is rolled back takes the use with it: here for a serial that is there already.
    twin = pending()
    sequencer.append(twin)
    with pytest.raises(CAError, match="could not store"):
        sequencer.append(replace(used("two"), serial=twin.serial))
    clock.now -= 10_000
    with pytest.raises(CAError, match="clock"):
        sequencer.append(used("three"))
    clock.now += 10_000
    for name in ("one", "two", "three"):
        assert sequencer.append(used(name)).leaf_index > first.leaf_index


def test_uses_are_forgotten_once_no_clock_can_take_the_token_for_valid(
    sequencer: BatchingSequencer, database: Database, clock: SettableClock
) -> None:
    uses = SqlTokenUses(database, clock)
    assert uses.sweep() == 0
    sequencer.append(used("short"))
    sequencer.append(used("long", expires=EXPIRES + 1))
    clock.now = (EXPIRES + CLOCK_TOLERANCE) * 1000
    assert uses.sweep() == 0
    with pytest.raises(TokenReused):
        sequencer.append(used("short"))
    clock.now += 1_000
    assert uses.sweep() == 1
    assert uses.sweep() == 0
    sequencer.append(used("short"))
    with pytest.raises(TokenReused):
        sequencer.append(used("long"))


def test_a_sweep_takes_more_than_it_deletes_at_once(
    sequencer: BatchingSequencer, database: Database, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ca_service.store.token_uses._SWEPT_AT_ONCE", 2)
    for number in range(5):
        sequencer.append(used(f"token {number}"))
    clock.now = (EXPIRES + CLOCK_TOLERANCE + 1) * 1000
    assert SqlTokenUses(database, clock).sweep() == 5
