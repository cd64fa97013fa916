"""Checking that a log holds a certificate: nothing is believed but the trust files and arithmetic.

What a log answers, or a bundle holds, is evidence; `verify` alone judges it.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509

from ca_service.cli.trusted_logs import Trust, TrustedLog
from ca_service.merkle.checkpoint import parse_checkpoint
from ca_service.merkle.tree import leaf_hash, verify_inclusion
from ca_service.pki.keys import spki_der
from ca_service.pki.sct import Sct, precertificate_leaf, scts_of, verify_sct
from ca_service.pki.signatures import verify_sha256
from ca_service.vocabulary import LeafIndex, Serial


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is to prove an entry: the checkpoint as a note, the leaf that the log holds, its audit path."""

    checkpoint: str
    leaf: bytes
    proof: tuple[bytes, ...]


Gather = Callable[[TrustedLog, LeafIndex], Evidence]
"""Gets the evidence for the entry at an index; raises LogUnreadable, and ValueError for nonsense."""


@dataclass(frozen=True, slots=True)
class Inclusion:
    """What was proven: which log holds the certificate, where, since when, and in which tree."""

    serial: Serial
    log: TrustedLog
    leaf_index: LeafIndex
    logged_at: datetime
    tree_size: int
    root_hash: bytes
    tree_signed_at: datetime
    evidence: Evidence


class NotProven(Exception):
    """A step failed: `step` names it, the message says what was expected and what came."""

    def __init__(self, step: str, message: str) -> None:
        """Take the step and a sentence."""
        super().__init__(message)
        self.step = step
        self.message = message


def verify(certificate: x509.Certificate, trust: Trust, gather: Gather) -> Inclusion:
    """Check SCT, leaf, checkpoint and proof of a certificate; raises NotProven, and what `gather` raises."""
    # (1) An authority we believe issued the certificate: only its key makes the leaf what it is.
    authority = trust.issuer_of(certificate)
    if authority is None:
        raise NotProven("authority", "the certificate was not issued by an authority of the trust files")

    # (2) A log we believe promised to hold it: its SCT, signed over this very certificate, in its time.
    log, sct = _promise(certificate, authority, trust)
    index = sct.leaf_index
    if index is None:
        raise NotProven("sct", "the certificate's timestamp does not say where the log put it")

    # (3) The leaf that the log must hold follows from the certificate and its SCT alone.
    expected = precertificate_leaf(
        sct.timestamp,
        index,
        hashlib.sha256(spki_der(authority.public_key())).digest(),
        certificate.tbs_precertificate_bytes,
    )

    # (4) What is there to prove it: from the log, or saved from it.
    try:
        evidence = gather(log, index)
    except ValueError as error:
        raise NotProven("evidence", str(error)) from error

    # (5) The leaf at the promised index is that leaf, octet for octet.
    if evidence.leaf != expected:
        raise NotProven("leaf", f"entry {index} of the log, or of the bundle, is not this certificate")

    # (6) The checkpoint is this log's, and its key signed it, not before the entry was made.
    try:
        checkpoint = parse_checkpoint(evidence.checkpoint, log.origin, log.log_id)
        verify_sha256(log.public_key, _of_digitally_signed(checkpoint.signature), checkpoint.signed_input)
    except ValueError as error:
        raise NotProven("checkpoint", f"the checkpoint is not one of this log: {error}") from error
    if checkpoint.timestamp < sct.timestamp:
        raise NotProven("checkpoint", "the checkpoint is older than the entry that it is to commit to")

    # (7) The audit path leads from the leaf to the root that the checkpoint commits to.
    try:
        verify_inclusion(leaf_hash(expected), index, checkpoint.size, evidence.proof, checkpoint.root)
    except ValueError as error:
        raise NotProven("proof", str(error)) from error
    return Inclusion(
        serial=Serial(certificate.serial_number),
        log=log,
        leaf_index=index,
        logged_at=_moment(sct.timestamp),
        tree_size=checkpoint.size,
        root_hash=checkpoint.root,
        tree_signed_at=_moment(checkpoint.timestamp),
        evidence=evidence,
    )


def _promise(
    certificate: x509.Certificate, authority: x509.Certificate, trust: Trust
) -> tuple[TrustedLog, Sct]:
    try:
        named = {sct.log_id for sct in scts_of(certificate)}
        log = next((one for one in trust.logs if one.log_id in named), None)
        if log is None:
            raise NotProven("sct", "the certificate carries no timestamp of a log of the trust files")
        sct = verify_sct(certificate, authority, log.public_key)
        moment = _moment(sct.timestamp)
    except (ValueError, OverflowError) as error:
        raise NotProven("sct", f"the certificate's timestamp does not hold: {error}") from error
    if moment < log.valid_from or (log.valid_until is not None and moment > log.valid_until):
        raise NotProven("sct", "the certificate's timestamp is of a time in which the log is not believed")
    return log, sct


def _of_digitally_signed(struct: bytes) -> bytes:
    """The signature inside; that the hash is SHA-256 is all there is to choose (RFC 6962 §2.1.4)."""
    if len(struct) < 4 or struct[0] != 4 or int.from_bytes(struct[2:4]) != len(struct) - 4:
        raise ValueError("its signature is no DigitallySigned struct with SHA-256")
    return struct[4:]


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
