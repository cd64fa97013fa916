"""What issuing needs of the log, as narrow Protocols, and the records that pass through them.

As ports.py says, the comment under a method is its contract.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ca_service.authority.ports import TokenUse
from ca_service.merkle.tiles import Tile
from ca_service.vocabulary import (
    KeyId,
    LeafIndex,
    LogId,
    Serial,
    SubjectName,
    TimestampMs,
)


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
