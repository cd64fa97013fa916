"""Every setting: its meaning, its default, its limits, and the checks between settings.

The descriptions are the documentation: config/ca.toml, the file `init` writes and the configuration
reference are all made from this model.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    SecretStr,
    model_validator,
)

from ca_service.settings import forms
from ca_service.settings.administration import AdminRoleSettings, AdminSettings
from ca_service.settings.issuer_policy import IssuerPolicySettings
from ca_service.settings.section import Section

ClientKeyKind = Literal["ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "rsa", "ed25519"]


class ServiceSettings(Section):
    """Where this service is found. Fixed at `init`: certificates in the field name these addresses."""

    url: Annotated[str, AfterValidator(forms.origin_url)] = Field(
        description="What signers call, at the root of an origin; https in production."
    )
    status_url: Annotated[str, AfterValidator(forms.plain_url)] = Field(
        description="What certificates name for CRL, OCSP and the issuing certificate; always plain http."
    )
    organization: Annotated[str, AfterValidator(forms.title)] = Field(
        default="ca-service", description="The organization in the authority's names."
    )


class ServerSettings(Section):
    """The HTTP server."""

    bind: Annotated[str, AfterValidator(forms.address)] = Field(
        default="127.0.0.1:5555", description="The address and port to listen on."
    )
    workers: int = Field(default=0, ge=0, le=256, description="Worker processes; 0 means one per core.")
    threads: int = Field(
        default=16,
        ge=1,
        le=512,
        description="Threads in each worker for what has to wait; one more serves the connections.",
    )
    status_threads: int = Field(
        default=2,
        ge=0,
        le=64,
        description="How many of them are kept for OCSP, CRL and health: with the others all stalled, "
        "by a database or an identity provider that does not answer, status is still told. One is left for "
        "the rest in any case.",
    )
    patience_ms: int = Field(
        default=2000,
        ge=100,
        le=60000,
        description="How long a request may wait for a thread, in milliseconds, before it is answered with "
        "503 and Retry-After, while too much is asked; questions about status and health never are. Clients "
        "give up after about 5000.",
    )
    trusted_proxies: Annotated[tuple[str, ...], AfterValidator(forms.networks)] = Field(
        default=(),
        description="Address ranges of the reverse proxies in front, which end TLS; what they say in "
        "X-Forwarded-For and -Proto is believed, and from nobody else. Listening off loopback is refused "
        "without them or a certificate: tokens would travel in plain http.",
    )
    tls_certificate: Annotated[Path | None, BeforeValidator(forms.path_or_none)] = Field(
        default=None,
        description="PEM chain of this server's TLS certificate, when no proxy ends TLS; a renewed file is "
        "taken up without a restart. The status URL is then served by `ca-service serve --only status`.",
    )
    tls_key: Annotated[Path | None, BeforeValidator(forms.path_or_none)] = Field(
        default=None, description="Its private key, PEM without a passphrase, for this service's user alone."
    )
    graceful_timeout_seconds: int = Field(
        default=30, ge=1, le=600, description="How long a request may go on after a stop was asked for."
    )
    max_requests: int = Field(
        default=1_000_000,
        ge=0,
        description="After how many requests a worker process is replaced by a new one, which bounds what a "
        "leak of memory can do; requests under way are finished. 0: never.",
    )
    max_requests_jitter: int = Field(
        default=100_000,
        ge=0,
        description="Up to how many more each worker answers, by chance, so that they are not all replaced "
        "at once.",
    )


class DatabaseSettings(Section):
    """The database of record: issued certificates, log, revocations."""

    url: Annotated[str, AfterValidator(forms.database_url)] = Field(
        default="sqlite:///state/ca.db",
        description="An SQLAlchemy URL: sqlite:///FILE (relative to this file's folder), or "
        "postgresql+psycopg://USER@HOST/NAME.",
    )


class HighWaterMarkSettings(Section):
    """The memory outside every backup, by which a database that was restored or replaced is noticed."""

    path: Path = Field(
        default=Path("mark/high-water.json"),
        description="The file that holds it, made by `init`. Put it on another volume than the database, one "
        "that no backup restores; all processes of a service share it, and nobody else.",
    )
    strict: bool = Field(
        default=True,
        description="Whether it is written before anything that follows from it is released, which costs one "
        "more flush to disk for each batch of certificates. Otherwise it is written each second, so that "
        "less than a second that was lost may go unnoticed, and a missing file is made anew.",
    )


class RedisSettings(Section):
    """Rate limits and wake-ups shared between nodes; nothing that must be kept or trusted."""

    url: Annotated[str, AfterValidator(forms.redis_url)] = Field(
        default="",
        description="A redis:// or rediss:// URL; empty means each process keeps its own.",
    )


class AuthoritySettings(Section):
    """The issuing certificate, its key, and the certificates it issues."""

    certificates: Path = Field(
        default=Path("authority/chain.pem"),
        description="PEM chain of the first authority: the issuing certificate, then the root.",
    )
    key: Path = Field(
        default=Path("private/issuing.key"), description="The first authority's issuing key, PKCS#8 PEM."
    )
    rotated_dir: Path = Field(
        default=Path("private/authorities"),
        description="The folder where `ca-service rotate authority` puts the authorities after the first, "
        "each in a folder named after its key: chain.pem and issuing.key.",
    )
    root_crl: Path = Field(
        default=Path("authority/root.crl"), description="The root's CRL (DER), served at the status URL."
    )
    lifetime_seconds: int = Field(
        default=600, ge=30, le=86400, description="How long a certificate is valid, from issue."
    )
    client_keys: tuple[ClientKeyKind, ...] = Field(
        default=("ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "rsa", "ed25519"),
        min_length=1,
        description="The kinds of keys that get certificates.",
    )


class LogSettings(Section):
    """The transparency log: its first shard. Later ones are in the database (`ca-service log list`).

    Shard and origin are fixed at `init`: they are part of what the log signs.
    """

    shard: Annotated[str, AfterValidator(forms.shard)] = Field(description="The name of the first shard.")
    origin: Annotated[str, AfterValidator(forms.log_origin)] = Field(
        description="The first shard's name in its checkpoints: its URL without the scheme."
    )
    key: Path = Field(description="The first shard's key (P-256), PKCS#8 PEM; never the issuing key.")
    keys_dir: Path = Field(
        default=Path("private"),
        description="The folder where `ca-service log rotate` puts the keys of later shards, log-NAME.key.",
    )
    queue_size: int = Field(
        default=1024, ge=1, le=65536, description="How many entries may wait in each worker."
    )
    batch_size: int = Field(
        default=256, ge=1, le=4096, description="How many entries go into one transaction at most."
    )
    export_dir: Annotated[Path | None, BeforeValidator(forms.path_or_none)] = Field(
        default=None,
        description="A folder on a local disk where the log is kept as static files too, for nginx or a CDN; "
        "none when absent.",
    )


class CrlSettings(Section):
    """Certificate revocation lists."""

    subshards: int = Field(
        default=16, ge=1, le=256, description="Lists per month of issue; more are smaller, each."
    )
    valid_hours: int = Field(default=168, ge=2, le=240, description="From thisUpdate to nextUpdate.")
    refresh_hours: int = Field(
        default=24,
        ge=1,
        le=168,
        description="How old a list grows before it is signed anew; a revocation signs it at once.",
    )


class OcspSettings(Section):
    """Status answers."""

    signer: Literal["authority", "delegated"] = Field(
        default="authority",
        description="Who signs them: the issuing key itself, whose answers clients accept for past moments "
        "too, or a delegate with a key of its own, certified for 14 days and renewed after 7. A delegate "
        "spares an issuing key in hardware.",
    )
    delegates_dir: Path = Field(
        default=Path("state"),
        description="The folder where delegates are kept, ocsp-KEY.pem with key and certificate, written by "
        "the service; each machine has its own. Nothing in it needs a backup.",
    )
    valid_hours: int = Field(default=24, ge=1, le=240, description="From thisUpdate to nextUpdate.")
    max_age_seconds: int = Field(
        default=60, ge=0, le=86400, description="How long caches in between may repeat an answer."
    )


class KeysSettings(Section):
    """The passphrase of the private key files."""

    passphrase_file: Annotated[Path | None, BeforeValidator(forms.path_or_none)] = Field(
        default=None,
        description="A file holding it, readable by this service's user alone; none when absent.",
    )
    passphrase: SecretStr | None = Field(
        default=None,
        description="The passphrase itself: only as CASVC_KEYS__PASSPHRASE, never in this file.",
    )


class OidcSettings(Section):
    """How identity providers are reached."""

    private_networks: Annotated[tuple[str, ...], AfterValidator(forms.networks)] = Field(
        default=(), description="Private address ranges where identity providers may live; none by default."
    )
    stale_keys_hours: int = Field(
        default=24,
        ge=2,
        le=720,
        description="How long an identity provider's keys are used when it does not answer, from when they "
        "were fetched; then its tokens wait until it does.",
    )
    single_use_tokens: bool = Field(
        default=False,
        description="Whether each token gets one certificate only. Clients that sign several artifacts with "
        "one token, or ask again after a lost answer, are then refused.",
    )


class LimitsSettings(Section):
    """What one request may take, and how often an identity may ask.

    Rates are counted by each process, or exactly by all of them together when [redis] url is set.
    """

    body_bytes: int = Field(
        default=65536, ge=16384, le=4194304, description="The longest request body that is read."
    )
    identity_per_minute: int = Field(
        default=6000,
        ge=0,
        le=10_000_000,
        description="How many certificates one identity (issuer and subject) may ask for in a minute; "
        "0: any number.",
    )
    issuer_per_minute: int = Field(
        default=0,
        ge=0,
        le=10_000_000,
        description="How many all identities of one issuer may ask for together; 0: any number.",
    )


class MetricsSettings(Section):
    """Prometheus metrics, on an address of their own."""

    bind: Annotated[str, AfterValidator(forms.optional_address)] = Field(
        default="127.0.0.1:9555",
        description="The address and port for GET /metrics, best one that only Prometheus reaches;"
        " off when empty.",
    )


class LoggingSettings(Section):
    """The JSON log on standard error. It never holds a token, an e-mail address or a key."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least severe message that is written."
    )
    access: bool = Field(default=True, description="Whether each request is written.")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where values came from: the file, its folder, and the source of each that is no default."""

    file: Path
    folder: Path
    sources: Mapping[str, str]


class Settings(Section):
    """All settings. Paths are absolute once loaded; `folder` is the folder of the settings file."""

    issuers: Path = Field(
        default=Path("issuers.yaml"), description="The identity providers, in Fulcio's own file format."
    )
    service: ServiceSettings
    server: ServerSettings = ServerSettings()
    database: DatabaseSettings = DatabaseSettings()
    high_water_mark: HighWaterMarkSettings = HighWaterMarkSettings()
    redis: RedisSettings = RedisSettings()
    authority: AuthoritySettings = AuthoritySettings()
    log: LogSettings
    crl: CrlSettings = CrlSettings()
    ocsp: OcspSettings = OcspSettings()
    keys: KeysSettings = KeysSettings()
    oidc: OidcSettings = OidcSettings()
    limits: LimitsSettings = LimitsSettings()
    admin: AdminSettings = AdminSettings()
    metrics: MetricsSettings = MetricsSettings()
    logging: LoggingSettings = LoggingSettings()
    issuer_policy: tuple[IssuerPolicySettings, ...] = Field(
        default=(),
        description="An issuer that is not in the issuer file is refused.",
    )
    admin_role: tuple[AdminRoleSettings, ...] = Field(
        default=(), description="Without any, /admin/v1 refuses everybody."
    )

    SECRET_URLS: ClassVar[frozenset[str]] = frozenset({"database.url", "redis.url"})
    _origin: Origin | None = PrivateAttr(default=None)

    @property
    def origin(self) -> Origin:
        """Where these settings came from."""
        if self._origin is None:
            raise RuntimeError("settings are made by load_settings, which knows where they came from")
        return self._origin

    @property
    def folder(self) -> Path:
        """The folder of the settings file, to which relative paths refer."""
        return self.origin.folder

    @model_validator(mode="after")
    def _check_pairs(self) -> Self:
        """Check what settings must hold to each other; the message starts with the setting at fault."""
        if self.crl.refresh_hours >= self.crl.valid_hours:
            raise ValueError(
                f"crl.refresh_hours|less than [crl] valid_hours ({self.crl.valid_hours}), or lists run out"
                f" before the next one|{self.crl.refresh_hours}"
            )
        if (self.server.tls_certificate is None) != (self.server.tls_key is None):
            given = "tls_certificate" if self.server.tls_key is None else "tls_key"
            raise ValueError(f"server.{given}|both tls_certificate and tls_key, or neither|one of them")
        if self.ocsp.max_age_seconds >= self.ocsp.valid_hours * 3600:
            raise ValueError(
                f"ocsp.max_age_seconds|less than [ocsp] valid_hours ({self.ocsp.valid_hours} h)"
                f"|{self.ocsp.max_age_seconds}"
            )
        if self.keys.passphrase is not None and self.keys.passphrase_file is not None:
            raise ValueError(
                "keys.passphrase_file|nothing beside CASVC_KEYS__PASSPHRASE: one of the two opens the keys"
                f"|{self.keys.passphrase_file}"
            )
        if self.log.key == self.authority.key:
            raise ValueError(f"log.key|another file than [authority] key|{self.log.key}")
        if self.metrics.bind and self.metrics.bind.rpartition(":")[2] == self.server.bind.rpartition(":")[2]:
            raise ValueError(f"metrics.bind|another port than [server] bind|{self.metrics.bind}")
        return self
