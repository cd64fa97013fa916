"""log_ports.LogReader: proofs and tiles of every size are those of the tree of its leaves."""

import random
from collections.abc import Iterator
from hashlib import sha256

import pytest

from ca_service.authority.entries import PrecertificateCodec
from ca_service.authority.log_ports import PendingCertificate
from ca_service.errors import AlreadyExists, ConfigurationError
from ca_service.merkle.tiles import Tile
from ca_service.merkle.tree import verify_consistency, verify_inclusion
from ca_service.store import logs
from ca_service.store.append import LogAppender
from ca_service.store.database import Database
from ca_service.store.entry_kinds import CertificateEntries
from ca_service.store.logs import SqlLogReader
from ca_service.store.quick import Transaction
from tests.support import merkle
from tests.support.store import CHAIN, SettableClock, TestLog, audit_log, pending

SIZE = 1_030


class ShortLeaves(PrecertificateCodec):
    """Leaves that tests can write down."""

    def leaf(self, timestamp: int, index: int, entry: PendingCertificate) -> bytes:
        return b"leaf" + index.to_bytes(5, "big")


def fill(database: Database, log: TestLog, sizes: Iterator[int]) -> None:
    appender = LogAppender(
        database,
        log.identity,
        log.sign,
        SettableClock(),
        CertificateEntries(ShortLeaves()),
    )
    for size in sizes:
        entries: list[PendingCertificate] = [pending() for _ in range(size)]
        appender.append(entries)


@pytest.fixture
def hashes(database: Database, log: TestLog) -> list[bytes]:
    """Fill the log in uneven batches; its leaf hashes."""
    chosen = random.Random(SIZE)
    sizes, left = [], SIZE
    while left:
        sizes.append(min(left, chosen.randrange(1, 257)))
        left -= sizes[-1]
    fill(database, log, iter(sizes))
    return [merkle.leaf_hash(b"leaf" + index.to_bytes(5, "big")) for index in range(SIZE)]


def test_every_kind_of_proof_verifies_at_old_and_new_sizes(
    reader: SqlLogReader, log: TestLog, hashes: list[bytes]
) -> None:
    head = reader.head()
    log.verify(head)
    assert head.tree_size == SIZE
    sizes = [1, 2, 255, 256, 257, 511, 512, 513, 1000, 1024, 1029, SIZE]
    roots = {size: merkle.root_of(hashes[:size]) for size in sizes}
    assert head.root_hash == roots[SIZE]
    for size in sizes:
        assert reader.root_at(size) == roots[size]
        for index in {0, size // 2, size - 1}:
            proof = reader.inclusion_proof(index, size)
            assert proof == merkle.inclusion_path(index, hashes[:size])
            verify_inclusion(hashes[index], index, size, proof, roots[size])
        for first in [known for known in sizes if known <= size]:
            proof = reader.consistency_proof(first, size)
            verify_consistency(first, size, roots[first], roots[size], proof)
    with pytest.raises(ValueError):
        reader.inclusion_proof(5, 5)


def test_tiles_are_the_hashes_of_their_subtrees_and_nothing_beyond_the_signed_size(
    reader: SqlLogReader, hashes: list[bytes]
) -> None:
    for index, width in ((0, 256), (3, 256), (3, 1), (4, 1), (4, 6)):
        first = index * 256
        assert reader.tile(Tile(0, index, width)) == b"".join(hashes[first : first + width])
    rows = [merkle.root_of(hashes[i * 256 : (i + 1) * 256]) for i in range(4)]
    assert reader.tile(Tile(1, 0, 4)) == b"".join(rows)
    assert reader.tile(Tile(1, 0, 3)) == b"".join(rows[:3])
    for beyond in (Tile(0, 4, 7), Tile(0, 4), Tile(0, 5, 1), Tile(1, 0, 5), Tile(1, 0), Tile(2, 0, 1)):
        assert reader.tile(beyond) is None


def test_tiles_of_a_higher_level_are_made_of_those_below(
    reader: SqlLogReader, database: Database, log: TestLog
) -> None:
    size = 65_536 + 300
    fill(database, log, iter([4096] * 16 + [300]))
    hashes = [merkle.leaf_hash(b"leaf" + index.to_bytes(5, "big")) for index in range(size)]
    rows = [merkle.root_of(hashes[i * 256 : (i + 1) * 256]) for i in range(257)]
    assert reader.tile(Tile(1, 0)) == b"".join(rows[:256])
    assert reader.tile(Tile(1, 0, 255)) == b"".join(rows[:255]), "a partial tile outlives its full one"
    assert reader.tile(Tile(1, 1, 1)) == rows[256]
    assert reader.tile(Tile(2, 0, 1)) == merkle.root_of(rows[:256])
    assert reader.tile(Tile(0, 257, 44)) == b"".join(hashes[65_792:])
    for beyond in (Tile(2, 0), Tile(2, 0, 2), Tile(3, 0, 1), Tile(1, 1, 2), Tile(0, 257, 45)):
        assert reader.tile(beyond) is None
    head = reader.head()
    assert head.root_hash == merkle.root_of(hashes)
    for index in (0, 65_535, 65_536, size - 1):
        proof = reader.inclusion_proof(index, size)
        verify_inclusion(hashes[index], index, size, proof, head.root_hash)


def test_entries_and_positions_are_found(reader: SqlLogReader, hashes: list[bytes]) -> None:
    assert [entry.leaf_index for entry in reader.entries(250, 260)] == list(range(250, 260))
    assert reader.entries(5, 5) == []
    assert reader.entries(0, 1)[0].chain == CHAIN
    assert reader.index_of(hashes[700]) == 700
    assert reader.index_of(b"n" * 32) is None
    assert reader.chain_certificate(sha256(CHAIN[1]).digest()) == CHAIN[1]
    assert reader.chain_certificate(b"n" * 32) is None


def test_a_proof_reads_one_tile_for_each_level(
    reader: SqlLogReader, hashes: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[int, int]] = []
    original = logs.tile_hashes

    def counting(transaction: Transaction, number: int, level: int, index: int) -> list[bytes]:
        read.append((level, index))
        return original(transaction, number, level, index)

    monkeypatch.setattr(logs, "tile_hashes", counting)
    reader.inclusion_proof(100, SIZE)
    assert len(read) == len(set(read)) <= 4


def test_an_empty_log_has_a_signed_head(reader: SqlLogReader, log: TestLog) -> None:
    assert audit_log(reader, log).tree_size == 0
    assert reader.tile(Tile(0, 0, 1)) is None


def test_two_logs_in_one_database_do_not_touch(
    reader: SqlLogReader, database: Database, log: TestLog
) -> None:
    other = TestLog("2027")
    other.create(database)
    fill(database, log, iter([3]))
    fill(database, other, iter([300]))
    assert reader.head().tree_size == 3
    assert SqlLogReader(database, "2027").head().tree_size == 300
    assert SqlLogReader(database, "2027").root_at(3) == reader.root_at(3)


def test_a_log_is_made_once_and_an_unknown_one_is_named(database: Database, log: TestLog) -> None:
    with pytest.raises(AlreadyExists):
        log.create(database)
    with pytest.raises(ConfigurationError, match="2031"):
        SqlLogReader(database, "2031").head()
