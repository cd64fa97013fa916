"""Publishing revocation: every CRL shard is served complete, signed and in time.

A shard whose generation moved is dirty and is rebuilt by whoever asks for it first, under the shard's lock;
so a CRL that is served never lacks a revocation that was committed before the request.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ca_service.authority.ports import BuiltCrl, Clock, CrlShard, Observer, Revocation, Shards
from ca_service.errors import CAError, StoreUnavailable
from ca_service.pki.authority_certificates import Authority
from ca_service.pki.crl import Entry, build_crl, verify_crl
from ca_service.vocabulary import KeyId


@dataclass(frozen=True, slots=True)
class PublicationPolicy:
    """How long a CRL holds, and how old it may get before it is signed anew; both in seconds."""

    valid_seconds: int
    refresh_seconds: int


@dataclass(frozen=True, slots=True)
class PublishedCrl:
    """A CRL as served; times are seconds since 1970. `number` is None for one made by the root key."""

    url: str
    der: bytes
    number: int
    this_update: int
    next_update: int


class Publication:
    """Keeps every CRL shard current, and hands out the root's CRL beside them."""

    def __init__(
        self,
        *,
        authorities: Mapping[KeyId, Authority],
        shards: Shards,
        root_crls: Mapping[KeyId, PublishedCrl],
        status_url: str,
        policy: PublicationPolicy,
        clock: Clock,
        observer: Observer,
    ) -> None:
        """Join the collaborators; `root_crls` are those the offline roots signed, by root key."""
        self._authorities = authorities
        self._shards = shards
        self._root_crls = root_crls
        self._status_url = status_url
        self._policy = policy
        self._clock = clock
        self._observer = observer
        self._known: set[tuple[KeyId, str]] = set()

    def ensure(self, authority_key: KeyId, name: str, issued_at: int) -> str:
        """Return the URL of a shard, after storing its first, empty CRL when the shard is new.

        `issued_at` (seconds) is when the certificate that will name it is made. Raises StoreUnavailable.
        """
        url = f"{self._status_url}/crl/{authority_key}/{name}.crl"
        if (authority_key, name) in self._known:
            return url
        if self._shards.get(authority_key, name) is None:
            self._shards.create(self._first_crl(authority_key, name, url, issued_at))
            self._observer.count("crl_shard_opened")
        # Only ever grows by one entry a month and sub-shard, so it needs no bound.
        self._known.add((authority_key, name))
        return url

    def crl(self, key_id: str, name: str) -> PublishedCrl | None:
        """Return the CRL that is right at this moment, or None when there is no such shard.

        Raises StoreUnavailable when a dirty shard cannot be rebuilt: an answer that hides a revocation
        is worse than none.
        """
        key = KeyId(key_id)
        if name == "root":
            return self._root_crls.get(key)
        if key not in self._authorities:
            return None
        shard = self._shards.get(key, name)
        if shard is None:
            return None
        if self._is_due(shard):
            shard = self._rebuilt(shard)
        return _published(shard)

    def refresh(self) -> int:
        """Rebuild every shard that is dirty or old; return how many were due.

        Raises StoreUnavailable at the first that cannot be rebuilt; those before it are done.
        """
        due = self._shards.due(self._now() - self._policy.refresh_seconds)
        for authority_key, name in due:
            self._shards.rebuild(authority_key, name, self._build)
        return len(due)

    def all_shards(self) -> Sequence[PublishedCrl]:
        """Every shard's newest CRL, and the roots' CRLs."""
        return [*self._root_crls.values(), *(_published(shard) for shard in self._shards.all())]

    def _is_due(self, shard: CrlShard) -> bool:
        return self._is_dirty(shard) or self._now() - shard.this_update >= self._policy.refresh_seconds

    def _is_dirty(self, shard: CrlShard) -> bool:
        return shard.generation != shard.published_generation

    def _rebuilt(self, shard: CrlShard) -> CrlShard:
        try:
            rebuilt = self._shards.rebuild(shard.authority_key, shard.name, self._build)
        except CAError:
            self._observer.count("crl_rebuild_failed")
            if self._is_dirty(shard) or shard.next_update <= self._now():
                raise
            return shard
        # Revocations go on while it is signed; it must show those that were there when it was asked for.
        if rebuilt.published_generation < shard.generation:
            raise StoreUnavailable(f"the CRL shard {shard.name} could not be signed anew", retry_after=1)
        return rebuilt

    def _build(self, shard: CrlShard, crl_number: int, revocations: Iterable[Revocation]) -> BuiltCrl | None:
        if not self._is_due(shard):
            return None  # another worker was first, while this one waited for the lock
        authority = self._authorities[shard.authority_key]
        built = self._sign(authority, shard.url, shard.covers_from, crl_number, revocations)
        self._observer.count("crl_built")
        return built

    def _first_crl(self, authority_key: KeyId, name: str, url: str, issued_at: int) -> CrlShard:
        opened = datetime.fromtimestamp(issued_at, UTC)
        covers_from = int(opened.replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp())
        first = self._sign(self._authorities[authority_key], url, covers_from, 1, ())
        return CrlShard(
            authority_key=authority_key,
            name=name,
            url=url,
            covers_from=covers_from,
            generation=0,
            crl_number=1,
            published_generation=0,
            this_update=first.this_update,
            next_update=first.next_update,
            crl=first.crl,
        )

    def _sign(
        self,
        authority: Authority,
        url: str,
        covers_from: int,
        crl_number: int,
        revocations: Iterable[Revocation],
    ) -> BuiltCrl:
        this_update = self._now()
        next_update = this_update + self._policy.valid_seconds
        der = build_crl(
            authority,
            [Entry(each.serial, each.revocation_date, each.reason.number) for each in revocations],
            number=crl_number,
            this_update=datetime.fromtimestamp(this_update, UTC),
            next_update=datetime.fromtimestamp(next_update, UTC),
            url=url,
            expired_since=datetime.fromtimestamp(covers_from, UTC),
        )
        # A CRL that does not verify would be refused by everyone at once; better to keep the last one.
        verify_crl(der, authority.certificate, url=url)
        return BuiltCrl(crl=der, this_update=this_update, next_update=next_update)

    def _now(self) -> int:
        return self._clock() // 1000


def _published(shard: CrlShard) -> PublishedCrl:
    return PublishedCrl(
        url=shard.url,
        der=shard.crl,
        number=shard.crl_number,
        this_update=shard.this_update,
        next_update=shard.next_update,
    )
