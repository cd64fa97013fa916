"""What the authority needs of the world, as narrow Protocols, and the records that pass through them.

Adapters live on floor 3. A comment under a method is its contract: every adapter keeps it, and one contract
suite in tests/contract holds all adapters of a port to it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ca_service.authority.mark import LogMark, Mark
from ca_service.merkle.tiles import Tile
from ca_service.vocabulary import (
    KeyId,
    LeafIndex,
    LogId,
    RevocationReason,
    Serial,
    SubjectKind,
    SubjectName,
    TimestampMs,
)


class Clock(Protocol):
    """The time, as a parameter, so that tests can set it."""

    def __call__(self) -> TimestampMs:
        """Milliseconds since 1970 in UTC."""
        ...


# -- who may ask, and how often -------------------------------------------------------------------------

RATE_WINDOW_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left of a limit: `remaining` more requests within `reset_after` seconds (at least 1)."""

    allowed: bool
    limit: int
    remaining: int
    reset_after: int


class RateLimiter(Protocol):
    """Counts requests by key, in windows."""

    def take(self, key: str, limit: int) -> Allowance | None:
        """Count one more request of `key`; allowed while its window has seen no more than `limit`.

        A window begins with the first request of its key and lasts RATE_WINDOW_SECONDS; what is refused does
        not lengthen it. Exactly `limit` are allowed, however many ask at once. `key` is a hash: an adapter
        may show it to others. Never raises, and returns within a fraction of a second; None when nobody can
        tell now, and the request then goes on.
        """
        ...


@dataclass(frozen=True, slots=True)
class TokenUse:
    """That a token was used: a hash that names it, and until when it could be used again (seconds)."""

    token_hash: bytes
    expires: int


# -- issuing and the log ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PendingCertificate:
    """A precertificate on its way into the log, with the row that makes it known to OCSP and to searches.

    `tbs` is the precertificate's TBSCertificate without the poison extension; `not_before` and `not_after`
    are seconds since 1970; `key_sha256` is lower-case hex over the subject's SubjectPublicKeyInfo; `chain`
    are the DER certificates from the issuing one up to the root. With a `token_use` the token gets no
    second certificate.
    """

    serial: Serial
    authority_key: KeyId
    precertificate: bytes
    tbs: bytes
    issuer_key_hash: bytes
    chain: tuple[bytes, ...]
    subject: SubjectName
    oidc_issuer: str
    oidc_subject: str
    key_sha256: str
    not_before: int
    not_after: int
    crl_shard: str
    token_use: TokenUse | None = None


@dataclass(frozen=True, slots=True)
class Sequenced:
    """Where the log put an entry. `leaf` is its MerkleTreeLeaf, which is also what its SCT signs."""

    log_id: LogId
    leaf_index: LeafIndex
    timestamp: TimestampMs
    leaf: bytes


class Sequencer(Protocol):
    """Puts precertificates into the log, many callers at once."""

    def append(self, entry: PendingCertificate, within: float | None = None) -> Sequenced:
        """Return only after entry, issued row and new tree head are durable in one transaction.

        `within` (seconds) is how long the caller can wait, if that is less than the adapter would.
        Blocks are checked again inside that transaction, and a token's use is recorded in it. Raises
        IdentityBlocked, TokenReused, LogBusy (queue full), LogUnavailable (nothing was stored, or it cannot
        be known and was not found), ClockBehind.
        """
        ...

    def submit(self, entry: PendingCertificate, done: Callable[[], None]) -> "Ticket":
        """Hand an entry over without waiting; `done` is called, in another thread, once its fate is known.

        It may lie until `begin` is called, so that what comes together is stored together. Raises as `append`
        does for what is known at once, and LogBusy.
        """
        ...

    def begin(self) -> None:
        """Let everything that was submitted be stored now."""
        ...


class Ticket(Protocol):
    """An entry that was handed to the sequencer."""

    def result(self) -> Sequenced:
        """Where it went; raises what `append` would. For after `done`."""
        ...

    def withdraw(self) -> None:
        """Take it back if nobody has begun to store it; its result is of no interest any more."""
        ...


class Blocks(Protocol):
    """Who gets no certificates."""

    def check(self, subject: SubjectName, oidc_issuer: str, oidc_subject: str, key_sha256: str) -> None:
        """Raise IdentityBlocked when one of them is blocked now; a quick refusal before costly work."""
        ...


@dataclass(frozen=True, slots=True)
class Block:
    """Who gets no certificates: members that are None do not restrict, but one must be given.

    `subject` is a SAN, or a glob with `*` and `?`, compared under SubjectName.normalized; `key_sha256` is
    lower-case hex. `created` and `expires` (None: never) are seconds since 1970; `number` is 0 until it is
    stored. `reason` is for administrators: those who are refused are not told.
    """

    subject: str | None = None
    oidc_issuer: str | None = None
    oidc_subject: str | None = None
    key_sha256: str | None = None
    reason: str = ""
    created: int = 0
    expires: int | None = None
    number: int = 0

    @property
    def normalized(self) -> str | None:
        """The subject pattern as subjects are compared."""
        return None if self.subject is None else SubjectName(SubjectKind.URI, self.subject).normalized

    @property
    def target(self) -> tuple[str | None, str | None, str | None, str | None]:
        """Whom it concerns, in comparable form: subject pattern, issuer, the issuer's subject, key."""
        return (self.normalized, self.oidc_issuer, self.oidc_subject, self.key_sha256)


@dataclass(frozen=True, slots=True)
class TreeHead:
    """A signed tree head: `signature` is the DigitallySigned struct over it (RFC 6962 §3.5)."""

    log_id: LogId
    tree_size: int
    timestamp: TimestampMs
    root_hash: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A stored entry: MerkleTreeLeaf, the precertificate DER, and its chain (issuing certificate first)."""

    leaf_index: LeafIndex
    leaf: bytes
    precertificate: bytes
    chain: tuple[bytes, ...]


class LogReader(Protocol):
    """Reads of one log; everything it returns below the signed size never changes."""

    def head(self) -> TreeHead:
        """The newest durable tree head."""
        ...

    def entries(self, start: int, end: int) -> Sequence[LogEntry]:
        """Entries start..end, end excluded, which the caller has clamped to a signed size."""
        ...

    def index_of(self, leaf_hash: bytes) -> LeafIndex | None:
        """Where the leaf with this Merkle leaf hash is, or None."""
        ...

    def inclusion_proof(self, index: int, tree_size: int) -> list[bytes]:
        """The audit path of RFC 6962 §2.1.1; index < tree_size <= head().tree_size."""
        ...

    def consistency_proof(self, first: int, second: int) -> list[bytes]:
        """The proof of RFC 6962 §2.1.2; 0 < first <= second <= head().tree_size."""
        ...

    def root_at(self, tree_size: int) -> bytes:
        """The root hash of the tree of this size; tree_size <= head().tree_size."""
        ...

    def tile(self, tile: Tile) -> bytes | None:
        """The content of a hash tile of this width, 32 octets for each entry.

        None unless the newest signed tree has all of its entries, whatever more is stored. A partial tile
        stays readable after its full one exists. `tile` is no data tile.
        """
        ...

    def chain_certificate(self, fingerprint: bytes) -> bytes | None:
        """The DER of a certificate that stands in some entry's chain, by its SHA-256 (32 octets), or None."""
        ...


# -- issued certificates ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """What is known of one issued certificate; times are seconds since 1970."""

    serial: Serial
    authority_key: KeyId
    log_shard: str
    leaf_index: LeafIndex
    subject: SubjectName
    oidc_issuer: str
    oidc_subject: str
    key_sha256: str
    not_before: int
    not_after: int
    crl_shard: str


@dataclass(frozen=True, slots=True)
class Selector:
    """Which certificates are meant; members that are None do not restrict. An empty selector means none.

    `identity` is a SAN, or a glob with `*` and `?`, compared under SubjectName.normalized; `oidc_subject` is
    the `sub` that the issuer gave. `since` and `until` (seconds since 1970) are a window: certificates valid
    at any moment in it.
    """

    identity: str | None = None
    oidc_issuer: str | None = None
    oidc_subject: str | None = None
    key_sha256: str | None = None
    log_index: tuple[str, int] | None = None
    serial: Serial | None = None
    since: int | None = None
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Revocation:
    """One certificate taken back; times are seconds since 1970.

    `revocation_date` is the moment from which its signatures are not to be trusted, `revoked_at` when
    that was decided. `reason` is published, `comment` is not.
    """

    serial: Serial
    authority_key: KeyId
    crl_shard: str
    revocation_date: int
    revoked_at: int
    reason: RevocationReason
    comment: str = ""


class IssuedCertificates(Protocol):
    """Reads of what was issued."""

    def by_serial(self, serial: Serial) -> IssuedCertificate | None:
        """The certificate with this serial, of whichever authority key (serials are random, 159 bits)."""
        ...

    def find(self, selector: Selector, limit: int) -> Sequence[tuple[IssuedCertificate, Revocation | None]]:
        """What the selector means, newest first, at most `limit`."""
        ...


# -- revocation and publication -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: `name` is an OIDC subject or `local:USER`; `source` an address or host; a request id."""

    name: str
    source: str
    request_id: str


@dataclass(frozen=True, slots=True)
class CertificateStatus:
    """What OCSP has to know of a serial, read in one consistent look."""

    issued: bool
    revocation: Revocation | None


@dataclass(frozen=True, slots=True)
class CrlStanding:
    """How one CRL partition stands, (issuing key, month of issue, sub-shard), as leaves name it by its URL.

    `generation` counts changes that its CRL must show; `published_generation` is what the stored CRL shows.
    `covers_from` (seconds) is the earliest notAfter of a certificate that names it.
    """

    authority_key: KeyId
    name: str
    url: str
    covers_from: int
    generation: int
    crl_number: int
    published_generation: int
    this_update: int
    next_update: int

    @property
    def is_dirty(self) -> bool:
        """Whether the stored CRL lacks a change."""
        return self.generation != self.published_generation


@dataclass(frozen=True, slots=True)
class CrlShard(CrlStanding):
    """One CRL partition with its newest CRL (DER), which may have many megabytes."""

    crl: bytes


class Revocations(Protocol):
    """Revocations, and the counter by which every worker knows that its cached answers are old."""

    def generation(self) -> int:
        """The number of revocation changes so far: cheap, read afresh on every call, never cached."""
        ...

    def status(self, authority_key: KeyId, serial: Serial) -> CertificateStatus:
        """Whether this key issued the serial, and its revocation."""
        ...

    def revoke(self, revocations: Sequence[Revocation], actor: Actor, action: str) -> Sequence[Revocation]:
        """Store them, bump generations, and append the audit record, in one durable transaction.

        Returns those that changed something. One already revoked stays as it is unless the new date is
        earlier or the reason was unspecified (stricter, never looser). Raises StoreUnavailable.
        """
        ...


class Shards(Protocol):
    """CRL shards and the newest CRL of each."""

    def get(self, authority_key: KeyId, name: str) -> CrlShard | None:
        """The shard with its newest published CRL, or None when there is no such shard."""
        ...

    def all(self) -> Sequence[CrlStanding]:
        """Every shard without its CRL, oldest first."""
        ...

    def due(self, signed_before: int) -> Sequence[CrlStanding]:
        """Each shard that is dirty, or whose CRL was signed at or before this second."""
        ...

    def create(self, shard: CrlShard, within: float | None = None) -> CrlShard:
        """Store a new shard with its first CRL; when another worker was first, return that one.

        `within` (seconds) is how long the caller can wait for other writers, if less than the adapter would.
        """
        ...

    def rebuild(
        self,
        authority_key: KeyId,
        name: str,
        build: "CrlBuilder",
    ) -> CrlShard:
        """Under the shard's lock: read it and its revocations, call `build`, store what it returns.

        `build` returns None to leave the shard as it is (another worker has just rebuilt it); revocations
        are read only when it looks at them. The number it is given is strictly greater than that of any CRL
        stored before for the shard.
        """
        ...


@dataclass(frozen=True, slots=True)
class BuiltCrl:
    """A signed CRL and its times in seconds since 1970."""

    crl: bytes
    this_update: int
    next_update: int


class CrlBuilder(Protocol):
    """Builds a shard's next CRL from what is stored."""

    def __call__(
        self, shard: CrlShard, crl_number: int, revocations: Iterable[Revocation]
    ) -> BuiltCrl | None:
        """Return the signed CRL, or None when the stored one is good enough."""
        ...


# -- the memory outside the database -----------------------------------------------------------------


class HighWaterMark(Protocol):
    """The highest state ever seen of a service, in a place that no backup of its database covers."""

    def read(self) -> Mark:
        """What was stored last, by whichever process. Cheap while it does not change.

        Raises MarkMissing when there is none, MarkUnavailable when it cannot be read or was damaged.
        """
        ...

    def create(self, mark: Mark) -> None:
        """Store the first mark durably; AlreadyExists when there is one, MarkUnavailable."""
        ...

    def advance(self, seen: Mark, following: Mark) -> bool:
        """Put `following` in the place of `seen`, durably; False when another than `seen` stands there.

        Under a lock that holds between processes. Never goes backwards: ValueError when `following` does
        not cover `seen`. Raises MarkMissing, MarkUnavailable.
        """
        ...

    def change(self, made: Callable[[Mark], Mark]) -> None:
        """Put what `made` makes of the mark in its place, durably, under the lock of `advance`.

        It is kept when it comes back unchanged. For changes that many make: nobody has to try again.
        Raises as `advance` does, and what `made` raises.
        """
        ...

    def reset(self, mark: Mark) -> None:
        """Put another mark there, lower or not: the last step of a recovery. Raises MarkUnavailable."""
        ...


@dataclass(frozen=True, slots=True)
class QuickPosition:
    """How many entries all logs have together, and how far revocations and audit trail are."""

    entries: int
    generation: int
    audit_sequence: int


class Position(Protocol):
    """How far a database says it has come; every call reads afresh and raises StoreUnavailable."""

    def quick(self) -> QuickPosition:
        """The numbers alone, in one cheap look."""
        ...

    def whole(self) -> Mark:
        """Everything that a mark holds."""
        ...

    def log(self, log_id: LogId) -> LogMark | None:
        """How far one log has come; None when there is no such log."""
        ...

    def root_at(self, log_id: LogId, tree_size: int) -> bytes:
        """The root hash that a log of this database had at a size it has reached."""
        ...

    def audit_hash_at(self, sequence: int) -> str:
        """The hash of an audit record, "" when there is none of this number."""
        ...


class WakeUps(Protocol):
    """Hints between processes and nodes that the database is worth a look now.

    They carry nothing, and may be lost, late, repeated or forged: who is woken looks, and believes what is
    there.
    """

    def send(self) -> None:
        """Wake whoever waits in this process, and in all others of the service that the adapter reaches.

        Never raises, and returns within a fraction of a second.
        """
        ...

    def wait(self, seconds: float) -> bool:
        """Sleep until woken, or for so long, and say whether it was a wake-up; many at once are one.

        For one thread of each process; what it reaches begins with the first call after a fork. Never raises.
        """
        ...

    def close(self) -> None:
        """End what runs in this process for it, and wake whoever waits."""
        ...


class Observer(Protocol):
    """Where the authority tells what it did, for metrics; it must not fail and not block."""

    def count(self, event: str, **labels: str) -> None:
        """One more of this event."""
        ...

    def duration(self, stage: str, seconds: float) -> None:
        """How long a stage of the work took."""
        ...

    def size(self, what: str, number: float) -> None:
        """How much was done at once."""
        ...

    def level(self, what: str, value: float, **labels: str) -> None:
        """How high something stands in this process now."""
        ...
