"""A service whose years pass when a test says so: the real parts in this process, under a clock of their own.

What it signs at the end is signed now, so that programs that know only the real time can judge it.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from flask.testing import FlaskClient

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
from ca_service.vocabulary import RevocationReason, Serial, TimestampMs
from ca_service.web.dev_idp import DevIdentityProvider
from tests.support.processes import wait_until
from tests.support.signing import Issued, prove, public_pem
from tests.support.verifier import crl_url, ocsp_url, openssl

URL = "http://past.example"
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

    @property
    def client(self) -> FlaskClient:
        return create_app(self.service).test_client()

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

    def ocsp(self, issued: Issued, folder: Path) -> bytes:
        """The answer to openssl's own request about a leaf."""
        openssl(
            *("ocsp", "-issuer", "issuing.pem", "-sha256", "-cert", "leaf.pem"),
            *("-no_nonce", "-reqout", "request.der"),
            folder=folder,
        )
        request = (folder / "request.der").read_bytes()
        path = urlsplit(ocsp_url(issued.leaf)).path
        reply = self.client.post(path, data=request, content_type="application/ocsp-request")
        assert reply.status_code == 200
        return bytes(reply.data)

    def evidence(self, issued: Issued, folder: Path) -> Path:
        """All that a verifier gathers, in `folder`: chain, answer.der, shard.crl, root.crl, also as PEM."""
        issued.write(folder)
        (folder / "answer.der").write_bytes(self.ocsp(issued, folder))
        for name, der in (("shard", self.crl(issued.leaf)), ("root", self.root_crl())):
            (folder / f"{name}.crl").write_bytes(der)
            pem = x509.load_der_x509_crl(der).public_bytes(Encoding.PEM)
            (folder / f"{name}.crl.pem").write_bytes(pem)
        return folder

    def cli(self, *arguments: str) -> str:
        """What a command of today prints about the directory; its exit code must be 0."""
        done = CliRunner().invoke(main, [*arguments, "--config", str(self.folder / "ca.toml")])
        assert done.exit_code == 0, done.output
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


def years_ago(years: float) -> datetime:
    """A moment before this one, to the second."""
    return (datetime.now(UTC) - timedelta(days=365.25 * years)).replace(microsecond=0)
