"""What the service is founded on: keys and certificates, read from the files that the settings name."""

from collections.abc import Callable, Mapping
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from ca_service.authority.log import LogIdentity
from ca_service.authority.publication import PublishedCrl
from ca_service.authority.static_log import LogAddress
from ca_service.errors import ConfigurationError
from ca_service.keys.file import read_passphrase, read_private_key
from ca_service.pki.authority_certificates import Authority
from ca_service.pki.crl import verify_crl
from ca_service.pki.keys import key_id, spki_der
from ca_service.pki.sct import digitally_sign, log_id_of
from ca_service.settings import Settings
from ca_service.vocabulary import KeyId


def passphrase(settings: Settings) -> bytes | None:
    """The passphrase of the key files, from the environment or its file; None when they are not encrypted."""
    if settings.keys.passphrase is not None:
        return settings.keys.passphrase.get_secret_value().encode()
    if settings.keys.passphrase_file is not None:
        return read_passphrase(settings.keys.passphrase_file)
    return None


def certificates(settings: Settings) -> list[x509.Certificate]:
    """The issuing certificate, then its root; raises ConfigurationError."""
    path = settings.authority.certificates
    try:
        return x509.load_pem_x509_certificates(content_of(path, "[authority] certificates"))
    except ValueError as error:
        raise ConfigurationError(
            f"[authority] certificates: {path} does not hold PEM certificates: {error}"
        ) from error


def authority(settings: Settings, secret: bytes | None) -> Authority:
    """The issuing key with its chain; raises ConfigurationError when they do not belong together."""
    key = read_private_key(settings.authority.key, secret, setting="[authority] key")
    try:
        return Authority.load(certificates(settings), key)
    except ConfigurationError as error:
        raise ConfigurationError(f"[authority] certificates and key: {error.message}") from error


def log_key(
    settings: Settings, issuing: Authority, secret: bytes | None
) -> tuple[Callable[[bytes], bytes], LogIdentity]:
    """The log's signing function (to a DigitallySigned struct) and who the log is; ConfigurationError."""
    key = read_private_key(settings.log.key, secret, setting="[log] key")
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise ConfigurationError(
            f"[log] key: {settings.log.key} is not an ECDSA P-256 key, the only kind of log key that every "
            "Sigstore client accepts"
        )
    public_key = key.public_key()
    if spki_der(public_key) == issuing.spki:
        raise ConfigurationError("[log] key: it is the issuing key; the log needs a key of its own")
    return (lambda message: digitally_sign(key, message)), LogIdentity(
        shard=settings.log.shard,
        origin=settings.log.origin,
        log_id=log_id_of(public_key),
        public_key_der=spki_der(public_key),
    )


def log_address(settings: Settings) -> LogAddress:
    """Where the log is found; its certificates expire no later than the one that issues them."""
    issuing = certificates(settings)[0]
    return LogAddress(
        url=f"{settings.service.url}/ctlog/{settings.log.shard}",
        expires_from=issuing.not_valid_before_utc,
        expires_until=issuing.not_valid_after_utc,
    )


def root_crls(settings: Settings, issuing: Authority) -> Mapping[KeyId, PublishedCrl]:
    """The CRL that the offline root signed, by root key; raises ConfigurationError when it is another's."""
    path = settings.authority.root_crl
    der = content_of(path, "[authority] root_crl")
    try:
        crl = verify_crl(der, issuing.root)
        number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except (ValueError, x509.ExtensionNotFound) as error:
        raise ConfigurationError(
            f"[authority] root_crl: {path} is not a CRL of this root: {error}; renew it with the root key"
        ) from error
    if crl.next_update_utc is None:
        raise ConfigurationError(f"[authority] root_crl: {path} has no nextUpdate")
    root_key = key_id(issuing.root.public_key())
    return {
        root_key: PublishedCrl(
            url=f"{settings.service.status_url}/crl/{root_key}/root.crl",
            der=der,
            number=number,
            this_update=int(crl.last_update_utc.timestamp()),
            next_update=int(crl.next_update_utc.timestamp()),
        )
    }


def content_of(path: Path, setting: str) -> bytes:
    """Read a file that a setting names; raises ConfigurationError naming both."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{setting}: {path} cannot be read: {error.strerror}") from error
