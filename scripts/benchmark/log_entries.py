"""Entries for measuring the log: true in form and size, and made so quickly that the log is measured."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ca_service.authority.log import LogIdentity, NewLeaf, first_tree_head
from ca_service.authority.log_ports import LogEntry, PendingCertificate
from ca_service.keys.file import read_private_key
from ca_service.pki.keys import spki_der
from ca_service.pki.profile import LeafProfile, build_precertificate
from ca_service.pki.sct import digitally_sign, log_id_of
from ca_service.store.database import Database
from ca_service.store.entry_kinds import BesideLeaf, RequirePeriod
from ca_service.store.logs import create_log
from ca_service.store.quick import Statement, Transaction
from ca_service.vocabulary import Serial, SubjectKind, SubjectName, TimestampMs
from tests.support.entries import Foundation, machine_clock

BARE_OCTETS = 1200
"""The size of leaf that the prototype was measured with."""
_SERIAL = Serial(int.from_bytes(b"\x40" + bytes(range(1, 20)), "big"))
_SERIAL_OCTETS = _SERIAL.to_bytes(20, "big")
_REPOSITORY = "https://github.example/organization/repository"
_COMMIT = "89f5c2f1b1f0a1f8a4b37e5d3f0c1c2d3e4f5a6b"
_WORKFLOW = f"{_REPOSITORY}/.github/workflows/release.yml@refs/heads/main"


class CertificateTemplate:
    """A precertificate as a build in CI gets it; each entry has its own serial, key hash and signer."""

    def __init__(self, foundation: Foundation) -> None:
        """Build and sign it once; the octets of the serial are all that is exchanged later."""
        made = foundation.entry()
        url = foundation.settings.service.status_url
        spki = spki_der(ec.generate_private_key(ec.SECP256R1()).public_key())
        profile = LeafProfile(
            spki=spki,
            subject=SubjectName(SubjectKind.URI, _WORKFLOW),
            extensions={
                "issuer": "https://token.actions.example",
                "build-signer-uri": _WORKFLOW,
                "build-signer-digest": _COMMIT,
                "runner-environment": "github-hosted",
                "source-repository-uri": _REPOSITORY,
                "source-repository-digest": _COMMIT,
                "source-repository-ref": "refs/heads/main",
                "build-config-uri": _WORKFLOW,
                "build-config-digest": _COMMIT,
                "build-trigger": "push",
                "run-invocation-uri": f"{_REPOSITORY}/actions/runs/1234567890/attempts/1",
                "source-repository-visibility-at-signing": "public",
            },
            serial=_SERIAL,
            not_before=datetime.fromtimestamp(made.not_before, UTC),
            not_after=datetime.fromtimestamp(made.not_after, UTC),
            ocsp_url=f"{url}/ocsp",
            ca_issuers_url=f"{url}/ca/{made.authority_key}.crt",
            crl_url=foundation.publication.ensure(made.authority_key, made.crl_shard, made.not_before),
        )
        signed = build_precertificate(foundation.authority, profile)
        self._made = made
        self._tbs = signed.tbs.split(_SERIAL_OCTETS)
        self._precertificate = signed.der.split(_SERIAL_OCTETS)

    def entry(self) -> PendingCertificate:
        """The next entry: its signature does not verify, which no append looks at."""
        octets = b"\x40" + secrets.token_bytes(19)
        number = int.from_bytes(octets[1:4], "big")
        subject = f"{_REPOSITORY}-{number % 5000}/.github/workflows/release.yml@refs/heads/main"
        return replace(
            self._made,
            serial=Serial(int.from_bytes(octets, "big")),
            tbs=octets.join(self._tbs),
            precertificate=octets.join(self._precertificate),
            subject=SubjectName(SubjectKind.URI, subject),
            key_sha256=secrets.token_hex(32),
        )


@dataclass(frozen=True, slots=True)
class BareEntry:
    """An entry that is its leaf alone."""

    octets: bytes


class BareCodec:
    """Time, index, and the octets."""

    kind = "bare"

    def leaf(self, timestamp: int, index: int, entry: BareEntry) -> bytes:
        """The leaf."""
        return b"".join((timestamp.to_bytes(8, "big"), index.to_bytes(8, "big"), entry.octets))

    def extra_data(self, stored: LogEntry) -> bytes:
        """Nothing."""
        return stored.precertificate

    def tile_entry(self, stored: LogEntry) -> bytes:
        """The leaf."""
        return stored.leaf


class BareEntries:
    """A kind with nothing beside its leaf: what the log itself costs."""

    codec = BareCodec()
    consults: Sequence[Statement] = ()

    def name_of(self, entry: BareEntry) -> str:  # noqa: ARG002 - the Protocol's
        """All alike."""
        return "a bare entry"

    def refuse_unstorable(self, entry: BareEntry) -> None:
        """Everything can be stored."""

    def admission(
        self,
        transaction: Transaction,  # noqa: ARG002 - the Protocol's
        now: TimestampMs,  # noqa: ARG002 - the Protocol's
        require_period: RequirePeriod,  # noqa: ARG002 - the Protocol's
    ) -> Callable[[BareEntry], None]:
        """Everything is admitted."""
        return lambda _: None

    def beside_leaf(self, entry: BareEntry) -> BesideLeaf:  # noqa: ARG002 - the Protocol's
        """Nothing."""
        return BesideLeaf()

    def store(
        self, transaction: Transaction, log_number: int, stored: Sequence[tuple[BareEntry, NewLeaf]]
    ) -> None:
        """No rows of its own."""


class BareLog:
    """A log of bare entries in a directory's database; its key lies in the directory."""

    def __init__(self, folder: Path) -> None:
        """Make the key if it is not there."""
        path = folder / "private/bare-log.key"
        if not path.exists():
            made = ec.generate_private_key(ec.SECP256R1())
            path.write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            path.chmod(0o600)
        key = read_private_key(path, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101 - made above
        self.key = key
        public = key.public_key()
        self.identity = LogIdentity(
            "bare", "127.0.0.1/bare", log_id_of(public), spki_der(public), BareCodec.kind
        )

    def sign(self, message: bytes) -> bytes:
        """As a log signs."""
        return digitally_sign(self.key, message)

    def create(self, database: Database) -> None:
        """Store the log with its empty tree."""
        create_log(database, self.identity, first_tree_head(self.identity, machine_clock(), self.sign))


def bare_entry(filling: bytes) -> BareEntry:
    """An entry like no other."""
    return BareEntry(secrets.token_bytes(20) + filling)
