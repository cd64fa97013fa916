"""`init` founds an authority once and safely; `serve` refuses what is broken and names the setting."""

import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tests.support.issuer import LocalIssuer
from tests.support.processes import production_service, run, running, succeed
from tests.support.signing import issue

URL = "http://127.0.0.1:5999"


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("founded") / "ca"
    succeed("init", "--dir", folder, "--url", URL, "--organization", "Example Organization")
    return folder


def test_init_writes_keys_for_the_owner_only(founded: Path) -> None:
    for path in ("private/issuing.key", "offline/root.key"):
        assert stat.S_IMODE((founded / path).stat().st_mode) == 0o600, path
    keys = list((founded / "private").iterdir())
    assert any(key.name.startswith("log-") for key in keys)
    for private in (*keys, *(founded / "offline").iterdir()):
        assert stat.S_IMODE(private.stat().st_mode) & 0o077 == 0, private
    for folder in ("private", "offline"):
        assert stat.S_IMODE((founded / folder).stat().st_mode) & 0o077 == 0, folder


def test_init_makes_a_chain_that_outlives_what_it_issues(founded: Path) -> None:
    issuing, root = x509.load_pem_x509_certificates((founded / "authority/chain.pem").read_bytes())
    issuing.verify_directly_issued_by(root)
    root.verify_directly_issued_by(root)
    assert (root.not_valid_after_utc - root.not_valid_before_utc).days // 365 == 25
    assert (issuing.not_valid_after_utc - issuing.not_valid_before_utc).days // 365 == 14
    constraints = issuing.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 0)
    crl = x509.load_der_x509_crl((founded / "authority/root.crl").read_bytes())
    key = root.public_key()
    assert crl.is_signature_valid(key)  # type: ignore[arg-type]
    assert len(crl) == 0


def test_init_refuses_to_overwrite_and_changes_nothing(founded: Path) -> None:
    before = {path: path.read_bytes() for path in founded.rglob("*") if path.is_file()}
    again = run("init", "--dir", founded, "--url", URL)
    assert again.returncode in (1, 2, 3)
    assert str(founded) in again.stderr
    assert {path: path.read_bytes() for path in founded.rglob("*") if path.is_file()} == before


def test_init_refuses_an_https_status_url(tmp_path: Path) -> None:
    """Checking a certificate must not need another certificate: CRL and OCSP are plain http."""
    refused = run("init", "--dir", tmp_path / "ca", "--url", "https://ca.example.com")
    assert refused.returncode != 0
    assert "status-url" in refused.stderr
    refused = run(
        *("init", "--dir", tmp_path / "ca", "--url", "https://ca.example.com"),
        *("--status-url", "https://status.example.com"),
    )
    assert refused.returncode != 0
    assert "http" in refused.stderr
    assert not (tmp_path / "ca" / "private").exists()


def test_encrypted_keys_need_their_passphrase(tmp_path: Path, session: requests.Session) -> None:
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("correct horse battery staple\n")
    passphrase.chmod(0o600)
    environ = {"CASVC_KEYS__PASSPHRASE_FILE": str(passphrase)}
    with LocalIssuer() as issuer:
        service = production_service(
            tmp_path / "ca",
            issuers=issuer.issuer_file(),
            workers=1,
            environ=environ,
            init_options=["--passphrase-file", str(passphrase)],
        )
        for key in (tmp_path / "ca" / "private").iterdir():
            with pytest.raises(TypeError):
                serialization.load_pem_private_key(key.read_bytes(), None)
        with running(service):
            email = "encrypted@example.com"
            issue(session, service.url, issuer.token(email), email)
        passphrase.write_text("wrong\n")
        refused = run("serve", "--config", service.config, "--bind", service.bind, environ=service.environ)
        assert refused.returncode != 0
        assert "passphrase" in refused.stderr.lower()
        refused = run("serve", "--config", service.config, "--bind", service.bind)
        assert refused.returncode != 0
        assert "passphrase" in refused.stderr.lower()


def copy(founded: Path, tmp_path: Path) -> Path:
    """A founded authority to break: its settings are relative to its folder."""
    return shutil.copytree(founded, tmp_path / "ca")


Break = Callable[[Path], None]


def replace(file: str, old: str, new: str) -> Break:
    def change(folder: Path) -> None:
        path = folder / file
        text = path.read_text()
        assert old in text, text
        path.write_text(text.replace(old, new, 1))

    return change


def append(file: str, text: str) -> Break:
    def change(folder: Path) -> None:
        with (folder / file).open("a") as stream:
            stream.write(text)

    return change


def chmod(pattern: str, mode: int) -> Break:
    def change(folder: Path) -> None:
        (path,) = folder.glob(pattern)
        path.chmod(mode)

    return change


def remove(pattern: str) -> Break:
    def change(folder: Path) -> None:
        (path,) = folder.glob(pattern)
        path.unlink()

    return change


def swap_key(folder: Path) -> None:
    (log_key,) = folder.glob("private/log-*.key")
    (folder / "private/issuing.key").write_bytes(log_key.read_bytes())


DEV_ISSUER = f"""
  {URL}/dev-idp:
    issuer-url: {URL}/dev-idp
    client-id: sigstore
    type: email
"""

BROKEN: dict[str, tuple[Break, str]] = {
    "an unknown table": (append("ca.toml", "\n[sevrer]\nworkers = 1\n"), "sevrer"),
    "a table that is not TOML": (append("ca.toml", "\n[server\n"), "ca.toml"),
    "a number that is none": (replace("ca.toml", "[crl]\n", '[crl]\nsubshards = "many"\n'), "subshards"),
    "no issuer file": (remove("issuers.yaml"), "issuers"),
    "an issuer of unknown type": (
        append("issuers.yaml", "\noidc-issuers:\n  https://a.example:\n    type: nonsense\n"),
        "https://a.example",
    ),
    "an issuer file that is no YAML": (append("issuers.yaml", "\n\t: [\n"), "issuers.yaml"),
    "the development issuer": (append("issuers.yaml", f"\noidc-issuers:{DEV_ISSUER}"), "dev-idp"),
    "no issuing key": (remove("private/issuing.key"), "issuing.key"),
    "an issuing key for everybody": (chmod("private/issuing.key", 0o644), "issuing.key"),
    "another key than the certificate's": (swap_key, "key"),
    "no chain": (remove("authority/chain.pem"), "chain.pem"),
    "a chain that is no PEM": (replace("authority/chain.pem", "BEGIN CERTIFICATE", "BEGIN X"), "chain.pem"),
    "no log key": (remove("private/log-*.key"), "log-"),
    "no root CRL": (remove("authority/root.crl"), "root.crl"),
    "no database": (remove("state/ca.db"), "ca.db"),
}


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_serve_refuses_a_broken_configuration_with_a_sentence_that_names_it(
    founded: Path, name: str, tmp_path: Path
) -> None:
    folder = copy(founded, tmp_path)
    (folder / "issuers.yaml").write_text("oidc-issuers: {}\n" if "issuer" not in name else "define: {}\n")
    change, named = BROKEN[name]
    change(folder)
    refused = run("serve", "--config", folder / "ca.toml", "--bind", "127.0.0.1:1", "--workers", "1")
    assert refused.returncode != 0
    assert named in refused.stderr, refused.stderr
    assert "Traceback" not in refused.stderr


def test_serve_refuses_an_unknown_name_in_the_environment(founded: Path) -> None:
    environ = {"CASVC_SERVER__WROKERS": "2"}
    refused = run("serve", "--config", founded / "ca.toml", environ=environ)
    assert refused.returncode != 0
    assert "CASVC_SERVER__WROKERS" in refused.stderr


def test_serve_refuses_plain_http_off_loopback(founded: Path) -> None:
    refused = run("serve", "--config", founded / "ca.toml", "--bind", "0.0.0.0:5999")
    assert refused.returncode != 0
    assert "[server] bind" in refused.stderr


def test_dev_refuses_to_leave_loopback(tmp_path: Path) -> None:
    refused = run("dev", "--dir", tmp_path / "ca", "--bind", "0.0.0.0:5999")
    assert refused.returncode != 0
    assert "loopback" in refused.stderr.lower()


def test_doctor_finds_nothing_wrong_with_a_fresh_authority_and_names_what_is(
    founded: Path, tmp_path: Path
) -> None:
    fine = run("doctor", "--config", founded / "ca.toml")
    assert fine.returncode == 0, fine
    assert "server.bind" in fine.stdout or "bind" in fine.stdout
    folder = copy(founded, tmp_path)
    (folder / "private/issuing.key").chmod(0o644)
    found = run("doctor", "--config", folder / "ca.toml")
    assert found.returncode == 1
    assert "issuing.key" in found.stdout + found.stderr
