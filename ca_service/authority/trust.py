"""What verifiers must hold to check a certificate: chains, log keys, and Sigstore's documents of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import load_der_public_key

from ca_service.authority.authorities import Authorities
from ca_service.authority.log import LogIdentity
from ca_service.authority.log_shards import LogShard
from ca_service.authority.ports import Clock
from ca_service.pki.authority_certificates import Authority
from ca_service.pki.keys import key_id as key_id_of
from ca_service.pki.pem import public_key_pem
from ca_service.pki.trusted_root import (
    Json,
    SigningService,
    TrustedAuthority,
    TrustedLog,
    client_trust_config,
    signing_config,
    trusted_root,
)

_FULCIO_API_VERSION = 1
"""What clients call version 1, although its path says v2."""


@dataclass(frozen=True, slots=True)
class OutsideRekor:
    """An artifact log that somebody else runs: its URL, key, and API version (1 or 2)."""

    url: str
    public_key: PublicKeyTypes
    major_api_version: int = 1

    @property
    def origin(self) -> str:
        """The name in its checkpoints, as its id depends on it: clients expect the URL's host."""
        return (urlsplit(self.url).hostname or "") if self.major_api_version > 1 else ""


@dataclass(frozen=True, slots=True)
class OutsideTsa:
    """A timestamp authority that somebody else runs: its URL and chain, the signing certificate first."""

    url: str
    chain: tuple[x509.Certificate, ...]


class TrustMaterial:
    """Everything public about this service's keys, in each form that somebody asks for."""

    def __init__(
        self,
        *,
        authorities: Callable[[], Authorities],
        logs: Callable[[], Sequence[LogShard]],
        current_log: Callable[[], LogIdentity],
        url: str,
        organization: str,
        clock: Clock,
    ) -> None:
        """Take every authority whose certificates are trusted, also those that only will issue.

        `logs` tells every shard there is, prepared, in use or closed; `current_log` that of certificates
        issued now. Both may raise Unavailable.
        """
        self._authorities = authorities
        self._clock = clock
        self._logs = logs
        self._current_log = current_log
        self._url = url
        self._organization = organization

    def chains(self) -> list[list[str]]:
        """Each authority's chain as PEM texts, the issuing certificate first and the root last.

        The first chain is that of the authority that issues now.
        """
        return [list(authority.chain_pems) for authority in self._trusted()]

    def roots_der(self) -> list[bytes]:
        """The root certificates, each once."""
        return list(dict.fromkeys(authority.chain_der[-1] for authority in self._trusted()))

    def certificate_der(self, key_id: str) -> bytes | None:
        """The certificate of one of the authority's keys, issuing or root, or None."""
        for authority in self._authorities():
            for certificate, der in zip(authority.chain, authority.chain_der, strict=True):
                if key_id_of(certificate.public_key()) == key_id:
                    return der
        return None

    def log_public_key_pem(self) -> str:
        """The public key of the shard that logs what is issued now; raises Unavailable."""
        return public_key_pem(self._current_log().public_key_der)

    def trusted_root(self) -> Mapping[str, Json]:
        """Sigstore's trusted_root.json for this service alone; raises Unavailable."""
        return self._trusted_root((), ())

    def documents(
        self, rekors: Sequence[OutsideRekor], tsas: Sequence[OutsideTsa]
    ) -> Mapping[str, Mapping[str, Json]]:
        """The JSON documents by file name.

        Those for signing are there when somebody is given who tells when a signature was made: a Rekor, or,
        for cosign alone, a timestamp authority.

        Raises ConfigurationError for a key of a kind that the documents have no name for, and Unavailable.
        """
        root = self._trusted_root(rekors, tsas)
        if not rekors and not tsas:
            return {"trusted_root.json": root}
        config = signing_config(
            SigningService(self._url, _FULCIO_API_VERSION, self._organization, self._since),
            [
                SigningService(rekor.url, rekor.major_api_version, self._organization, self._since)
                for rekor in rekors
            ],
            [SigningService(tsa.url, 1, self._organization, self._since) for tsa in tsas],
        )
        documents = {"trusted_root.json": root, "signing_config.json": config}
        if rekors:
            documents["client_trust_config.json"] = client_trust_config(root, config)
        return documents

    def _trusted_root(self, rekors: Sequence[OutsideRekor], tsas: Sequence[OutsideTsa]) -> Mapping[str, Json]:
        return trusted_root(
            [TrustedAuthority(authority.chain, self._url) for authority in self._trusted()],
            [self._trusted_log(shard) for shard in self._logs()],
            [TrustedAuthority(tsa.chain, tsa.url) for tsa in tsas],
            [TrustedLog(each.url, each.public_key, self._since, origin=each.origin) for each in rekors],
        )

    def _trusted(self) -> Sequence[Authority]:
        return self._authorities().as_trusted(self._clock() // 1000)

    @property
    def _since(self) -> datetime:
        """When trust begins: no certificate and no SCT is older than the first authority."""
        return self._authorities().since

    def _trusted_log(self, shard: LogShard) -> TrustedLog:
        """A shard with the time in which its SCTs are made; clients refuse those from outside it."""
        return TrustedLog(
            f"{self._url}/ctlog/{shard.name}",
            load_der_public_key(shard.identity.public_key_der),
            max(self._since, datetime.fromtimestamp(shard.trusted_from, UTC)),
            None if shard.period.ends is None else datetime.fromtimestamp(shard.period.ends, UTC),
        )
