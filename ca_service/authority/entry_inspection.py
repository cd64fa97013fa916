"""Inspecting log entries: leaf against hash, precertificate, chain and the row that OCSP answers from."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from ca_service.authority.chain_inspection import InspectedChain, inspect_chain
from ca_service.authority.entries import PRECERTIFICATE_KIND
from ca_service.authority.finding import Finding, shown
from ca_service.authority.log_shards import Period
from ca_service.merkle.tree import leaf_hash
from ca_service.pki.logged import (
    LoggedCertificate,
    LoggedLeaf,
    poisoned,
    read_certificate,
    read_leaf,
    signature_beside,
    signature_of,
)
from ca_service.vocabulary import SubjectKind, SubjectName


class LeafRow(NamedTuple):
    """A stored leaf, as its row has it; `chain` is the fingerprints one after the other.

    `hash_prefix` is what look-ups by hash find. `signature` is what follows the TBSCertificate in the
    precertificate, which is stored whole, in `precertificate`, only where that and the leaf do not give it.
    """

    leaf_index: int
    hash_prefix: int
    leaf_hash: bytes
    kind: str
    chain: bytes
    signature: bytes
    leaf: bytes
    precertificate: bytes


class IssuedRow(NamedTuple):
    """A row of an issued certificate, without what its leaf does not say."""

    leaf_index: int
    serial: bytes
    authority_key: str
    subject_kind: str
    subject: str
    subject_normalized: str
    oidc_issuer: str
    key_sha256: bytes
    not_before: int
    not_after: int
    crl_shard: str


_LEAF_TYPES = tuple(LeafRow.__annotations__.values())
_ISSUED_TYPES = tuple(IssuedRow.__annotations__.values())


@dataclass
class EntryInspection:
    """The rules for entries of one log.

    `certificates` are the stored chain certificates by fingerprint, `roots` the DER of the roots that are
    trusted, `shard_urls` the URL of each CRL shard by (authority key, name), `period` what every notAfter
    must be in.
    """

    shard: str
    kind: str
    certificates: Mapping[bytes, bytes]
    roots: frozenset[bytes]
    shard_urls: Mapping[tuple[str, str], str]
    period: Period | None = None
    _chains: dict[bytes, InspectedChain] = field(default_factory=dict)

    def where(self, index: int) -> str:
        """An entry in a sentence."""
        return f"entry {self.shard}:{index}"

    def inspect(
        self, start: int, end: int, leaves: Sequence[LeafRow], issued: Sequence[IssuedRow]
    ) -> tuple[list[bytes | None], int, list[Finding]]:
        """Inspect entries start..end (excluded), whose rows come by index.

        Returns the hash of each leaf (None where it is missing), the newest timestamp, and the findings.
        """
        found: list[Finding] = []
        hashes: list[bytes | None] = []
        newest = 0
        rows = {row.leaf_index: row for row in leaves}
        known = {row.leaf_index: row for row in issued}
        certificates = self.kind == PRECERTIFICATE_KIND
        for index in range(start, end):
            row, its = rows.get(index), known.get(index)
            if row is None:
                hashes.append(None)
                found.extend(self._inspect_missing(index, its))
                continue
            if tuple(map(type, row)) != _LEAF_TYPES:
                hashes.append(None)
                found.extend(wrong_types(f"{self.where(index)}, leaves", row))
                continue
            hashed = leaf_hash(row.leaf)
            hashes.append(hashed)
            if hashed != row.leaf_hash:
                expected = f"{hashed.hex()} (of the stored leaf)"
                found.append(
                    Finding("leaf-hash", f"{self.where(index)}, leaf hash", expected, shown(row.leaf_hash))
                )
            elif row.hash_prefix != int.from_bytes(hashed[:8], "big", signed=True):
                expected, found_there = hashed[:8].hex(), f"{row.hash_prefix:x}: no look-up finds the leaf"
                found.append(Finding("leaf-hash", f"{self.where(index)}, hash_prefix", expected, found_there))
            if row.kind != self.kind:
                found.append(
                    Finding("entry-kind", f"{self.where(index)}, kind", self.kind, repr(row.kind[:40]))
                )
            if certificates:
                newest = max(newest, self._inspect_certificate(row, its, found, newest))
        return hashes, newest, found

    def _inspect_missing(self, index: int, issued: IssuedRow | None) -> Iterator[Finding]:
        yield Finding("entry-missing", self.where(index), "a stored leaf", "no row in leaves")
        if issued is not None:
            yield Finding(
                "issued-without-entry",
                f"issued row {_shown(issued.serial)}",
                f"the log entry {self.shard}:{index} that it names",
                "no such entry",
            )

    def _inspect_certificate(
        self, row: LeafRow, issued: IssuedRow | None, found: list[Finding], newest: int
    ) -> int:
        try:
            leaf = read_leaf(row.leaf)
            certificate = read_certificate(leaf.tbs)
        except ValueError as error:
            form = "a MerkleTreeLeaf as this service writes it"
            found.append(Finding("leaf-form", f"{self.where(row.leaf_index)}, leaf", form, str(error)))
            return 0
        if leaf.leaf_index != row.leaf_index:
            where = f"{self.where(row.leaf_index)}, leaf_index"
            found.append(Finding("leaf-index", where, str(row.leaf_index), str(leaf.leaf_index)))
        if leaf.timestamp < newest:
            where, expected = self.where(row.leaf_index), f"at least {newest}, that of an entry before it"
            found.append(Finding("leaf-time", f"{where}, timestamp", expected, str(leaf.timestamp)))
        if self.period is not None and not self.period.covers(certificate.not_after):
            found.append(
                Finding(
                    "entry-period",
                    f"{self.where(row.leaf_index)}, notAfter",
                    f"within the shard's period, from {self.period.starts} to {self.period.ends}",
                    str(certificate.not_after),
                )
            )
        self._inspect_signature(row, leaf, certificate, found)
        if issued is None:
            found.append(
                Finding(
                    "entry-without-issued",
                    self.where(row.leaf_index),
                    f"an issued row of serial {certificate.serial.hex()}",
                    "none: OCSP answers `unknown`",
                )
            )
        elif tuple(map(type, issued)) != _ISSUED_TYPES:
            found.extend(wrong_types(f"issued row of {self.where(row.leaf_index)}", issued))
        elif not self._is_of(certificate, issued):
            found.extend(self._inspect_issued(certificate, issued))
        return leaf.timestamp

    def _inspect_signature(
        self, row: LeafRow, leaf: LoggedLeaf, certificate: LoggedCertificate, found: list[Finding]
    ) -> None:
        chain = self._chains.get(row.chain)
        if chain is None:
            where = self.where(row.leaf_index)
            chain = inspect_chain(where, row.chain, self.certificates, self.roots)
            self._chains[row.chain] = chain
            found.extend(chain.wrong)
        if chain.verify is None:
            return
        if leaf.issuer_key_hash != chain.issuer_key_hash:
            where = f"{self.where(row.leaf_index)}, issuer_key_hash"
            expected = f"{chain.issuer_key_hash.hex()} (of its chain's issuing certificate)"
            found.append(Finding("issuer-key-hash", where, expected, leaf.issuer_key_hash.hex()))
        try:
            message = poisoned(leaf.tbs, certificate.extensions)
            if row.precertificate:
                signature = signature_of(row.precertificate, message)
            else:
                signature = signature_beside(row.signature, certificate.algorithm)
            chain.verify(signature, message)
        except ValueError as error:
            found.append(
                Finding(
                    "precertificate",
                    f"{self.where(row.leaf_index)}, precertificate",
                    "the logged TBSCertificate with a poison, signed by the issuing key",
                    f"{len(row.precertificate) or len(row.signature)} octets of which {error}",
                )
            )

    def _is_of(self, certificate: LoggedCertificate, issued: IssuedRow) -> bool:
        return (
            issued[1:10] == _columns(certificate)
            and self.shard_urls.get((issued.authority_key, issued.crl_shard)) == certificate.crl_url
        )

    def _inspect_issued(self, certificate: LoggedCertificate, issued: IssuedRow) -> Iterator[Finding]:
        where = f"issued row {issued.serial.hex()} of {self.where(issued.leaf_index)}"
        expected = IssuedRow(issued.leaf_index, *_columns(certificate), issued.crl_shard)
        for column, says, stands in zip(IssuedRow._fields, expected, issued, strict=True):
            if says != stands:
                # Who somebody is does not belong into a report: only that it differs.
                private = column.startswith("subject")
                yield Finding(
                    "issued-row",
                    f"{where}, {column}",
                    f"the certificate's {column}" if private else f"{_shown(says)} (of the leaf)",
                    "another text" if private else _shown(stands),
                )
        url = self.shard_urls.get((issued.authority_key, issued.crl_shard))
        if url is None:
            yield Finding(
                "issued-shard",
                f"{where}, crl_shard",
                f"the CRL shard at {certificate.crl_url}",
                f"{issued.crl_shard[:40]!r}, which is no shard of its authority key",
            )
        elif url != certificate.crl_url:
            yield Finding(
                "issued-shard",
                f"{where}, crl_shard",
                f"the shard at {certificate.crl_url} (of the leaf)",
                f"{issued.crl_shard}, which is at {url}",
            )


def _shown(value: object) -> str:
    return (value.hex() if isinstance(value, bytes) else str(value))[:200]


def _columns(certificate: LoggedCertificate) -> tuple[bytes, str, str, str, str, str, bytes, int, int]:
    """What an issued row must say of a certificate, from its serial to its notAfter."""
    return (
        certificate.serial,
        certificate.authority_key,
        certificate.subject_kind,
        certificate.subject,
        _normalized(certificate.subject_kind, certificate.subject),
        certificate.oidc_issuer,
        certificate.key_sha256,
        certificate.not_before,
        certificate.not_after,
    )


@lru_cache(maxsize=4096)
def _normalized(kind: str, subject: str) -> str:
    return SubjectName(SubjectKind(kind), subject).normalized


def wrong_types(where: str, row: LeafRow | IssuedRow) -> Iterator[Finding]:
    """Values of another type than their column has: SQLite keeps whatever it is given."""
    for (column, expected), value in zip(type(row).__annotations__.items(), row, strict=True):
        if type(value) is not expected:
            yield Finding("column-type", f"{where}, {column}", expected.__name__, type(value).__name__)
