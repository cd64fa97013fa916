"""One Merkle engine: a log of another kind of entry is a codec and a row in a table, in the same database."""

import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pytest

from ca_service.authority.log import NewLeaf
from ca_service.authority.log_ports import LogEntry
from ca_service.errors import ConfigurationError, InvalidRequest
from ca_service.merkle.tiles import Tile
from ca_service.merkle.tree import verify_consistency, verify_inclusion
from ca_service.store.database import Database
from ca_service.store.entry_kinds import BesideLeaf, CertificateEntries, RequirePeriod
from ca_service.store.logs import SqlLogReader
from ca_service.store.quick import Statement, Transaction
from ca_service.store.sequencer import BatchingSequencer, EntrySequencer
from ca_service.vocabulary import TimestampMs
from tests.support import merkle
from tests.support.store import RecordingObserver, SettableClock, TestLog, audit_log, pending

SIZE = 600


@dataclass(frozen=True)
class Artifact:
    """An entry that is no certificate: a digest somebody signed, and his words on it."""

    digest: bytes
    words: bytes


class ArtifactCodec:
    """Leaves of another form than RFC 6962's."""

    kind = "artifact"

    def leaf(self, timestamp: int, index: int, entry: Artifact) -> bytes:
        return b"artifact" + timestamp.to_bytes(8, "big") + index.to_bytes(8, "big") + entry.digest

    def extra_data(self, stored: LogEntry) -> bytes:
        return stored.precertificate

    def tile_entry(self, stored: LogEntry) -> bytes:
        return len(stored.leaf).to_bytes(2, "big") + stored.leaf


class Artifacts:
    """All that a log of artifacts has of its own."""

    codec = ArtifactCodec()
    consults: Sequence[Statement] = ()

    def name_of(self, entry: Artifact) -> str:
        return "an artifact"

    def refuse_unstorable(self, entry: Artifact) -> None:
        if len(entry.digest) != 32:
            raise InvalidRequest("a digest has 32 octets")

    def admission(
        self, transaction: Transaction, now: TimestampMs, require_period: RequirePeriod
    ) -> Callable[[Artifact], None]:
        def admit(entry: Artifact) -> None:
            if entry.words == b"refused":
                raise InvalidRequest("not this one")

        return admit

    def beside_leaf(self, entry: Artifact) -> BesideLeaf:
        return BesideLeaf(entry.words)

    def store(
        self, transaction: Transaction, log_number: int, stored: Sequence[tuple[Artifact, NewLeaf]]
    ) -> None:
        """An artifact has no rows of its own."""


def artifact(number: int) -> Artifact:
    return Artifact(hashlib.sha256(b"%d" % number).digest(), b"words %d" % number)


@pytest.fixture
def second(database: Database) -> TestLog:
    made = TestLog("artifacts")
    made.identity = replace(made.identity, kind="artifact")
    made.create(database)
    return made


def sequencer_of(database: Database, log: TestLog, clock: SettableClock) -> EntrySequencer[Artifact]:
    return EntrySequencer(
        database, log.identity, log.sign, clock, RecordingObserver(), entries=Artifacts(), batch_size=64
    )


def test_a_log_of_another_kind_has_the_same_tree_proofs_and_tiles(
    database: Database,
    log: TestLog,
    second: TestLog,
    sequencer: BatchingSequencer,
    reader: SqlLogReader,
    clock: SettableClock,
) -> None:
    artifacts = sequencer_of(database, second, clock)
    threads = 4

    def fill(first: int) -> None:
        for number in range(first, SIZE, threads):
            artifacts.append(artifact(number))
            if number % 8 == 0:
                sequencer.append(pending())

    fillers = [threading.Thread(target=fill, args=(first,)) for first in range(threads)]
    for each in fillers:
        each.start()
    for each in fillers:
        each.join()
    artifacts.close()

    assert audit_log(reader, log).tree_size == SIZE // 8, "the certificate log does not notice the other"
    of_second = SqlLogReader(database, "artifacts")
    head = of_second.head()
    second.verify(head)
    entries = of_second.entries(0, SIZE)
    assert {entry.leaf[24:] for entry in entries} == {artifact(number).digest for number in range(SIZE)}
    assert {entry.precertificate for entry in entries} == {artifact(number).words for number in range(SIZE)}
    hashes = [merkle.leaf_hash(entry.leaf) for entry in entries]
    assert (head.tree_size, head.root_hash) == (SIZE, merkle.root_of(hashes))
    assert of_second.tile(Tile(0, 1)) == b"".join(hashes[256:512])
    assert of_second.tile(Tile(1, 0, 2)) == merkle.root_of(hashes[:256]) + merkle.root_of(hashes[256:512])
    proof = of_second.inclusion_proof(300, SIZE)
    verify_inclusion(hashes[300], 300, SIZE, proof, head.root_hash)
    proof = of_second.consistency_proof(255, SIZE)
    verify_consistency(255, SIZE, merkle.root_of(hashes[:255]), head.root_hash, proof)
    assert of_second.index_of(hashes[511]) == 511
    assert reader.index_of(hashes[511]) is None


def test_each_kind_decides_for_itself_whom_it_refuses(
    database: Database, second: TestLog, clock: SettableClock
) -> None:
    artifacts = sequencer_of(database, second, clock)
    try:
        with pytest.raises(InvalidRequest, match="32 octets"):
            artifacts.append(Artifact(b"short", b""))
        with pytest.raises(InvalidRequest, match="not this one"):
            artifacts.append(Artifact(b"d" * 32, b"refused"))
        assert artifacts.append(artifact(1)).leaf_index == 0
    finally:
        artifacts.close()


def test_a_log_takes_entries_of_its_own_kind_only(
    database: Database, log: TestLog, second: TestLog, clock: SettableClock
) -> None:
    astray = sequencer_of(database, log, clock)
    with pytest.raises(ConfigurationError, match="takes entries of the kind precertificate, not artifact"):
        astray.append(artifact(1))
    astray.close()
    certificates = BatchingSequencer(
        database, second.identity, second.sign, clock, RecordingObserver(), entries=CertificateEntries()
    )
    with pytest.raises(ConfigurationError, match="takes entries of the kind artifact"):
        certificates.append(pending())
    certificates.close()
    assert SqlLogReader(database, "artifacts").head().tree_size == 0
