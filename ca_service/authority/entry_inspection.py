"""Inspecting log entries: leaf against hash, precertificate, chain and the row that OCSP answers from."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from ca_service.authority.entries import PRECERTIFICATE_KIND
from ca_service.authority.finding import Finding, shown
from ca_service.merkle.tree import leaf_hash
from ca_service.pki.keys import spki_der
from ca_service.pki.logged import (
    LoggedCertificate,
    LoggedLeaf,
    read_certificate,
    read_leaf,
    verify_precertificate,
)
from ca_service.vocabulary import SubjectKind, SubjectName, format_serial

_PRINT_OCTETS = 32


class LeafRow(NamedTuple):
    """A stored leaf, as its row has it; `chain` is the fingerprints one after the other."""

    leaf_index: int
    leaf_hash: bytes
    kind: str
    chain: bytes
    leaf: bytes
    precertificate: bytes


class IssuedRow(NamedTuple):
    """A row of an issued certificate, without what its leaf does not say."""

    leaf_index: int
    serial: str
    authority_key: str
    subject_kind: str
    subject: str
    subject_normalized: str
    oidc_issuer: str
    key_sha256: str
    not_before: int
    not_after: int
    crl_shard: str


@dataclass(frozen=True, slots=True)
class _Chain:
    """What an entry's chain says of it, or what is wrong with the chain."""

    issuer_key_hash: bytes = b""
    public_key: PublicKeyTypes | None = None
    wrong: tuple[Finding, ...] = ()


@dataclass
class EntryInspection:
    """The rules for entries of one log.

    `certificates` are the stored chain certificates by fingerprint, `roots` the DER of the roots that are
    trusted, `shard_urls` the URL of each CRL shard by (authority key, name).
    """

    shard: str
    kind: str
    certificates: Mapping[bytes, bytes]
    roots: frozenset[bytes]
    shard_urls: Mapping[tuple[str, str], str]
    _chains: dict[bytes, _Chain] = field(default_factory=dict)

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
                found.append(Finding("entry-missing", self.where(index), "a stored leaf", "no row in leaves"))
                if its is not None:
                    found.append(
                        Finding(
                            "issued-without-entry",
                            f"issued row {its.serial}",
                            f"the log entry {self.shard}:{index} that it names",
                            "no such entry",
                        )
                    )
                continue
            hashed = leaf_hash(row.leaf)
            hashes.append(hashed)
            if hashed != row.leaf_hash:
                found.append(
                    Finding(
                        "leaf-hash",
                        f"{self.where(index)}, leaf hash",
                        f"{hashed.hex()} (of the stored leaf)",
                        shown(row.leaf_hash),
                    )
                )
            if row.kind != self.kind:
                found.append(
                    Finding("entry-kind", f"{self.where(index)}, kind", self.kind, repr(row.kind[:40]))
                )
            if certificates:
                stamp = self._inspect_certificate(row, its, found, newest)
                newest = max(newest, stamp)
        return hashes, newest, found

    def _inspect_certificate(
        self, row: LeafRow, issued: IssuedRow | None, found: list[Finding], newest: int
    ) -> int:
        where = self.where(row.leaf_index)
        try:
            leaf = read_leaf(row.leaf)
            certificate = read_certificate(leaf.tbs)
        except ValueError as error:
            found.append(
                Finding(
                    "leaf-form", f"{where}, leaf", "a MerkleTreeLeaf as this service writes it", str(error)
                )
            )
            return 0
        if leaf.leaf_index != row.leaf_index:
            found.append(
                Finding("leaf-index", f"{where}, leaf_index", str(row.leaf_index), str(leaf.leaf_index))
            )
        if leaf.timestamp < newest:
            found.append(
                Finding(
                    "leaf-time",
                    f"{where}, timestamp",
                    f"at least {newest}, that of an entry before it",
                    str(leaf.timestamp),
                )
            )
        self._inspect_chain(row, leaf, where, found)
        if issued is None:
            found.append(
                Finding(
                    "entry-without-issued",
                    where,
                    f"an issued row of serial {format_serial(certificate.serial)}",
                    "none: OCSP answers `unknown`",
                )
            )
        else:
            found.extend(self._inspect_issued(where, certificate, issued))
        return leaf.timestamp

    def _inspect_chain(self, row: LeafRow, leaf: LoggedLeaf, where: str, found: list[Finding]) -> None:
        chain = self._chains.get(row.chain)
        if chain is None:
            chain = self._chains[row.chain] = self._read_chain(row.chain, where)
            found.extend(chain.wrong)
        if chain.public_key is None:
            return
        if leaf.issuer_key_hash != chain.issuer_key_hash:
            found.append(
                Finding(
                    "issuer-key-hash",
                    f"{where}, issuer_key_hash",
                    f"{chain.issuer_key_hash.hex()} (of its chain's issuing certificate)",
                    leaf.issuer_key_hash.hex(),
                )
            )
        try:
            verify_precertificate(row.precertificate, leaf.tbs, chain.public_key)
        except ValueError as error:
            found.append(
                Finding(
                    "precertificate",
                    f"{where}, precertificate",
                    "the logged TBSCertificate with a poison, signed by the issuing key",
                    f"{len(row.precertificate)} octets of which {error}",
                )
            )

    def _read_chain(self, prints: bytes, where: str) -> _Chain:
        """Judged once for each distinct chain, at the first entry that has it."""
        place = f"{where}, chain"
        cut = [prints[i : i + _PRINT_OCTETS] for i in range(0, len(prints), _PRINT_OCTETS)]
        ders = [self.certificates.get(each) for each in cut]
        missing = [each for each, der in zip(cut, ders, strict=True) if der is None]
        if missing or not ders:
            named = f"the unknown fingerprint {missing[0].hex()}" if missing else "an empty chain"
            return _Chain(wrong=(Finding("chain", place, "fingerprints of stored certificates", named),))
        wrong: list[Finding] = []
        try:
            certificates = [x509.load_der_x509_certificate(der) for der in ders if der is not None]
            for child, parent in pairwise(certificates):
                child.verify_directly_issued_by(parent)
        except (ValueError, TypeError, InvalidSignature) as error:
            said = str(error) or "a signature that does not verify"
            return _Chain(wrong=(Finding("chain", place, "certificates, each signed by the next", said),))
        if ders[-1] not in self.roots:
            subject = certificates[-1].subject.rfc4514_string()
            wrong.append(
                Finding(
                    "chain-root",
                    place,
                    "a chain to the root that the settings name",
                    f"another root, {subject!r}, SHA-256 {cut[-1].hex()}",
                )
            )
        key = certificates[0].public_key()
        return _Chain(hashlib.sha256(spki_der(key)).digest(), key, tuple(wrong))

    def _inspect_issued(
        self, where: str, certificate: LoggedCertificate, issued: IssuedRow
    ) -> Iterator[Finding]:
        url = self.shard_urls.get((issued.authority_key, issued.crl_shard))
        expected = IssuedRow(
            issued.leaf_index,
            format_serial(certificate.serial),
            certificate.authority_key,
            certificate.subject_kind,
            certificate.subject,
            SubjectName(SubjectKind(certificate.subject_kind), certificate.subject).normalized,
            certificate.oidc_issuer,
            certificate.key_sha256,
            certificate.not_before,
            certificate.not_after,
            issued.crl_shard,
        )
        if issued != expected:
            for column, says, stands in zip(IssuedRow._fields, expected, issued, strict=True):
                if says != stands:
                    # Who somebody is does not belong into a report: only that it differs.
                    private = column.startswith("subject")
                    yield Finding(
                        "issued-row",
                        f"issued row {issued.serial} of {where}, {column}",
                        f"the certificate's {column}" if private else f"{says} (of the leaf)",
                        "another text" if private else str(stands)[:200],
                    )
        if url is None:
            yield Finding(
                "issued-shard",
                f"issued row {issued.serial} of {where}, crl_shard",
                f"the CRL shard at {certificate.crl_url}",
                f"{issued.crl_shard[:40]!r}, which is no shard of its authority key",
            )
        elif url != certificate.crl_url:
            yield Finding(
                "issued-shard",
                f"issued row {issued.serial} of {where}, crl_shard",
                f"the shard at {certificate.crl_url} (of the leaf)",
                f"{issued.crl_shard}, which is at {url}",
            )
