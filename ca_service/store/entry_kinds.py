"""What the store keeps of each kind of log entry beside its leaf, and whom it refuses before.

The engine (append, sequencer, logs) knows entries by this Protocol alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from ca_service.authority.entries import PRECERTIFICATES, EntryCodec
from ca_service.authority.log import NewLeaf
from ca_service.authority.log_ports import PendingCertificate
from ca_service.errors import IdentityRefused
from ca_service.pki.precertificates import beside_tbs
from ca_service.store import token_uses
from ca_service.store.blocks import GENERATION, BlockList, current_list
from ca_service.store.quick import Insertion, Statement, Transaction
from ca_service.store.schema import issued
from ca_service.vocabulary import LeafIndex, TimestampMs, format_serial

_LONGEST_SUBJECT = 2_000
"""Octets; an index entry of PostgreSQL holds 2,704."""

_NEW_ISSUED = Insertion(issued)

Entry = TypeVar("Entry", contravariant=True)

RequirePeriod = Callable[[int], None]
"""Takes a notAfter (seconds since 1970); raises LogClosed when it is not of the log's period."""


@dataclass(frozen=True, slots=True)
class BesideLeaf:
    """What is kept in an entry's row and is not hashed: octets, and certificates that many entries share.

    `signature` are octets too: of a precertificate that is not kept whole, since the leaf tells its rest.
    """

    octets: bytes = b""
    chain: tuple[bytes, ...] = ()
    signature: bytes = b""


class EntryKind(Protocol[Entry]):
    """One kind of entry, as the engine sees it."""

    @property
    def codec(self) -> EntryCodec[Entry]:
        """How its leaves are written."""
        ...

    @property
    def consults(self) -> Sequence[Statement]:
        """Queries without parameters whose first row `admission` asks for: PostgreSQL gets them early."""
        ...

    def name_of(self, entry: Entry) -> str:
        """The entry in a sentence, as in "the certificate 2c0f"; nothing that names a person."""
        ...

    def refuse_unstorable(self, entry: Entry) -> None:
        """Raise an InvalidRequest for what no row can hold, before the entry waits with others."""
        ...

    def admission(
        self, transaction: Transaction, now: TimestampMs, require_period: RequirePeriod
    ) -> Callable[[Entry], None]:
        """What decides, under the log's lock, on each entry of a batch: it raises a CAError to refuse one.

        Entries that belong to a time are held to the log's period by `require_period`.
        """
        ...

    def beside_leaf(self, entry: Entry) -> BesideLeaf:
        """What the entry's row keeps beside the leaf."""
        ...

    def store(
        self, transaction: Transaction, log_number: int, stored: Sequence[tuple[Entry, NewLeaf]]
    ) -> None:
        """Insert further rows that must be durable together with the leaves."""
        ...


class CertificateEntries:
    """Precertificates: refused when blocked or when their token was used; known to OCSP once logged."""

    consults: Sequence[Statement] = (GENERATION,)

    def __init__(self, codec: EntryCodec[PendingCertificate] = PRECERTIFICATES) -> None:
        """Take the codec."""
        self.codec = codec
        self._blocks = BlockList()

    def name_of(self, entry: PendingCertificate) -> str:
        """The certificate by its serial."""
        return f"the certificate {format_serial(entry.serial)}"

    def refuse_unstorable(self, entry: PendingCertificate) -> None:
        """Raise IdentityRefused for names that PostgreSQL could not store or index."""
        texts = (entry.subject.value, entry.oidc_issuer, entry.oidc_subject)
        if any("\0" in text for text in texts) or len(entry.subject.normalized.encode()) > _LONGEST_SUBJECT:
            raise IdentityRefused(
                f"an identity has no NUL sign and at most {_LONGEST_SUBJECT} octets; this one has, so no "
                "record of its certificate could be kept"
            )

    def admission(
        self, transaction: Transaction, now: TimestampMs, require_period: RequirePeriod
    ) -> Callable[[PendingCertificate], None]:
        """Refuse what belongs into another shard, the blocked, and a second use of a token.

        Raises LogClosed, IdentityBlocked, TokenReused.
        """
        blocks = self._blocks = current_list(transaction, self._blocks)

        def admit(entry: PendingCertificate) -> None:
            require_period(entry.not_after)
            blocks.check(entry.subject, entry.oidc_issuer, entry.oidc_subject, entry.key_sha256, now // 1000)
            if entry.token_use is not None:
                token_uses.use(transaction, entry.token_use)

        return admit

    def beside_leaf(self, entry: PendingCertificate) -> BesideLeaf:
        """The precertificate's signature, or the precertificate where it is not as `profile` makes them."""
        signature = beside_tbs(entry.precertificate, entry.tbs)
        return BesideLeaf(b"" if signature else entry.precertificate, entry.chain, signature)

    def store(
        self,
        transaction: Transaction,
        log_number: int,
        stored: Sequence[tuple[PendingCertificate, NewLeaf]],
    ) -> None:
        """Insert the rows that make the certificates known to OCSP and to searches."""
        transaction.insert(
            _NEW_ISSUED, [_issued_row(log_number, entry, leaf.leaf_index) for entry, leaf in stored]
        )


def _issued_row(number: int, entry: PendingCertificate, index: LeafIndex) -> tuple[object, ...]:
    """In the order of the table's columns."""
    return (
        number,
        index,
        bytes.fromhex(format_serial(entry.serial)),
        entry.authority_key,
        entry.subject.kind.value,
        entry.subject.value,
        entry.subject.normalized,
        entry.oidc_issuer,
        entry.oidc_subject,
        bytes.fromhex(entry.key_sha256),
        entry.not_before,
        entry.not_after,
        entry.crl_shard,
    )
