"""Log entries as the service itself makes them, for a directory that `init` made, without HTTP and tokens."""

import hashlib
import os
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ca_service.authority.authorities import Authorities
from ca_service.authority.issuance import shard_name
from ca_service.authority.log import LogIdentity
from ca_service.authority.log_ports import PendingCertificate
from ca_service.authority.ports import Clock
from ca_service.authority.publication import Publication, PublicationPolicy
from ca_service.pki.authority_certificates import Authority
from ca_service.pki.keys import spki_der
from ca_service.pki.profile import LeafProfile, build_precertificate, random_serial
from ca_service.pki.sct import digitally_sign, log_id_of
from ca_service.settings import load_settings
from ca_service.store.append import LogAppender
from ca_service.store.database import Database
from ca_service.store.entry_kinds import CertificateEntries
from ca_service.store.sequencer import BatchingSequencer
from ca_service.store.shards import SqlShards
from ca_service.vocabulary import SubjectKind, SubjectName, TimestampMs
from tests.support.store import RecordingObserver

_KEYS, _SIGNERS, _SUBSHARDS = 500, 5000, 16
_ISSUER = "https://issuer.example"


def machine_clock() -> TimestampMs:
    """The machine's time."""
    return TimestampMs(time.time_ns() // 1_000_000)


class Foundation:
    """What of a directory is needed to put true entries into its log; settings come from `environ` too."""

    def __init__(self, folder: Path, *, lock_timeout: float = 60.0) -> None:
        self.folder = folder
        self.settings = load_settings(folder / "ca.toml", os.environ)
        chain = x509.load_pem_x509_certificates((folder / "authority/chain.pem").read_bytes())
        key = load_pem_private_key((folder / "private/issuing.key").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self.authority = Authority.load(chain, key)
        self.database = Database(self.settings.database.url, folder=folder, lock_timeout=lock_timeout)
        (log_file,) = (folder / "private").glob("log-*.key")
        log_key = load_pem_private_key(log_file.read_bytes(), None)
        assert isinstance(log_key, ec.EllipticCurvePrivateKey)
        self.log_key = log_key
        shard = log_file.stem.removeprefix("log-")
        origin = f"{self.settings.service.url.partition('//')[2]}/ctlog/{shard}"
        public = log_key.public_key()
        self.log = LogIdentity(shard, origin, log_id_of(public), spki_der(public))
        self.publication = Publication(
            authorities=lambda: Authorities([self.authority]),
            shards=SqlShards(self.database),
            root_crls={},
            status_url=self.settings.service.status_url,
            policy=PublicationPolicy(valid_seconds=7 * 86_400, refresh_seconds=86_400),
            clock=machine_clock,
            observer=RecordingObserver(),
        )
        self._keys: list[bytes] = []

    def sign(self, message: bytes) -> bytes:
        """Sign as the log does."""
        return digitally_sign(self.log_key, message)

    def entry(self) -> PendingCertificate:
        """An entry with a serial, a subject and a time of its own, and one of some hundred keys."""
        if not self._keys:
            self._keys = [
                spki_der(ec.generate_private_key(ec.SECP256R1()).public_key()) for _ in range(_KEYS)
            ]
        serial = random_serial(secrets.token_bytes)
        not_before = int(time.time())
        spki = self._keys[serial % _KEYS]
        subject = SubjectName(SubjectKind.EMAIL, f"signer-{serial % _SIGNERS}@example.com")
        shard = shard_name(not_before, serial, _SUBSHARDS)
        status = self.settings.service.status_url
        profile = LeafProfile(
            spki=spki,
            subject=subject,
            extensions={"issuer": _ISSUER},
            serial=serial,
            not_before=datetime.fromtimestamp(not_before, UTC),
            not_after=datetime.fromtimestamp(not_before + 600, UTC),
            ocsp_url=f"{status}/ocsp",
            ca_issuers_url=f"{status}/ca/{self.authority.key_id}.crt",
            crl_url=self.publication.ensure(self.authority.key_id, shard, not_before),
        )
        precertificate = build_precertificate(self.authority, profile)
        return PendingCertificate(
            serial=serial,
            authority_key=self.authority.key_id,
            precertificate=precertificate.der,
            tbs=precertificate.tbs,
            issuer_key_hash=self.authority.issuer_key_hash,
            chain=self.authority.chain_der,
            subject=subject,
            oidc_issuer=_ISSUER,
            oidc_subject=str(serial % _SIGNERS),
            key_sha256=hashlib.sha256(spki).hexdigest(),
            not_before=not_before,
            not_after=not_before + 600,
            crl_shard=shard,
        )

    def appender(self, clock: Clock = machine_clock) -> LogAppender[PendingCertificate]:
        """What writes batches into the log, without a thread."""
        return LogAppender(self.database, self.log, self.sign, clock, CertificateEntries())

    def sequencer(
        self,
        clock: Clock = machine_clock,
        *,
        timeout: float = 60.0,
        when_disk_lies: Callable[[], None] = lambda: None,
    ) -> BatchingSequencer:
        """The log's sequencer as the service has it, but that it never ends the process."""
        return BatchingSequencer(
            self.database,
            self.log,
            self.sign,
            clock,
            RecordingObserver(),
            entries=CertificateEntries(),
            timeout=timeout,
            when_disk_lies=when_disk_lies,
        )

    def append(self, count: int) -> None:
        """Put so many entries into the log."""
        if count:
            self.appender().append([self.entry() for _ in range(count)])
