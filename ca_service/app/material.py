"""What the service is founded on: keys and certificates, read from the files that the settings name."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from ca_service.authority.log import LogIdentity, SignTreeHead
from ca_service.authority.log_shards import LogShard
from ca_service.authority.static_log import LogAddress
from ca_service.errors import ConfigurationError
from ca_service.keys.file import read_passphrase, read_private_key
from ca_service.pki.authority_certificates import Authority
from ca_service.pki.keys import spki_der
from ca_service.pki.sct import digitally_sign, log_id_of
from ca_service.settings import Settings
from ca_service.vocabulary import LogId


def passphrase(settings: Settings) -> bytes | None:
    """The passphrase of the key files, from the environment or its file; None when they are not encrypted."""
    if settings.keys.passphrase is not None:
        return settings.keys.passphrase.get_secret_value().encode()
    if settings.keys.passphrase_file is not None:
        return read_passphrase(settings.keys.passphrase_file)
    return None


def certificates(settings: Settings) -> list[x509.Certificate]:
    """The first issuing certificate, then its root; raises ConfigurationError."""
    return _read_chain(settings.authority.certificates, "[authority] certificates")


def _read_chain(path: Path, setting: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content_of(path, setting))
    except ValueError as error:
        raise ConfigurationError(f"{setting}: {path} does not hold PEM certificates: {error}") from error


def authority(settings: Settings, secret: bytes | None) -> Authority:
    """The first issuing key with its chain; ConfigurationError when they do not belong together."""
    key = read_private_key(settings.authority.key, secret, setting="[authority] key")
    try:
        return Authority.load(certificates(settings), key)
    except ConfigurationError as error:
        raise ConfigurationError(f"[authority] certificates and key: {error.message}") from error


CHAIN, ISSUING_KEY = "chain.pem", "issuing.key"
"""What is in the folder of an authority after the first."""


def rotated_folders(settings: Settings) -> list[Path]:
    """The folder of each authority after the first, by name; raises ConfigurationError."""
    folder = settings.authority.rotated_dir
    try:
        # What begins with a dot is not finished yet.
        return sorted(each for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigurationError(
            f"[authority] rotated_dir: {folder} cannot be read: {error.strerror}"
        ) from error


def rotated_chain(folder: Path) -> list[x509.Certificate]:
    """The chain in the folder of an authority after the first; raises ConfigurationError."""
    return _read_chain(folder / CHAIN, "[authority] rotated_dir")


def chains(settings: Settings) -> list[list[x509.Certificate]]:
    """The chain of every authority, the first one's first, without their keys; raises ConfigurationError."""
    return [certificates(settings), *map(rotated_chain, rotated_folders(settings))]


class LogKeys:
    """The keys of the log's shards, each read from its file when it is first needed.

    So a shard that is prepared while the service runs is found without a restart, and the key of a frozen one
    may be destroyed.
    """

    def __init__(self, settings: Settings, issuing: Authority, secret: bytes | None) -> None:
        """Take where keys are, the issuing key, which no log may have, and the passphrase; reads nothing."""
        self._settings = settings
        self._issuing_spki = issuing.spki
        self._secret = secret
        self._signers: dict[LogId, SignTreeHead] = {}

    def signer(self, log: LogIdentity) -> SignTreeHead:
        """What signs for a shard (message to DigitallySigned struct); raises ConfigurationError."""
        signer = self._signers.get(log.log_id)
        if signer is None:
            signer = self._signers[log.log_id] = self._read(log)
        return signer

    def sign(self, log_id: LogId, message: bytes) -> bytes:
        """Sign for a shard whose signer was asked for before."""
        return self._signers[log_id](message)

    def _read(self, log: LogIdentity) -> SignTreeHead:
        path = log_key_file(self._settings, log.shard)
        setting = "[log] key" if log.shard == self._settings.log.shard else "[log] keys_dir"
        key = read_private_key(path, self._secret, setting=setting)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
            raise ConfigurationError(
                f"{setting}: {path} is not an ECDSA P-256 key, the only kind of log key that every Sigstore "
                "client accepts"
            )
        public_key = key.public_key()
        if spki_der(public_key) == self._issuing_spki:
            raise ConfigurationError(f"{setting}: {path} is the issuing key; the log needs a key of its own")
        if log_id_of(public_key) != log.log_id:
            raise ConfigurationError(
                f"{setting}: the database's log {log.shard} has id {log.log_id.hex()}, the key in {path} "
                f"makes {log_id_of(public_key).hex()}; key and database are not of the same directory"
            )
        return lambda message: digitally_sign(key, message)


def log_key_file(settings: Settings, shard: str) -> Path:
    """The file of a shard's key: that of the first one is a setting, the others have their place."""
    if shard == settings.log.shard:
        return settings.log.key
    return settings.log.keys_dir / f"log-{shard}.key"


Validity = tuple[datetime, datetime]
"""From the first issuing certificate's notBefore to the last one's notAfter."""


def validity(chains: Iterable[Sequence[x509.Certificate]]) -> Validity:
    """When certificates below any of these issuing certificates (each the first of a chain) can be valid."""
    issuing = [chain[0] for chain in chains]
    return (
        min(each.not_valid_before_utc for each in issuing),
        max(each.not_valid_after_utc for each in issuing),
    )


def log_address(settings: Settings, valid: Validity, shard: LogShard, now: int) -> LogAddress:
    """Where a shard is found and what it takes, and its state at `now` (seconds since 1970).

    Its certificates expire no later than those that issue them.
    """
    (since, until), ends = valid, shard.period.ends
    return LogAddress(
        url=f"{settings.service.url}/ctlog/{shard.name}",
        expires_from=max(since, datetime.fromtimestamp(shard.period.starts, UTC)),
        expires_until=until if ends is None else datetime.fromtimestamp(ends, UTC),
        used_from=max(since, datetime.fromtimestamp(shard.trusted_from, UTC)),
        state=shard.state(now + settings.authority.lifetime_seconds),
    )


def content_of(path: Path, setting: str) -> bytes:
    """Read a file that a setting names; raises ConfigurationError naming both."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{setting}: {path} cannot be read: {error.strerror}") from error
