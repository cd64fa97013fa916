"""Founding an authority: every key, certificate and file that a fresh directory needs, all or nothing."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from ca_service.authority.log import LogIdentity, first_tree_head
from ca_service.errors import AlreadyExists
from ca_service.files.durable import sync_directory, write_file
from ca_service.files.high_water_mark import MarkFile
from ca_service.keys.file import write_private_key
from ca_service.pki.authority_certificates import create_intermediate, create_root
from ca_service.pki.crl import build_root_crl
from ca_service.pki.keys import key_id, spki_der
from ca_service.pki.profile import random_serial
from ca_service.pki.sct import digitally_sign, log_id_of
from ca_service.settings import Settings, load_settings
from ca_service.settings.reading import environment_name
from ca_service.settings.rendering import settings_file
from ca_service.store.database import Database
from ca_service.store.logs import create_log
from ca_service.store.position import SqlPosition
from ca_service.store.urls import without_secrets
from ca_service.vocabulary import TimestampMs

CURVES: dict[str, type[ec.EllipticCurve]] = {"p256": ec.SECP256R1, "p384": ec.SECP384R1}
"""The kinds of keys that `init` makes for root and issuing certificate; the log key is always P-256."""

_ROOT_CRL_VALID = timedelta(days=365)
_EMPTY = {"lost+found"}

_ISSUERS = Path(__file__).with_name("issuers-template.yaml")


@dataclass(frozen=True, slots=True)
class Plan:
    """What the new authority is to be; the addresses can never change, since certificates name them."""

    url: str
    status_url: str
    organization: str = "ca-service"
    key_type: str = "p256"
    passphrase: bytes | None = None
    passphrase_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Founded:
    """What was made, for the person who made it."""

    settings_file: Path
    root: x509.Certificate
    issuing: x509.Certificate
    log: LogIdentity


def found(directory: Path, plan: Plan, now: datetime | None = None) -> Founded:
    """Make DIR with root, issuing certificate, root CRL, log, database and settings, as of `now`.

    Raises AlreadyExists when DIR has anything in it, and ConfigurationError for addresses that the settings
    do not take. When anything fails, DIR is as it was.
    """
    directory = directory.resolve()
    with _owner_only(), _appearing_whole(directory) as building:
        return _build(building, directory, plan, (now or datetime.now(UTC)).replace(microsecond=0))


def _build(folder: Path, final: Path, plan: Plan, now: datetime) -> Founded:
    settings = _write_settings(folder, plan, now)
    for name in ("authority", "private", "offline", "state"):
        (folder / name).mkdir(mode=0o700)
    curve = CURVES[plan.key_type]()
    root_key, issuing_key = ec.generate_private_key(curve), ec.generate_private_key(curve)
    log_key = ec.generate_private_key(ec.SECP256R1())

    root_id, issuing_id = key_id(root_key.public_key()), key_id(issuing_key.public_key())
    root = create_root(
        root_key,
        organization=plan.organization,
        # Distinct names for distinct keys: some verifiers look an authority up by its name alone.
        common_name=f"code-signing root {root_id[:8]}",
        not_before=now,
        serial=random_serial(secrets.token_bytes),
    )
    issuing = create_intermediate(
        issuing_key.public_key(),
        root=root,
        root_key=root_key,
        organization=plan.organization,
        common_name=f"code-signing authority {issuing_id[:8]}",
        crl_url=f"{plan.status_url}/crl/{root_id}/root.crl",
        ca_issuers_url=f"{plan.status_url}/ca/{root_id}.crt",
        not_before=now,
        serial=random_serial(secrets.token_bytes),
    )
    root_crl = build_root_crl(root, root_key, number=1, this_update=now, next_update=now + _ROOT_CRL_VALID)

    write_private_key(folder / "offline/root.key", root_key, plan.passphrase)
    write_private_key(settings.authority.key, issuing_key, plan.passphrase)
    write_private_key(settings.log.key, log_key, plan.passphrase)
    chain = issuing.public_bytes(Encoding.PEM) + root.public_bytes(Encoding.PEM)
    write_file(settings.authority.certificates, chain)
    write_file(settings.authority.root_crl, root_crl)
    write_file(settings.issuers, _ISSUERS.read_bytes())

    log = LogIdentity(
        shard=settings.log.shard,
        origin=settings.log.origin,
        log_id=log_id_of(log_key.public_key()),
        public_key_der=spki_der(log_key.public_key()),
    )
    database = Database(settings.database.url, folder=folder)
    try:
        database.migrate()
        milliseconds = TimestampMs(int(now.timestamp() * 1000))
        create_log(database, log, first_tree_head(log, milliseconds, lambda m: digitally_sign(log_key, m)))
        # Last: it may lie outside of DIR, where nothing else is left when something fails.
        MarkFile(settings.high_water_mark.path).create(SqlPosition(database).whole())
    finally:
        database.close()
    return Founded(final / "ca.toml", root, issuing, log)


def _write_settings(folder: Path, plan: Plan, now: datetime) -> Settings:
    """Write ca.toml and read it back, so that what `serve` would refuse is refused before keys are made."""
    shard = f"{now:%Y}"
    values: dict[str, object] = {
        "service.url": plan.url,
        "service.status_url": plan.status_url,
        "service.organization": plan.organization,
        "log.shard": shard,
        "log.origin": f"{urlsplit(plan.url).netloc}/ctlog/{shard}",
        "log.key": f"private/log-{shard}.key",
        "server.bind": _bind(plan.url),
    }
    if plan.passphrase_file is not None:
        values["keys.passphrase_file"] = str(plan.passphrase_file.resolve())
    # Of the environment only this counts here: log and mark must be where `serve` will look for them.
    places = map(environment_name, ("database.url", "high_water_mark.path"))
    environ = {name: os.environ[name] for name in places if name in os.environ}
    if url := environ.get(environment_name("database.url")):
        # Without the variable every command would look for a file; a password stays with the variable.
        values["database.url"] = without_secrets(url)
    write_file(folder / "ca.toml", settings_file(values).encode())
    return load_settings(folder / "ca.toml", environ)


def _bind(url: str) -> str:
    """Listen where a URL on this machine points; anything else is for the proxy in front to map."""
    parts = urlsplit(url)
    host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname
    if parts.scheme == "http" and host == "127.0.0.1" and parts.port:
        return f"{host}:{parts.port}"
    return "127.0.0.1:5555"


@contextmanager
def _owner_only() -> Iterator[None]:
    """Whatever is made inside is for its owner alone, the database's own files included."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def _appearing_whole(directory: Path) -> Iterator[Path]:
    """A folder to build in that becomes `directory` when the block ends well, and is removed if not."""
    existing = directory.exists()
    if existing and (not directory.is_dir() or {path.name for path in directory.iterdir()} - _EMPTY):
        raise AlreadyExists(
            f"{directory} is not empty: an authority may live there, and is never overwritten"
        )
    if not existing:
        directory.parent.mkdir(parents=True, exist_ok=True)
    # An existing directory may be a mounted volume, which no rename can replace; the pieces move into it.
    building = Path(tempfile.mkdtemp(prefix=".founding-", dir=directory if existing else directory.parent))
    try:
        yield building
        for folder in (*(path for path in building.iterdir() if path.is_dir()), building):
            sync_directory(folder)
        if existing:
            _move_into(building, directory)
        else:
            building.rename(directory)
        sync_directory(directory.parent)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _move_into(building: Path, directory: Path) -> None:
    """Move every piece, the settings last: with them the directory counts as an authority."""
    moved: list[Path] = []
    try:
        directory.chmod(0o700)
        for piece in sorted(building.iterdir(), key=lambda path: path.name == "ca.toml"):
            piece.rename(directory / piece.name)
            moved.append(piece)
        sync_directory(directory)
    except BaseException:
        for piece in moved:
            (directory / piece.name).rename(piece)
        raise
