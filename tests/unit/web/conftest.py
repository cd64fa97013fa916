"""One application with every blueprint, over fakes that keep the authority's contracts in memory."""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import cast

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from flask import Flask
from flask.testing import FlaskClient

from ca_service.authority.issuance import Attempt, CsrProof, IssuedChain, PublicKeyProof, Underway
from ca_service.authority.log import LogIdentity
from ca_service.authority.log_ports import LogEntry, TreeHead
from ca_service.authority.publication import ListedCrl, PublishedCrl
from ca_service.authority.revocation import RevocationDesk
from ca_service.authority.static_log import LogAddress, StaticLog
from ca_service.authority.status import OcspAnswer
from ca_service.identity.issuers import Issuer, IssuerDirectory, IssuerType
from ca_service.merkle import tree
from ca_service.merkle.tiles import TILE_WIDTH, Tile
from ca_service.pki.authority_certificates import Authority, create_intermediate, create_root
from ca_service.vocabulary import LeafIndex, LogId, Serial, TimestampMs
from ca_service.web import admin, fulcio, health, home, log, openapi, static_log, status, trust
from ca_service.web.application import AccessRecord, base_app
from tests.unit.web.administration import FakeDesk, FakeGate

NOW = 1_795_420_800
"""2026-11-23T08:00:00Z."""

MALFORMED = bytes.fromhex("30030a0101")
"""An OCSPResponse that says malformedRequest."""

ADDRESS = LogAddress(
    "https://ca.example/ctlog/2026", datetime(2026, 1, 1, tzinfo=UTC), datetime(2040, 1, 1, tzinfo=UTC)
)

LOGIN = admin.LoginOptions(
    "ca-service-admin", "ca-service-admin", ("openid", "email"), ("https://staff.example.com",)
)


def make_authority() -> Authority:
    """A root and an issuing certificate under it."""
    started = datetime(2026, 1, 1, tzinfo=UTC)
    root_key, issuing_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = create_root(
        root_key, organization="Example", common_name="Example root", not_before=started, serial=1
    )
    issuing = create_intermediate(
        issuing_key.public_key(),
        root=root,
        root_key=root_key,
        organization="Example",
        common_name="Example issuing",
        crl_url="http://ca.example/crl/root.crl",
        ca_issuers_url="http://ca.example/ca/root.crt",
        not_before=started,
        serial=2,
    )
    return Authority.load([issuing, root], issuing_key)


@dataclass
class FakeIssuance:
    """Remembers what it was asked, and answers what the test put in."""

    chain: tuple[str, ...]
    trouble: Exception | None = None
    asked: list[tuple[str, PublicKeyProof | CsrProof]] = field(default_factory=list)

    def issue(
        self, token: str, key: PublicKeyProof | CsrProof, attempt: Attempt | None = None
    ) -> IssuedChain:
        del attempt
        self.asked.append((token, key))
        if self.trouble is not None:
            raise self.trouble
        return IssuedChain(certificates=self.chain, serial=Serial(1), leaf_index=LeafIndex(0))

    def prepare(
        self, token: str, key: PublicKeyProof | CsrProof, attempt: Attempt, done: Callable[[], None]
    ) -> Generator[None, None, Underway]:
        raise AssertionError("no test here is a server that can come back to a request")

    def flush(self) -> None:
        raise AssertionError("nothing was begun")

    def finish(self, underway: Underway) -> Generator[None, None, IssuedChain]:
        raise AssertionError("nothing was begun")


class MemoryLog:
    """A LogReader over a list; it breaks when asked for what its contract excludes."""

    def __init__(self, size: int) -> None:
        self.leaves = [b"leaf %d" % index for index in range(size)]
        self.hashes = [tree.leaf_hash(leaf) for leaf in self.leaves]
        self.trouble: Exception | None = None

    def head(self) -> TreeHead:
        if self.trouble is not None:
            raise self.trouble
        root = tree.Frontier(0, ()).extend(self.hashes).root()
        return TreeHead(
            LogId(b"L" * 32), len(self.leaves), TimestampMs(NOW * 1000), root, b"\x04\x03\x00\x01s"
        )

    def entries(self, start: int, end: int) -> Sequence[LogEntry]:
        assert 0 <= start < end <= len(self.leaves)
        return [
            LogEntry(LeafIndex(index), self.leaves[index], b"precertificate", (b"issuing", b"root"))
            for index in range(start, end)
        ]

    def index_of(self, leaf_hash: bytes) -> LeafIndex | None:
        return LeafIndex(self.hashes.index(leaf_hash)) if leaf_hash in self.hashes else None

    def inclusion_proof(self, index: int, tree_size: int) -> list[bytes]:
        assert 0 <= index < tree_size <= len(self.leaves)
        return tree.inclusion_proof(self._subtree, index, tree_size)

    def consistency_proof(self, first: int, second: int) -> list[bytes]:
        assert 0 < first <= second <= len(self.leaves)
        return tree.consistency_proof(self._subtree, first, second)

    def root_at(self, tree_size: int) -> bytes:
        return tree.range_root(self._subtree, 0, tree_size)

    def tile(self, tile: Tile) -> bytes | None:
        assert tile.level is not None
        if not tile.exists_at(len(self.leaves)):
            return None
        first = tile.index * TILE_WIDTH
        return b"".join(self._subtree(8 * tile.level, index) for index in range(first, first + tile.width))

    def chain_certificate(self, fingerprint: bytes) -> bytes | None:
        chain = (b"issuing", b"root")
        return next((der for der in chain if sha256(der).digest() == fingerprint), None)

    def _subtree(self, level: int, index: int) -> bytes:
        return tree.complete_root(self.hashes[index << level : (index + 1) << level])


@dataclass
class FakeResponder:
    """Answers what it knows by the octets of the request, and malformedRequest otherwise."""

    answers: dict[bytes, OcspAnswer] = field(default_factory=dict)

    def respond(self, request: bytes) -> OcspAnswer:
        return self.answers.get(request) or OcspAnswer(MALFORMED, False, NOW, NOW, 0, "")


@dataclass
class FakeCrls:
    """CRLs by key id and shard; it breaks on names that would not reach a database unharmed."""

    crls: dict[tuple[str, str], PublishedCrl] = field(default_factory=dict)

    def crl(self, key_id: str, name: str) -> PublishedCrl | None:
        assert key_id.isascii()
        assert name.isascii()
        assert name.isprintable()
        assert len(name) <= 64
        return self.crls.get((key_id, name))

    def index(self) -> Sequence[ListedCrl]:
        return [
            ListedCrl(each.url, each.number, sha256(each.der).hexdigest(), each.this_update, each.next_update)
            for each in self.crls.values()
        ]


@dataclass
class FakeTrust:
    """The trust material of one authority."""

    authority: Authority

    def chains(self) -> Sequence[Sequence[str]]:
        return [[each.public_bytes(Encoding.PEM).decode("ascii") for each in self.authority.chain]]

    def certificate_der(self, key_id: str) -> bytes | None:
        return self.authority.chain_der[0] if key_id == self.authority.key_id else None

    def trusted_root(self) -> Mapping[str, object]:
        return {"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}

    def log_public_key_pem(self) -> str:
        return "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"


@dataclass
class World:
    """An application, and what stands behind it."""

    authority: Authority
    issuance: FakeIssuance
    reader: MemoryLog
    responder: FakeResponder
    crls: FakeCrls
    trust: FakeTrust
    issuers: IssuerDirectory
    desk: FakeDesk = field(default_factory=FakeDesk)
    gate: FakeGate = field(default_factory=FakeGate)
    documents: dict[str, Mapping[str, object]] = field(default_factory=dict)
    checks: dict[str, str | None] = field(default_factory=dict)
    extras: dict[str, str | None] = field(default_factory=dict)
    records: list[AccessRecord] = field(default_factory=list)
    began: list[str] = field(default_factory=list)
    faults: list[tuple[str, BaseException]] = field(default_factory=list)

    def app(self) -> Flask:
        """Join all blueprints, as the service does."""
        app = base_app(
            record=self.records.append,
            begin=self.began.append,
            report=lambda name, error: self.faults.append((name, error)),
        )
        identity = LogIdentity("2026", "ca.example/ctlog/2026", LogId(b"L" * 32), b"log key")
        logs = {"2026": log.ServedLog(identity, self.reader)}
        addresses = home.Addresses("https://ca.example", "http://ca.example", "Example & <Sons>")
        for blueprint in (
            fulcio.blueprint(self.issuance, self.trust, lambda: self.issuers),
            log.blueprint(logs, [self.authority.chain_der[-1]]),
            static_log.blueprint({"2026": StaticLog(identity, self.reader, ADDRESS)}),
            status.blueprint(self.responder, self.crls, self.trust),
            trust.blueprint(self.trust, lambda: self.documents),
            admin.blueprint(cast("RevocationDesk", self.desk), self.gate, LOGIN),
            health.blueprint(lambda: self.checks, lambda: self.extras),
            home.blueprint(addresses, lambda: self.issuers, self.trust, logs, lambda: self.documents),
            openapi.blueprint(openapi.document()),
        ):
            app.register_blueprint(blueprint)
        return app


AUTHORITY = make_authority()

ISSUERS = IssuerDirectory(
    issuers=(
        Issuer("https://accounts.example.com", "sigstore", IssuerType.EMAIL),
        Issuer(
            "https://spiffe.example.com", "sigstore", IssuerType.SPIFFE, spiffe_trust_domain="example.com"
        ),
        Issuer(
            "https://users.example.com",
            "other",
            IssuerType.EMAIL,
            challenge_claim="sub",
            skip_email_verification=True,
            description='<script>alert("x")</script>',
        ),
    ),
    wildcards=(Issuer("https://oidc.*.example.com/id/*", "sigstore", IssuerType.KUBERNETES, wildcard=True),),
)


def make_world(authority: Authority) -> World:
    """A service with a log of 300 entries, no revocation and nothing wrong."""
    fake_trust = FakeTrust(authority)
    leaf = "-----BEGIN CERTIFICATE-----\nleaf\n-----END CERTIFICATE-----\n"
    return World(
        authority=authority,
        issuance=FakeIssuance((leaf, *fake_trust.chains()[0])),
        reader=MemoryLog(300),
        responder=FakeResponder(),
        crls=FakeCrls(),
        trust=fake_trust,
        issuers=ISSUERS,
        checks={"database": None, "log": None},
    )


@pytest.fixture
def world() -> World:
    return make_world(AUTHORITY)


@pytest.fixture
def client(world: World) -> FlaskClient:
    return world.app().test_client()
