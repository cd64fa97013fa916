"""Publishing revocation: every CRL shard is served complete, signed and in time.

A shard whose generation moved is dirty and is rebuilt by whoever asks for it first, under the shard's lock;
so a CRL that is served never lacks a revocation that was committed before the request.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

from ca_service.authority.authorities import Authorities
from ca_service.authority.ports import Clock, Observer
from ca_service.authority.status_ports import BuiltCrl, CrlShard, CrlStanding, Revocation, Shards
from ca_service.errors import CAError, ConfigurationError, StoreUnavailable
from ca_service.pki.authority_certificates import Authority
from ca_service.pki.crl import Entry, build_crl, resign_crl, verify_crl
from ca_service.vocabulary import KeyId

_SIGNED_AHEAD = 32
"""How many lists one `refresh` signs anew for their age alone, so that a long absence is no burst."""


@dataclass(frozen=True, slots=True)
class PublicationPolicy:
    """How long a CRL holds, and how old it may get before it is signed anew; both in seconds."""

    valid_seconds: int
    refresh_seconds: int


@dataclass(frozen=True, slots=True)
class PublishedCrl:
    """A CRL as served; times are seconds since 1970.

    `dated`: no list before it had this `this_update` or a later one, so that the date tells them apart.
    """

    url: str
    der: bytes
    number: int
    this_update: int
    next_update: int
    dated: bool = True


@dataclass(frozen=True, slots=True)
class ListedCrl:
    """What the index says of a CRL: `sha256` is lower-case hex over its DER; times as in PublishedCrl."""

    url: str
    number: int
    sha256: str
    this_update: int
    next_update: int


class Publication:
    """Keeps every CRL shard current, and hands out the root's CRL beside them."""

    def __init__(
        self,
        *,
        authorities: Callable[[], Authorities],
        shards: Shards,
        root_crls: Mapping[KeyId, PublishedCrl],
        status_url: str,
        policy: PublicationPolicy,
        clock: Clock,
        observer: Observer,
    ) -> None:
        """Join the collaborators; `root_crls` are those the offline roots signed, by root key.

        It is asked for the one in force every time.
        """
        self._authorities = authorities
        self._shards = shards
        self._root_crls = root_crls
        self._status_url = status_url
        self._policy = policy
        self._clock = clock
        self._observer = observer
        self._known: set[tuple[KeyId, str]] = set()
        self._digests: dict[tuple[KeyId, str], tuple[int, str]] = {}

    def ensure(self, authority_key: KeyId, name: str, issued_at: int, within: float | None = None) -> str:
        """Return the URL of a shard, after storing its first, empty CRL when the shard is new.

        `issued_at` (seconds) is when the certificate that will name it is made; `within` is as in
        status_ports.Shards.create. Raises StoreUnavailable.
        """
        url = f"{self._status_url}/crl/{authority_key}/{name}.crl"
        if (authority_key, name) in self._known:
            return url
        if self._shards.get(authority_key, name) is None:
            self._shards.create(self._first_crl(authority_key, name, url, issued_at), within)
            self._observer.count("crl_shard_opened")
        # Only ever grows by one entry a month and sub-shard, so it needs no bound.
        self._known.add((authority_key, name))
        return url

    def root_crls(self) -> Mapping[KeyId, PublishedCrl]:
        """The roots' CRLs by the root's key, as they are in force."""
        return self._root_crls

    def crl(self, key_id: str, name: str) -> PublishedCrl | None:
        """Return the CRL that is right at this moment, or None when there is no such shard.

        Raises StoreUnavailable when a dirty shard cannot be rebuilt: an answer that hides a revocation
        is worse than none. A list whose key only other nodes have is handed out as long as it is right.
        """
        key = KeyId(key_id)
        if name == "root":
            return self._root_crls.get(key)
        shard = self._shards.get(key, name)
        if shard is None:
            return None
        if shard.is_dirty or self._now() - shard.this_update >= self._policy.refresh_seconds:
            shard = self._rebuilt(shard)
        # A list that was replaced within its second holds a second shorter (see `_finished`).
        dated = shard.next_update - shard.this_update == self._policy.valid_seconds
        return replace(_published(shard), dated=dated)

    def check_keys(self) -> None:
        """Raise ConfigurationError when the key that signs some of the lists is not here.

        Another node has it then: one that issued with it, while nobody copied it to this one. Raises
        StoreUnavailable too.
        """
        for key in sorted(self._shards.authority_keys() - set(self._authorities().by_key)):
            self._authority(key)

    def is_behind(self) -> bool:
        """Whether some list that is stored lacks a revocation; raises StoreUnavailable."""
        return any(each.is_dirty for each in self._shards.due(0))

    def refresh(self) -> int:
        """Rebuild every shard that is dirty, and some of those that grow old; return how many were rebuilt.

        Any number of processes may do this at once: each shard is rebuilt by one of them. Those whose key is
        not here are left to the nodes that have it; `check_keys` names it. Raises StoreUnavailable at the
        first that cannot be rebuilt; those before it are done.
        """
        youngest, ours = self._now() - self._policy.refresh_seconds + self._spread, self._authorities().by_key
        due = [
            each for each in self._shards.due(youngest) if each.authority_key in ours and self._is_due(each)
        ]
        dirty = [each for each in due if each.is_dirty]
        old = sorted((each for each in due if not each.is_dirty), key=lambda each: each.this_update)
        rebuilt = 0
        for each in (*dirty, *old[:_SIGNED_AHEAD]):
            after = self._shards.rebuild(each.authority_key, each.name, self._build)
            rebuilt += after.crl_number > each.crl_number
        return rebuilt

    def index(self) -> Sequence[ListedCrl]:
        """Every shard's CRL and the roots' CRLs, as they are right at this moment; raises StoreUnavailable.

        Only those are read whole whose hash is not known here yet.
        """
        roots = [_listed(each) for each in self._root_crls.values()]
        return [*roots, *(self._listed_shard(each) for each in self._shards.all())]

    def _listed_shard(self, standing: CrlStanding) -> ListedCrl:
        place = (standing.authority_key, standing.name)
        number, digest = self._digests.get(place, (0, ""))
        if number == standing.crl_number and not standing.is_dirty:
            return ListedCrl(standing.url, number, digest, standing.this_update, standing.next_update)
        published = self.crl(*place)
        if published is None:
            raise StoreUnavailable(f"the CRL shard {standing.name} cannot be read", retry_after=1)
        listed = _listed(published)
        self._digests[place] = (listed.number, listed.sha256)
        return listed

    @property
    def _spread(self) -> int:
        """Lists that were signed in the same hour drift apart: each is renewed up to this much earlier."""
        return self._policy.refresh_seconds // 4

    def _is_due(self, standing: CrlStanding) -> bool:
        name = f"{standing.authority_key}/{standing.name}/{standing.crl_number}".encode()
        ahead = int.from_bytes(hashlib.sha256(name).digest()[:4]) % (self._spread + 1)
        age = self._now() - standing.this_update
        return standing.is_dirty or age >= self._policy.refresh_seconds - ahead

    def _rebuilt(self, shard: CrlShard) -> CrlShard:
        try:
            rebuilt = self._shards.rebuild(shard.authority_key, shard.name, self._build)
        except CAError as error:
            self._observer.count("crl_rebuild_failed")
            if not shard.is_dirty and shard.next_update > self._now():
                return shard
            if isinstance(error, ConfigurationError):
                # Another node may have what is missing here; a proxy asks it when this one is unavailable.
                raise StoreUnavailable(error.message, retry_after=1) from error
            raise
        # Revocations go on while it is signed; it must show those that were there when it was asked for.
        if rebuilt.published_generation < shard.generation:
            raise StoreUnavailable(f"the CRL shard {shard.name} could not be signed anew", retry_after=1)
        return rebuilt

    def _build(self, shard: CrlShard, crl_number: int, revocations: Iterable[Revocation]) -> BuiltCrl | None:
        if not self._is_due(shard):
            return None  # another worker was first, while this one waited for the lock
        authority = self._authority(shard.authority_key)
        if not shard.is_dirty and (again := self._signed_again(authority, shard, crl_number)) is not None:
            self._observer.count("crl_signed_again")
            return again
        built = self._sign(
            authority, shard.url, shard.covers_from, crl_number, revocations, after=shard.this_update
        )
        self._observer.count("crl_built")
        return built

    def _signed_again(self, authority: Authority, shard: CrlShard, crl_number: int) -> BuiltCrl | None:
        """The same list with new times, when it only grew old; None when what is stored is damaged."""
        try:
            build = partial(resign_crl, authority, shard.crl)
            return self._finished(authority, shard.url, build, crl_number, shard.this_update)
        except ValueError:
            return None  # then it is built from the revocations

    def _first_crl(self, authority_key: KeyId, name: str, url: str, issued_at: int) -> CrlShard:
        opened = datetime.fromtimestamp(issued_at, UTC)
        covers_from = int(opened.replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp())
        first = self._sign(self._authority(authority_key), url, covers_from, 1, ())
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

    def _authority(self, key: KeyId) -> Authority:
        authority = self._authorities().by_key.get(key)
        if authority is None:
            raise ConfigurationError(
                f"the database has CRLs of the issuing key {key}, which this host has not; copy its folder to"
                " [authority] rotated_dir from the host where it was made"
            )
        return authority

    def _sign(
        self,
        authority: Authority,
        url: str,
        covers_from: int,
        crl_number: int,
        revocations: Iterable[Revocation],
        *,
        after: int = 0,
    ) -> BuiltCrl:
        entries = [Entry(each.serial, each.revocation_date, each.reason.number) for each in revocations]
        expired_since = datetime.fromtimestamp(covers_from, UTC)
        build = partial(build_crl, authority, entries, url=url, expired_since=expired_since)
        return self._finished(authority, url, build, crl_number, after)

    def _finished(
        self, authority: Authority, url: str, build: Callable[..., bytes], crl_number: int, after: int
    ) -> BuiltCrl:
        """Build, verify; `after` is the `this_update` of the list before it."""
        this_update = self._now()
        # Two lists of one second have the same Last-Modified: by their length of life every worker sees that
        # the date says nothing of which of them a caller has.
        next_update = this_update + self._policy.valid_seconds - (after >= this_update)
        der = build(
            number=crl_number,
            this_update=datetime.fromtimestamp(this_update, UTC),
            next_update=datetime.fromtimestamp(next_update, UTC),
        )
        # A CRL that does not verify would be refused by everyone at once; better to keep the last one.
        verify_crl(der, authority.certificate, url=url)
        return BuiltCrl(crl=der, this_update=this_update, next_update=next_update)

    def _now(self) -> int:
        return self._clock() // 1000


def _listed(published: PublishedCrl) -> ListedCrl:
    return ListedCrl(
        url=published.url,
        number=published.number,
        sha256=hashlib.sha256(published.der).hexdigest(),
        this_update=published.this_update,
        next_update=published.next_update,
    )


def _published(shard: CrlShard) -> PublishedCrl:
    return PublishedCrl(
        url=shard.url,
        der=shard.crl,
        number=shard.crl_number,
        this_update=shard.this_update,
        next_update=shard.next_update,
    )
