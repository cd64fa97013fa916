"""What is stored about certificates once they are issued: who is blocked, what is revoked, the CRLs.

As ports.py says, the comment under a method is its contract.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ca_service.authority.ports import Actor
from ca_service.vocabulary import (
    KeyId,
    LeafIndex,
    RevocationReason,
    Serial,
    SubjectKind,
    SubjectName,
)


class Blocks(Protocol):
    """Who gets no certificates."""

    def check(self, subject: SubjectName, oidc_issuer: str, oidc_subject: str, key_sha256: str) -> None:
        """Raise IdentityBlocked when one of them is blocked now; a quick refusal before costly work."""
        ...


@dataclass(frozen=True, slots=True)
class Block:
    """Who gets no certificates: members that are None do not restrict, but one must be given.

    `subject` is a SAN, or a glob with `*` and `?`, compared under SubjectName.normalized; `key_sha256` is
    lower-case hex. `created` and `expires` (None: never) are seconds since 1970; `number` is 0 until it is
    stored. `reason` is for administrators: those who are refused are not told.
    """

    subject: str | None = None
    oidc_issuer: str | None = None
    oidc_subject: str | None = None
    key_sha256: str | None = None
    reason: str = ""
    created: int = 0
    expires: int | None = None
    number: int = 0

    @property
    def normalized(self) -> str | None:
        """The subject pattern as subjects are compared."""
        return None if self.subject is None else SubjectName(SubjectKind.URI, self.subject).normalized

    @property
    def target(self) -> tuple[str | None, str | None, str | None, str | None]:
        """Whom it concerns, in comparable form: subject pattern, issuer, the issuer's subject, key."""
        return (self.normalized, self.oidc_issuer, self.oidc_subject, self.key_sha256)


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """What is known of one issued certificate; times are seconds since 1970."""

    serial: Serial
    authority_key: KeyId
    log_shard: str
    leaf_index: LeafIndex
    subject: SubjectName
    oidc_issuer: str
    oidc_subject: str
    key_sha256: str
    not_before: int
    not_after: int
    crl_shard: str


@dataclass(frozen=True, slots=True)
class Selector:
    """Which certificates are meant; members that are None do not restrict. An empty selector means none.

    `identity` is a SAN, or a glob with `*` and `?`, compared under SubjectName.normalized; `oidc_subject` is
    the `sub` that the issuer gave. `since` and `until` (seconds since 1970) are a window: certificates valid
    at any moment in it.
    """

    identity: str | None = None
    oidc_issuer: str | None = None
    oidc_subject: str | None = None
    key_sha256: str | None = None
    log_index: tuple[str, int] | None = None
    serial: Serial | None = None
    since: int | None = None
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Revocation:
    """One certificate taken back; times are seconds since 1970.

    `revocation_date` is the moment from which its signatures are not to be trusted, `revoked_at` when
    that was decided. `reason` is published, `comment` is not.
    """

    serial: Serial
    authority_key: KeyId
    crl_shard: str
    revocation_date: int
    revoked_at: int
    reason: RevocationReason
    comment: str = ""


class IssuedCertificates(Protocol):
    """Reads of what was issued."""

    def by_serial(self, serial: Serial) -> IssuedCertificate | None:
        """The certificate with this serial, of whichever authority key (serials are random, 159 bits)."""
        ...

    def find(self, selector: Selector, limit: int) -> Sequence[tuple[IssuedCertificate, Revocation | None]]:
        """What the selector means, newest first, at most `limit`."""
        ...


@dataclass(frozen=True, slots=True)
class CertificateStatus:
    """What OCSP has to know of a serial, read in one consistent look."""

    issued: bool
    revocation: Revocation | None


@dataclass(frozen=True, slots=True)
class CrlStanding:
    """How one CRL partition stands, (issuing key, month of issue, sub-shard), as leaves name it by its URL.

    `generation` counts changes that its CRL must show; `published_generation` is what the stored CRL shows.
    `covers_from` (seconds) is the earliest notAfter of a certificate that names it.
    """

    authority_key: KeyId
    name: str
    url: str
    covers_from: int
    generation: int
    crl_number: int
    published_generation: int
    this_update: int
    next_update: int

    @property
    def is_dirty(self) -> bool:
        """Whether the stored CRL lacks a change."""
        return self.generation != self.published_generation


@dataclass(frozen=True, slots=True)
class CrlShard(CrlStanding):
    """One CRL partition with its newest CRL (DER), which may have many megabytes."""

    crl: bytes


class Revocations(Protocol):
    """Revocations, and the counter by which every worker knows that its cached answers are old."""

    def generation(self) -> int:
        """The number of revocation changes so far: cheap, read afresh on every call, never cached."""
        ...

    def status(self, authority_key: KeyId, serial: Serial) -> CertificateStatus:
        """Whether this key issued the serial, and its revocation."""
        ...

    def revoke(self, revocations: Sequence[Revocation], actor: Actor, action: str) -> Sequence[Revocation]:
        """Store them, bump generations, and append the audit record, in one durable transaction.

        Returns those that changed something. One already revoked stays as it is unless the new date is
        earlier or the reason was unspecified (stricter, never looser). Raises StoreUnavailable.
        """
        ...


class Shards(Protocol):
    """CRL shards and the newest CRL of each."""

    def get(self, authority_key: KeyId, name: str) -> CrlShard | None:
        """The shard with its newest published CRL, or None when there is no such shard."""
        ...

    def all(self) -> Sequence[CrlStanding]:
        """Every shard without its CRL, oldest first."""
        ...

    def authority_keys(self) -> frozenset[KeyId]:
        """The keys that sign the shards."""
        ...

    def due(self, signed_before: int) -> Sequence[CrlStanding]:
        """Each shard that is dirty, or whose CRL was signed at or before this second."""
        ...

    def create(self, shard: CrlShard, within: float | None = None) -> CrlShard:
        """Store a new shard with its first CRL; when another worker was first, return that one.

        `within` (seconds) is how long the caller can wait for other writers, if less than the adapter would.
        """
        ...

    def rebuild(
        self,
        authority_key: KeyId,
        name: str,
        build: "CrlBuilder",
    ) -> CrlShard:
        """Under the shard's lock: read it and its revocations, call `build`, store what it returns.

        `build` returns None to leave the shard as it is (another worker has just rebuilt it); revocations
        are read only when it looks at them. The number it is given is strictly greater than that of any CRL
        stored before for the shard.
        """
        ...


@dataclass(frozen=True, slots=True)
class BuiltCrl:
    """A signed CRL and its times in seconds since 1970."""

    crl: bytes
    this_update: int
    next_update: int


class CrlBuilder(Protocol):
    """Builds a shard's next CRL from what is stored."""

    def __call__(
        self, shard: CrlShard, crl_number: int, revocations: Iterable[Revocation]
    ) -> BuiltCrl | None:
        """Return the signed CRL, or None when the stored one is good enough."""
        ...
