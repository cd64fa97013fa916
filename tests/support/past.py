"""A service whose years pass when a test says so: the real parts in this process, under a clock of their own.

What it signs at the end is signed now, so that programs that know only the real time can judge it.
"""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.serving import make_server

from ca_service.app import Service, build_service, create_app
from ca_service.app.authority_rotation import AuthorityRotation, Prepared
from ca_service.app.rollback import guard_of
from ca_service.authority.issuance import PublicKeyProof
from ca_service.authority.ports import Actor
from ca_service.cli import main
from ca_service.cli.founding import Plan, found
from ca_service.keys.file import read_private_key
from ca_service.pki.crl import build_root_crl
from ca_service.settings import load_settings
from ca_service.store.database import Database
from ca_service.vocabulary import KeyId, RevocationReason, Serial, TimestampMs
from ca_service.web.dev_idp import DevIdentityProvider
from tests.support.processes import wait_until
from tests.support.signing import Issued, prove, public_pem
from tests.support.verifier import crl_url, ocsp_url, openssl

URL = "http://127.0.0.1:9"  # nothing listens there
EMAIL = "signer@example.com"
ACTOR = Actor("local:tester", "host", "0" * 32)


@dataclass
class PastService:
    """A founded directory with its service at the moment `now`, which only `go_to` moves."""

    folder: Path
    now: datetime
    _service: Service | None = field(default=None, repr=False)
    _provider: DevIdentityProvider | None = field(default=None, repr=False)

    @property
    def service(self) -> Service:
        assert self._service is not None
        return self._service

    @cached_property
    def app(self) -> Flask:
        return create_app(self.service)

    @property
    def client(self) -> FlaskClient:
        return self.app.test_client()

    def clock(self) -> TimestampMs:
        return TimestampMs(int(self.now.timestamp() * 1000))

    def go_to(self, moment: datetime) -> None:
        """Let time pass; what keeps the house is done when it has."""
        assert moment >= self.now
        self.now = moment
        self.service.guard.catch_up()
        while self.service.publication.refresh():
            pass
        self.service.log.keep_house()

    def issue(self, email: str = EMAIL) -> Issued:
        """A certificate as of now, with a token as of now."""
        assert self._provider is not None
        key = ec.generate_private_key(ec.SECP256R1())
        token = self._provider.sign_token(email)
        proof = PublicKeyProof(public_pem(key).encode(), prove(key, email))
        chain = self.service.issuance.issue(token, proof).certificates
        return Issued([x509.load_pem_x509_certificate(pem.encode()) for pem in chain], key)

    def revoke(self, issued: Issued, date: datetime | None = None) -> None:
        """Take a certificate back, as of now."""
        self.service.desk.revoke_certificate(
            Serial(issued.leaf.serial_number),
            reason=RevocationReason.KEY_COMPROMISE,
            revocation_date=None if date is None else int(date.timestamp()),
            comment="",
            actor=ACTOR,
        )

    def rotate(self, starts: datetime) -> Prepared:
        """Prepare the next authority with the root key; the service finds it by itself."""
        settings = self.service.settings
        database = Database(settings.database.url, folder=settings.folder)
        try:
            rotation = AuthorityRotation(settings, database, self.clock, ACTOR, guard_of(settings, database))
            root_key = read_private_key(self.folder / "offline/root.key", None)
            prepared = rotation.prepare(root_key, int(starts.timestamp()))
        finally:
            database.close()
        key = prepared.authority.key_id
        wait_until(lambda: key in self.service.authorities.current().by_key, 30, "the next key is found")
        return prepared

    def get(self, url: str) -> bytes:
        """What the service answers at a URL that a certificate names."""
        reply = self.client.get(urlsplit(url).path)
        assert reply.status_code == 200, f"{url}: {reply.status_code}"
        return bytes(reply.data)

    def post(self, url: str, body: bytes, content_type: str, client: FlaskClient | None = None) -> bytes:
        """What the service, or that of another client, answers to a POST."""
        reply = (client or self.client).post(urlsplit(url).path, data=body, content_type=content_type)
        assert reply.status_code == 200, f"{url}: {reply.status_code}"
        return bytes(reply.data)

    def json(self, path: str) -> Any:
        """A JSON document of the service."""
        return json.loads(self.get(path))

    def crl(self, certificate: x509.Certificate) -> bytes:
        return self.get(crl_url(certificate))

    def root_crl(self) -> bytes:
        """The root's list of now, with the root key at hand."""
        key = read_private_key(self.folder / "offline/root.key", None)
        days = timedelta(days=1)
        return build_root_crl(
            self.service.authority.root, key, number=2, this_update=self.now, next_update=self.now + days
        )

    def other_crl(self, issued: Issued) -> bytes:
        """A list of the same key and month, for other certificates."""
        prefix, _, shard = crl_url(issued.leaf).removesuffix(".crl").rpartition("-")
        _, key, month = prefix.rsplit("/", 2)
        name = f"{month}-{(int(shard, 16) + 1) % 16:02x}"
        not_before = int(issued.leaf.not_valid_before_utc.timestamp())
        self.service.publication.ensure(KeyId(key), name, not_before)
        return self.get(f"{prefix}-{name[-2:]}.crl")

    def ocsp(self, issued: Issued, folder: Path, digest: str, client: FlaskClient) -> bytes:
        """The answer of a service to openssl's own request about the leaf in a folder."""
        openssl(
            *("ocsp", "-issuer", "issuing.pem", f"-{digest}", "-cert", "leaf.pem"),
            *("-no_nonce", "-reqout", "request.der"),
            folder=folder,
        )
        request = (folder / "request.der").read_bytes()
        return self.post(ocsp_url(issued.leaf), request, "application/ocsp-request", client)

    def evidence(self, cases: Mapping[str, Issued], folder: Path) -> dict[str, Path]:
        """All that a verifier gathers about each, in a folder of its own: chain, answers, lists.

        answer.der is asked for with SHA-256, answer-sha1.der with SHA-1 as most clients do, and
        delegated.der is like that of a service with delegated signing. shard.crl, other.crl (which is another
        shard's) and root.crl are there as PEM too.
        """
        with delegating(self) as by_delegate:
            for case, issued in cases.items():
                place = issued.write(folder / case)
                for name, digest, client in (
                    ("answer", "sha256", self.client),
                    ("answer-sha1", "sha1", self.client),
                    ("delegated", "sha1", by_delegate.test_client()),
                ):
                    (place / f"{name}.der").write_bytes(self.ocsp(issued, place, digest, client))
                lists = {"shard": self.crl(issued.leaf), "other": self.other_crl(issued)}
                for name, der in (lists | {"root": self.root_crl()}).items():
                    (place / f"{name}.crl").write_bytes(der)
                    pem = x509.load_der_x509_crl(der).public_bytes(Encoding.PEM)
                    (place / f"{name}.crl.pem").write_bytes(pem)
        return {case: folder / case for case in cases}

    def cli(self, *arguments: str, codes: tuple[int, ...] = (0,)) -> str:
        """What a command of today prints about the directory; its exit code must be one of `codes`."""
        done = CliRunner().invoke(main, [*arguments, "--config", str(self.folder / "ca.toml")])
        assert done.exit_code in codes, done.output
        return done.stdout


@contextmanager
def past_service(folder: Path, founded: datetime) -> Iterator[PastService]:
    """Found a directory as of a moment years ago and run its service from there."""
    past = PastService(folder, founded.replace(microsecond=0))
    found(folder, Plan(URL, URL), past.now)
    past._provider = DevIdentityProvider(URL, clock=lambda: past.now.timestamp())
    settings = load_settings(folder / "ca.toml", {"CASVC_LOGGING__ACCESS": "false"})
    past._service = build_service(settings, past._provider, past.clock)
    try:
        yield past
    finally:
        past._service.close()


@contextmanager
def delegating(past: PastService) -> Iterator[Flask]:
    """The same directory served by a service whose OCSP answers a delegate signs."""
    environ = {"CASVC_LOGGING__ACCESS": "false", "CASVC_OCSP__SIGNER": "delegated"}
    service = build_service(load_settings(past.folder / "ca.toml", environ), clock=past.clock)
    try:
        yield create_app(service)
    finally:
        service.close()


@contextmanager
def serving(app: Flask) -> Iterator[str]:
    """The URL, on loopback, where a thread serves an application."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def years_ago(years: float) -> datetime:
    """A moment before this one, to the second."""
    return (datetime.now(UTC) - timedelta(days=365.25 * years)).replace(microsecond=0)
