"""An authority on disk with one issued certificate, and HTTP answered in this process by the real service."""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from ca_service.app import Service, build_service, create_app
from ca_service.authority.issuance import CsrProof
from ca_service.cli import fetching, main
from ca_service.cli.founding import Plan, found
from ca_service.settings import load_settings
from ca_service.vocabulary import format_serial
from ca_service.web.dev_idp import DevIdentityProvider

URL = "http://127.0.0.1:5555"


@dataclass(frozen=True)
class Host:
    """A directory with its service, and the certificate of one signer."""

    folder: Path
    service: Service
    leaf: x509.Certificate
    leaf_file: Path

    @property
    def config(self) -> str:
        return str(self.folder / "ca.toml")

    @property
    def serial(self) -> str:
        return format_serial(self.leaf.serial_number)


def run(*arguments: str | Path, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)


@pytest.fixture(autouse=True)
def no_settings_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("CASVC_")]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """`serve` takes the process's logging over; the next test gets it back."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in list(root.handlers):
        root.removeHandler(handler)
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    folder = tmp_path / "ca"
    found(folder, Plan(URL, URL))
    provider = DevIdentityProvider(URL)
    service = build_service(
        load_settings(folder / "ca.toml", {"CASVC_LOGGING__ACCESS": "false"}), dev=provider
    )
    key = ec.generate_private_key(ec.SECP256R1())
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ignored")]))
        .sign(key, hashes.SHA256())
    )
    token = provider.sign_token(email="ada@example.com", audience="sigstore")
    chain = service.issuance.issue(token, CsrProof(request.public_bytes(Encoding.PEM)))
    leaf = x509.load_pem_x509_certificate(chain.certificates[0].encode())
    (tmp_path / "leaf.pem").write_text("".join(chain.certificates))
    client = create_app(service).test_client()

    def fetch(url: str, body: bytes | None = None, content_type: str | None = None) -> bytes:
        path = url.removeprefix(URL)
        reply = client.get(path) if body is None else client.post(path, data=body, content_type=content_type)
        if reply.status_code != 200:
            raise fetching.Refused(f"it answered {reply.status_code}", reply.status_code)
        return bytes(reply.data)

    monkeypatch.setattr(fetching, "fetch", fetch)
    yield Host(folder, service, leaf, tmp_path / "leaf.pem")
    service.close()
