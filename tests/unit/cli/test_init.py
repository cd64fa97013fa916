"""`init` makes a whole authority or nothing, and never touches one that is there."""

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from ca_service.authority.log import LogIdentity
from ca_service.cli import founding, main
from ca_service.keys.file import read_private_key
from ca_service.pki.authority_certificates import Authority
from ca_service.pki.crl import verify_crl
from ca_service.settings import load_settings
from ca_service.store.database import Database
from ca_service.store.logs import SqlLogReader


@pytest.fixture(autouse=True)
def no_settings_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CASVC_DATABASE__URL", raising=False)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def tree(folder: Path) -> Iterator[tuple[str, int]]:
    for path in sorted(folder.rglob("*")):
        yield str(path.relative_to(folder)), stat.S_IMODE(path.stat().st_mode)


def test_init_makes_an_authority_that_loads_with_an_empty_log(tmp_path: Path) -> None:
    folder = tmp_path / "ca"
    done = run("init", "--dir", folder, "--organization", "Example Org")
    assert done.exit_code == 0, done.output
    settings = load_settings(folder / "ca.toml", {})
    chain = x509.load_pem_x509_certificates(settings.authority.certificates.read_bytes())
    authority = Authority.load(chain, read_private_key(settings.authority.key, None))
    assert "O=Example Org" in chain[0].subject.rfc4514_string()
    crl = verify_crl(settings.authority.root_crl.read_bytes(), authority.root)
    assert len(crl) == 0
    named = chain[0].extensions.get_extension_for_class(x509.CRLDistributionPoints).value[0].full_name
    root_key = read_private_key(folder / "offline/root.key", None)
    assert named is not None
    assert named[0].value.startswith("http://127.0.0.1:5555/crl/")
    assert root_key.public_key() == authority.root.public_key()
    log_key = read_private_key(settings.log.key, None)
    assert isinstance(log_key, ec.EllipticCurvePrivateKey)
    database = Database(settings.database.url, folder=folder)
    head = SqlLogReader(database, settings.log.shard).head()
    database.close()
    assert head.tree_size == 0
    assert head.log_id.hex() in done.output
    assert settings.log.origin == f"127.0.0.1:5555/ctlog/{settings.log.shard}"


def test_private_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    assert run("init", "--dir", tmp_path / "ca").exit_code == 0
    modes = dict(tree(tmp_path / "ca"))
    secret = [name for name in modes if name.endswith(".key") or name.startswith("state/")]
    assert len(secret) >= 4
    assert {modes[name] for name in secret} == {0o600}
    assert {modes[name] for name in ("private", "offline", "state", "authority")} == {0o700}
    assert stat.S_IMODE((tmp_path / "ca").stat().st_mode) == 0o700


def test_an_existing_authority_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    assert run("init", "--dir", tmp_path / "ca").exit_code == 0
    before = {path: path.read_bytes() for path in (tmp_path / "ca").rglob("*") if path.is_file()}
    again = run("init", "--dir", tmp_path / "ca")
    assert again.exit_code == 1
    assert "never overwritten" in again.stderr
    assert {path: path.read_bytes() for path in (tmp_path / "ca").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("existing", [False, True])
def test_a_failure_on_the_way_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existing: bool
) -> None:
    if existing:
        (tmp_path / "ca").mkdir()

    def full(database: Database, log: LogIdentity, head: object) -> None:
        raise OSError(28, "No space left on device", "ca.db")

    monkeypatch.setattr(founding, "create_log", full)
    done = run("init", "--dir", tmp_path / "ca")
    assert done.exit_code == 3
    assert "No space left on device" in done.stderr
    assert list(tmp_path.iterdir()) == ([tmp_path / "ca"] if existing else [])
    assert list(tmp_path.rglob("*")) == ([tmp_path / "ca"] if existing else [])


def test_an_existing_empty_directory_is_taken(tmp_path: Path) -> None:
    (tmp_path / "ca").mkdir()
    (tmp_path / "ca" / "lost+found").mkdir()
    assert run("init", "--dir", tmp_path / "ca").exit_code == 0
    assert (tmp_path / "ca" / "ca.toml").exists()
    assert not list((tmp_path / "ca").glob(".founding*"))


def test_keys_are_encrypted_with_the_passphrase_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CASVC_KEYS__PASSPHRASE", "correct horse")
    done = run("init", "--dir", tmp_path / "ca")
    assert done.exit_code == 0, done.output
    settings = load_settings(tmp_path / "ca" / "ca.toml", {})
    for key in (settings.authority.key, settings.log.key, tmp_path / "ca" / "offline/root.key"):
        assert b"ENCRYPTED" in key.read_bytes()
    read_private_key(settings.authority.key, b"correct horse")
    assert "correct horse" not in done.output + settings.origin.file.read_text()
    assert run("init", "--dir", tmp_path / "b", "--passphrase-file", tmp_path / "x").exit_code == 2


def test_keys_are_encrypted_with_a_passphrase_file_and_the_settings_name_it(tmp_path: Path) -> None:
    secret = tmp_path / "passphrase"
    secret.touch(0o600)
    secret.write_text("correct horse\n")
    done = run("init", "--dir", tmp_path / "ca", "--passphrase-file", secret, "--key-type", "p384")
    assert done.exit_code == 0, done.output
    settings = load_settings(tmp_path / "ca" / "ca.toml", {})
    assert settings.keys.passphrase_file == secret
    for key in (settings.authority.key, settings.log.key, tmp_path / "ca" / "offline/root.key"):
        assert b"ENCRYPTED" in key.read_bytes()
    issuing = read_private_key(settings.authority.key, b"correct horse")
    log = read_private_key(settings.log.key, b"correct horse")
    assert isinstance(issuing, ec.EllipticCurvePrivateKey)
    assert isinstance(log, ec.EllipticCurvePrivateKey)
    assert (issuing.curve.name, log.curve.name) == ("secp384r1", "secp256r1")
    assert "correct horse" not in done.output


def test_an_https_service_needs_a_plain_status_address(tmp_path: Path) -> None:
    done = run("init", "--dir", tmp_path / "ca", "--url", "https://ca.example.com")
    assert done.exit_code == 2
    assert "--status-url" in done.stderr
    assert not (tmp_path / "ca").exists()
    done = run(
        "init", "--dir", tmp_path / "ca", "--url", "https://ca.example.com",
        "--status-url", "http://status.example.com",
    )  # fmt: skip
    assert done.exit_code == 0
    settings = load_settings(tmp_path / "ca" / "ca.toml", {})
    assert settings.log.origin.startswith("ca.example.com/ctlog/")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--url", "http://ca.example.com/prefix"),
        ("--url", "ftp://ca.example.com"),
        ("--url", "http://user:secret@ca.example.com"),
        ("--status-url", "https://ca.example.com"),
        ("--organization", "x" * 65),
        ("--organization", " "),
    ],
)
def test_settings_that_serve_would_refuse_are_refused_by_their_option_before_keys_are_made(
    tmp_path: Path, option: str, value: str
) -> None:
    refused = run("init", "--dir", tmp_path / "ca", option, value)
    assert refused.exit_code == 2
    assert f"{option}: expected" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "secret" not in refused.stderr
    assert not list(tmp_path.iterdir())
