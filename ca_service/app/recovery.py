"""The way out after a rollback: revocations back from published CRLs, the log retired, the mark set anew.

Each step may be repeated, and the mark is set last: a recovery that was interrupted is run again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from ca_service.app import material
from ca_service.app.authorities import read_authorities
from ca_service.app.log_rotation import Rotation
from ca_service.authority.authorities import Authorities
from ca_service.authority.log_shards import LogShard, ShardState
from ca_service.authority.mark import CrlName, Discrepancy, Mark, discrepancies
from ca_service.authority.ports import Actor, Clock, Observer
from ca_service.authority.publication import Publication, PublicationPolicy
from ca_service.authority.published import (
    PublishedList,
    covers_from,
    newest_of,
    read_published,
    still_missing,
)
from ca_service.errors import CAError, MarkMissing, MarkUnavailable
from ca_service.files.high_water_mark import MarkFile
from ca_service.settings import Settings
from ca_service.store.audit import SqlAudit
from ca_service.store.database import Database
from ca_service.store.position import SqlPosition
from ca_service.store.recovery import CrlFloor, lift
from ca_service.store.revocations import SqlRevocations
from ca_service.store.shards import SqlShards

_REASON = "the database was rolled back to an older state: entries of this log were lost"


@dataclass(frozen=True, slots=True)
class Seen:
    """How the database stands to the mark; `mark` is None when there is none, or it cannot be read."""

    mark: Mark | None
    trouble: CAError | None
    found: Mark
    wrong: tuple[Discrepancy, ...]

    @property
    def log_is_behind(self) -> bool:
        """Whether entries of a log were lost, so that its next indexes would be given away twice.

        Without a mark nobody can tell, so they may have been.
        """
        return self.mark is None or any(one.what == "log" for one in self.wrong)


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a recovery did."""

    revocations: int
    retired: tuple[str, ...]
    opened: LogShard | None
    crls: int


@dataclass(frozen=True)
class Recovery:
    """Works on one directory; `actor` is whom the audit records name."""

    settings: Settings
    database: Database
    clock: Clock
    observer: Observer
    actor: Actor

    @cached_property
    def authorities(self) -> Authorities:
        """The issuing keys, which sign their CRLs anew; raises ConfigurationError."""
        return read_authorities(self.settings, material.passphrase(self.settings))

    @property
    def _mark(self) -> MarkFile:
        return MarkFile(self.settings.high_water_mark.path)

    def look(self) -> Seen:
        """Compare the database with the mark; raises StoreUnavailable."""
        position = SqlPosition(self.database)
        try:
            mark = self._mark.read()
        except MarkUnavailable as trouble:
            return Seen(None, trouble, position.whole(), ())
        found = position.whole()
        wrong = discrepancies(mark, found, position.root_at, position.audit_hash_at)
        return Seen(mark, None, found, tuple(wrong))

    def read(self, ders: Iterable[tuple[str, bytes]]) -> tuple[list[PublishedList], list[str]]:
        """Verify CRLs, each with where it came from; those of our shards, and why others are left out."""
        authorities = self.authorities.by_key
        lists, refused = [], []
        for source, der in ders:
            try:
                lists.append(read_published(der, authorities, self.settings.service.status_url))
            except ValueError as error:
                refused.append(f"{source}: {error}")
        return lists, refused

    @staticmethod
    def missing(seen: Seen, lists: Iterable[PublishedList]) -> dict[CrlName, int]:
        """The CRLs, by number, that were published and are neither in the database nor given."""
        return still_missing(seen.mark or Mark(), seen.found, newest_of(lists))

    def url_of(self, name: CrlName) -> str:
        """Where a shard's CRL is published."""
        return f"{self.settings.service.status_url}/crl/{name[0]}/{name[1]}.crl"

    def recover(self, seen: Seen, lists: Iterable[PublishedList]) -> Recovered:
        """Put the directory right; raises ConfigurationError, StoreUnavailable, MarkUnavailable."""
        newest = newest_of(lists)
        mark = seen.mark or Mark()
        # (1) Above all numbers that anybody has seen, and on record, before anything is signed.
        lift(
            self.database,
            self.clock,
            generation=mark.generation,
            floors=self._floors(mark, seen.found, newest),
            actor=self.actor,
            detail=self._detail(seen, newest),
        )
        # (2) What was taken back stays taken back, also where the certificate itself was forgotten.
        changed = SqlRevocations(self.database, self.clock).revoke(
            [revocation for each in newest.values() for revocation in each.revocations], self.actor, "recover"
        )
        # (3) Indexes that were given away are never given again: the log ends here, another begins.
        retired, opened = self._replace_logs(seen) if seen.log_is_behind else ((), None)
        # (4) Every CRL that is due, signed anew with a number above all that were published.
        crls = self._publication().refresh()
        # (5) From here on the database is the newest there is.
        self._mark.reset(SqlPosition(self.database).whole())
        return Recovered(len(changed), retired, opened, crls)

    def accept_missing(self) -> None:
        """Make a mark of what the database says, since there is none; raises MarkUnavailable."""
        SqlAudit(self.database, self.clock).append(self.actor, "accept-missing-mark", {})
        position = SqlPosition(self.database).whole()
        try:
            self._mark.read()
        except MarkMissing:
            self._mark.create(position)
        except MarkUnavailable:
            self._mark.reset(position)

    def _floors(self, mark: Mark, found: Mark, newest: Mapping[CrlName, PublishedList]) -> list[CrlFloor]:
        numbers: dict[CrlName, int] = {}
        for name, number in (
            *mark.crl_numbers.items(),
            *((each.name, each.number) for each in newest.values()),
        ):
            numbers[name] = max(number, numbers.get(name, 0))
        now = self.clock() // 1000
        return [
            CrlFloor(name, self.url_of(name), covers_from(name[1], now), number)
            for name, number in sorted(numbers.items())
            if number > found.crl_numbers.get(name, 0)
        ]

    def _detail(self, seen: Seen, newest: Mapping[CrlName, PublishedList]) -> dict[str, object]:
        return {
            "seen": [one.sentence for one in seen.wrong] or ["nothing: the high-water mark was lost"],
            "lost_audit_head": None
            if seen.mark is None
            else {"sequence": seen.mark.audit_sequence, "hash": seen.mark.audit_hash},
            "crls": {each.url: each.number for each in newest.values()},
            "crls_not_given": {
                self.url_of(name): number for name, number in self.missing(seen, newest.values()).items()
            },
        }

    def _replace_logs(self, seen: Seen) -> tuple[tuple[str, ...], LogShard | None]:
        rotation = Rotation(self.settings, self.database, self.clock, self.actor)
        known = (seen.mark or seen.found).logs
        shards = [
            (shard, state)
            for shard, state in rotation.shards().values()
            # Not the one that an interrupted recovery has opened: nobody has seen it yet.
            if not shard.frozen and shard.identity.log_id in known
        ]
        # The one that takes certificates last, so that the new one takes over from it and from all others.
        shards.sort(key=lambda each: each[1] is ShardState.ACTIVE)
        opened = None
        for shard, _ in shards:
            opened = rotation.replace(shard.name, _REASON)
        return tuple(shard.name for shard, _ in shards), opened

    def _publication(self) -> Publication:
        return Publication(
            authorities=lambda: self.authorities,
            shards=SqlShards(self.database),
            root_crls={},
            status_url=self.settings.service.status_url,
            policy=PublicationPolicy(
                valid_seconds=self.settings.crl.valid_hours * 3600,
                refresh_seconds=self.settings.crl.refresh_hours * 3600,
            ),
            clock=self.clock,
            observer=self.observer,
        )
