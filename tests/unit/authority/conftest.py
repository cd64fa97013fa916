"""One small authority per test: real keys, real SQLite, and a clock that stands where a test puts it."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import update

from ca_service.authority.admission import Admission
from ca_service.authority.authorities import Authorities
from ca_service.authority.issuance import Issuance, IssuancePolicy, IssuedChain, PublicKeyProof
from ca_service.authority.log import LogIdentity, first_tree_head
from ca_service.authority.log_ports import PendingCertificate, Sequencer, Ticket
from ca_service.authority.ports import Actor
from ca_service.authority.publication import Publication, PublicationPolicy
from ca_service.authority.revocation import RevocationDesk
from ca_service.authority.status import StatusPolicy, StatusResponder
from ca_service.identity.claims import VerifiedClaims, VerifiedToken
from ca_service.identity.issuers import Issuer, IssuerType
from ca_service.pki.authority_certificates import Authority, create_intermediate, create_root
from ca_service.pki.keys import spki_der
from ca_service.pki.profile import random_serial
from ca_service.pki.sct import digitally_sign, log_id_of
from ca_service.store.audit import SqlAudit
from ca_service.store.blocks import SqlBlocks
from ca_service.store.database import Database
from ca_service.store.entry_kinds import CertificateEntries
from ca_service.store.issued import SqlIssuedCertificates
from ca_service.store.logs import SqlLogReader, create_log
from ca_service.store.revocations import SqlRevocations
from ca_service.store.schema import crl_shards
from ca_service.store.sequencer import BatchingSequencer
from ca_service.store.shards import SqlShards
from ca_service.vocabulary import KeyId, Serial, TimestampMs

FOUNDED = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
EMAIL = "ada@example.com"
STATUS_URL = "http://status.example"


class OnlyAppends:
    """A sequencer's calls that a test of `issue` has no use for."""

    def submit(self, entry: PendingCertificate, done: Callable[[], None]) -> Ticket:
        raise AssertionError("`issue` waits")

    def begin(self) -> None:
        raise AssertionError("`issue` waits")


ACTOR = Actor(name="local:tester", source="here", request_id="test")


@dataclass
class SetClock:
    """A clock that stands still until a test moves it; seconds since 1970 inside, milliseconds outside."""

    seconds: int = int(FOUNDED.timestamp())

    def __call__(self) -> TimestampMs:
        return TimestampMs(self.seconds * 1000)


@dataclass
class CountingObserver:
    """Remembers what the authority told it."""

    events: Counter[str] = field(default_factory=Counter)

    def count(self, event: str, **labels: str) -> None:
        self.events[event] += 1

    def duration(self, stage: str, seconds: float) -> None:
        self.events[f"stage:{stage}"] += 1

    def size(self, what: str, number: float) -> None:
        self.events[f"size:{what}"] += 1

    def level(self, what: str, value: float, **labels: str) -> None:
        self.events[f"level:{what}"] += 1


@dataclass
class SmallAuthority:
    """Everything a test of the rules needs, joined as the service joins it."""

    clock: SetClock
    observer: CountingObserver
    database: Database
    authority: Authority
    log: LogIdentity
    log_key: ec.EllipticCurvePrivateKey
    sequencer: BatchingSequencer
    publication: Publication
    responder: StatusResponder
    desk: RevocationDesk
    reader: SqlLogReader

    def issuance(self, sequencer: Sequencer | None = None, admission: Admission | None = None) -> Issuance:
        """Issuing with a token check that believes the test; `sequencer` replaces the real one."""
        return Issuance(
            authorities=lambda: Authorities([self.authority]),
            sign_with_log_key=lambda _, message: digitally_sign(self.log_key, message),
            verify_token=believed,
            sequencer=sequencer or self.sequencer,
            blocks=SqlBlocks(self.database, self.clock),
            publication=self.publication,
            policy=IssuancePolicy(600, frozenset({"ecdsa-p256"}), 16),
            status_url=STATUS_URL,
            clock=self.clock,
            random_bytes=os.urandom,
            observer=self.observer,
            admission=admission,
        )

    def give_lists_to(self, key: KeyId, name: str = "%") -> None:
        """Have the database say that this key signs every list there is, or those of one name."""
        with self.database.writing() as connection:
            connection.execute(
                update(crl_shards).where(crl_shards.c.name.like(name)).values(authority_key=key)
            )

    def issue(self) -> x509.Certificate:
        """A certificate for EMAIL with a fresh key."""
        return leaf_of(self.issuance().issue("token", fresh_key_proof()))

    def revoke(self, certificate: x509.Certificate, **given: object) -> None:
        """Revoke with the defaults of the command line."""
        from ca_service.vocabulary import RevocationReason

        options: dict[str, object] = {
            "reason": RevocationReason.KEY_COMPROMISE,
            "revocation_date": None,
            "comment": "",
            "actor": ACTOR,
        }
        self.desk.revoke_certificate(Serial(certificate.serial_number), **(options | given))  # type: ignore[arg-type]


def believed(_token: str) -> VerifiedToken:
    """A verified token of an e-mail issuer; how tokens are verified is tested elsewhere."""
    issuer = Issuer("https://issuer.example", "sigstore", IssuerType.EMAIL)
    claims = {"iss": issuer.issuer_url, "sub": "7", "email": EMAIL, "email_verified": True}
    return VerifiedToken(issuer, issuer.issuer_url, VerifiedClaims(claims))


def fresh_key_proof() -> PublicKeyProof:
    """A new P-256 key with its proof over EMAIL."""
    key = ec.generate_private_key(ec.SECP256R1())
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return PublicKeyProof(spki, key.sign(EMAIL.encode(), ec.ECDSA(SHA256())))


def leaf_of(chain: IssuedChain) -> x509.Certificate:
    """The leaf of a released chain."""
    return x509.load_pem_x509_certificate(chain.certificates[0].encode())


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SmallAuthority]:
    """A founded authority with an empty log."""
    clock, observer = SetClock(), CountingObserver()
    root_key, key, log_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    root = create_root(
        root_key,
        organization="test",
        common_name="root",
        not_before=FOUNDED,
        serial=random_serial(os.urandom),
    )
    issuing = create_intermediate(
        key.public_key(),
        root=root,
        root_key=root_key,
        organization="test",
        common_name="issuing",
        crl_url=f"{STATUS_URL}/crl/root/root.crl",
        ca_issuers_url=f"{STATUS_URL}/ca/root.crt",
        not_before=FOUNDED,
        serial=random_serial(os.urandom),
    )
    authority = Authority.load([issuing, root], key)
    authorities = Authorities([authority])
    log = LogIdentity(
        "2026", "log.example/2026", log_id_of(log_key.public_key()), spki_der(log_key.public_key())
    )
    database = Database("sqlite:///ca.db", folder=tmp_path)
    database.migrate()

    def sign(message: bytes) -> bytes:
        return digitally_sign(log_key, message)

    create_log(database, log, first_tree_head(log, clock(), sign))
    sequencer = BatchingSequencer(database, log, sign, clock, observer, entries=CertificateEntries())
    revocations = SqlRevocations(database, clock)
    publication = Publication(
        authorities=lambda: authorities,
        shards=SqlShards(database),
        root_crls={},
        status_url=STATUS_URL,
        policy=PublicationPolicy(valid_seconds=7 * 86400, refresh_seconds=86400),
        clock=clock,
        observer=observer,
    )
    yield SmallAuthority(
        clock=clock,
        observer=observer,
        database=database,
        authority=authority,
        log=log,
        log_key=log_key,
        sequencer=sequencer,
        publication=publication,
        responder=StatusResponder(
            authorities=lambda: authorities,
            revocations=revocations,
            policy=StatusPolicy(valid_seconds=86400, max_age_seconds=60),
            clock=clock,
            observer=observer,
            require_keys=publication.check_keys,
        ),
        desk=RevocationDesk(
            issued=SqlIssuedCertificates(database),
            revocations=revocations,
            blocks=SqlBlocks(database, clock),
            audit=SqlAudit(database, clock),
            clock=clock,
            observer=observer,
        ),
        reader=SqlLogReader(database, log.shard),
    )
    sequencer.close()
    database.close()


def crl_place(certificate: x509.Certificate) -> tuple[str, str]:
    """Key id and shard name of the CRL that a certificate names."""
    points = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    names = points[0].full_name or []
    key, shard = str(names[0].value).rsplit("/", 2)[1:]
    return key, shard.removesuffix(".crl")
