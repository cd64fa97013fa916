"""A log with its key, entries for it, and a whole-log audit: what tests of the store are made of."""

import hashlib
import itertools
import threading
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ca_service.authority.log import LogIdentity, first_tree_head
from ca_service.authority.log_ports import PendingCertificate, TreeHead
from ca_service.authority.ports import Actor, Clock
from ca_service.merkle.checkpoint import tree_head_input
from ca_service.pki.sct import digitally_sign
from ca_service.store.append import LogAppender
from ca_service.store.database import Database
from ca_service.store.entry_kinds import CertificateEntries
from ca_service.store.logs import SqlLogReader, create_log
from ca_service.store.sequencer import BatchingSequencer
from ca_service.vocabulary import KeyId, LogId, Serial, SubjectKind, SubjectName, TimestampMs
from tests.support import merkle

NOW = 1_790_000_000_000
AUTHORITY_KEY = KeyId("a1" * 20)
CHAIN = (b"issuing certificate" * 20, b"root certificate" * 20)
ACTOR = Actor("local:admin", "host", "request-1")
ISSUER = "https://issuer.example"

_numbers = itertools.count(1)


@dataclass
class SettableClock:
    """A clock that stands still until it is set; milliseconds."""

    now: int = NOW

    def __call__(self) -> TimestampMs:
        return TimestampMs(self.now)


@dataclass
class RecordingObserver:
    """Keeps what it is told."""

    counted: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    stages: list[str] = field(default_factory=list)
    sizes: list[tuple[str, float]] = field(default_factory=list)
    levels: dict[str, float] = field(default_factory=dict)

    def count(self, event: str, **labels: str) -> None:
        self.counted.append((event, labels))

    def duration(self, stage: str, seconds: float) -> None:
        self.stages.append(stage)

    def size(self, what: str, number: float) -> None:
        self.sizes.append((what, number))

    def level(self, what: str, value: float, **labels: str) -> None:
        self.levels[what] = value


class TestLog:
    """A log's key, and the identity that follows from it."""

    __test__ = False

    def __init__(self, shard: str = "2026", key: ec.EllipticCurvePrivateKey | None = None) -> None:
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        spki = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        log_id = LogId(hashlib.sha256(spki).digest())
        self.identity = LogIdentity(shard, f"ca.example/ctlog/{shard}", log_id, spki)

    def sign(self, message: bytes) -> bytes:
        return digitally_sign(self.key, message)

    def verify(self, head: TreeHead) -> None:
        """Raise InvalidSignature unless the log signed this head."""
        assert head.log_id == self.identity.log_id
        self.key.public_key().verify(
            head.signature[4:],
            tree_head_input(head.timestamp, head.tree_size, head.root_hash),
            ec.ECDSA(SHA256()),
        )

    def create(self, database: Database, now: int = NOW) -> None:
        create_log(database, self.identity, first_tree_head(self.identity, TimestampMs(now), self.sign))

    def appender(self, database: Database, clock: Clock | None = None) -> LogAppender[PendingCertificate]:
        """What writes batches into the log, without a thread."""
        return LogAppender(database, self.identity, self.sign, clock or SettableClock(), CertificateEntries())

    def sequencer(
        self,
        database: Database,
        clock: Clock | None = None,
        observer: RecordingObserver | None = None,
        **options: object,
    ) -> BatchingSequencer:
        return BatchingSequencer(
            database,
            self.identity,
            self.sign,
            clock or SettableClock(),
            observer or RecordingObserver(),
            entries=CertificateEntries(),
            **{"timeout": 60.0, **options},  # type: ignore[arg-type]  # tests pass what the constructor names
        )


def pending(
    subject: str = "dev@example.com",
    *,
    serial: int | None = None,
    kind: SubjectKind = SubjectKind.EMAIL,
    oidc_issuer: str = ISSUER,
    oidc_subject: str = "1234",
    key_sha256: str = "",
    not_before: int = NOW // 1000,
    crl_shard: str = "2026-09-0a",
) -> PendingCertificate:
    """An entry like the authority makes; each has a serial of its own."""
    number = serial if serial is not None else (next(_numbers) << 80) + threading.get_ident() % 65536
    return PendingCertificate(
        serial=Serial(number),
        authority_key=AUTHORITY_KEY,
        precertificate=b"precertificate %d" % number,
        tbs=b"tbs %d" % number,
        issuer_key_hash=b"h" * 32,
        chain=CHAIN,
        subject=SubjectName(kind, subject),
        oidc_issuer=oidc_issuer,
        oidc_subject=oidc_subject,
        key_sha256=key_sha256 or hashlib.sha256(b"%d" % number).hexdigest(),
        not_before=not_before,
        not_after=not_before + 600,
        crl_shard=crl_shard,
    )


def audit_log(reader: SqlLogReader, log: TestLog) -> TreeHead:
    """Read the whole log: gapless, its signed root is that of its leaves, every leaf is found by its hash."""
    head = reader.head()
    log.verify(head)
    entries = reader.entries(0, head.tree_size)
    assert [entry.leaf_index for entry in entries] == list(range(head.tree_size))
    hashes = [merkle.leaf_hash(entry.leaf) for entry in entries]
    assert merkle.root_of(hashes) == head.root_hash == reader.root_at(head.tree_size)
    for entry in entries:
        timestamp = int.from_bytes(entry.leaf[2:10], "big")
        assert timestamp <= head.timestamp
        assert entry.leaf[-8:] == b"\x00\x00\x05" + entry.leaf_index.to_bytes(5, "big")
    assert len(set(hashes)) == len(hashes)
    return head
