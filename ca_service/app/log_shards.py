"""The log in its shards, as a running service uses it: found, written, read and kept in order."""

import logging
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping

from ca_service.app.material import LogKeys, log_address
from ca_service.authority.authorities import Authorities
from ca_service.authority.log import LogIdentity
from ca_service.authority.log_shards import (
    FREEZE_AFTER_SECONDS,
    LogShard,
    ShardDirectory,
    ShardedSequencer,
)
from ca_service.authority.ports import Actor, Clock, Observer
from ca_service.authority.rollback import RollbackGuard
from ca_service.authority.static_log import StaticLog
from ca_service.errors import CAError, ConfigurationError, LogUnavailable
from ca_service.settings import Settings
from ca_service.store.database import Database
from ca_service.store.entry_kinds import CertificateEntries
from ca_service.store.log_shards import SqlLogShards
from ca_service.store.logs import SqlLogReader
from ca_service.store.sequencer import BatchingSequencer
from ca_service.web.log import ServedLog

_APPEND_SECONDS = 4.0
"""Clients such as sigstore-js give up after five seconds and ask again; an answer must come before that."""

_LOG = logging.getLogger("ca_service.log")


class ShardFiles(Mapping[str, StaticLog]):
    """Every shard as static files, by name, as it is at this moment."""

    def __init__(
        self,
        settings: Settings,
        authorities: Callable[[], Authorities],
        log: Mapping[str, ServedLog],
        clock: Clock,
    ) -> None:
        """Take the shards, and what their descriptions tell of them."""
        self._settings = settings
        self._authorities = authorities
        self._log = log
        self._clock = clock

    def __getitem__(self, name: str) -> StaticLog:
        """The shard of this name; KeyError when there is none, StoreUnavailable when nobody can tell."""
        served = self._log[name]
        shard = served.shard or LogShard(served.identity)
        ours = self._authorities()
        address = log_address(self._settings, (ours.since, ours.until), shard, self._clock() // 1000)
        return StaticLog(served.identity, served.reader, address, served.codec)

    def __iter__(self) -> Iterator[str]:
        """The names, the earliest period first."""
        return iter(self._log)

    def __len__(self) -> int:
        """How many shards there are."""
        return len(self._log)


class ShardedLog(Mapping[str, ServedLog]):
    """Every shard of the certificate log by name, those included that are prepared while the service runs."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        authorities: Callable[[], Authorities],
        keys: LogKeys,
        clock: Clock,
        observer: Observer,
        guard: RollbackGuard,
    ) -> None:
        """Join the collaborators; nothing is read, and no thread begins, before the first use."""
        self._settings = settings
        self._database = database
        self._keys = keys
        self._clock = clock
        self._observer = observer
        self._guard = guard
        self._store = SqlLogShards(database, clock)
        self._readers: dict[str, SqlLogReader] = {}
        self.directory = ShardDirectory(self._store.all, time.monotonic, observer)
        self.sequencer = ShardedSequencer(self.directory, self._sequencer)
        self.files = ShardFiles(settings, authorities, self, clock)

    def __getitem__(self, name: str) -> ServedLog:
        """The shard of this name; KeyError when there is none, StoreUnavailable when nobody can tell."""
        shard = self.directory.get(name)
        if shard is None:
            raise KeyError(name)
        return ServedLog(shard.identity, self._reader(name), shard)

    def __iter__(self) -> Iterator[str]:
        """The names, the earliest period first."""
        return iter([shard.name for shard in self.directory.all()])

    def __len__(self) -> int:
        """How many shards there are."""
        return len(self.directory.all())

    def current(self) -> LogIdentity:
        """The shard that logs what is issued now; raises LogUnavailable, StoreUnavailable."""
        return self._current().identity

    def check(self) -> None:
        """Ask whether what is issued now could be logged; raises an Unavailable or ConfigurationError."""
        current = self._current()
        self._reader(current.name).head()
        self._keys.signer(current.identity)

    def check_keys(self) -> None:
        """Read the key of every shard that is not frozen; raises ConfigurationError, StoreUnavailable."""
        shards = self.directory.refreshed()
        if not shards:
            raise ConfigurationError("the database has no log; was it made with this directory?")
        for shard in shards:
            if not shard.frozen:
                self._keys.signer(shard.identity)

    def keep_house(self) -> None:
        """Sign old heads anew, and freeze what is over; one shard in trouble does not stop the others.

        Raises the first trouble: an Unavailable or ConfigurationError, also for a prepared shard's key that
        cannot be read, which must be known long before it is needed.
        """
        troubles: list[CAError] = []
        for shard in self.directory.all():
            if not shard.frozen:
                try:
                    self._keep(shard)
                except CAError as trouble:
                    troubles.append(trouble)
        if troubles:
            raise troubles[0]

    def _keep(self, shard: LogShard) -> None:
        sign, ends = self._keys.signer(shard.identity), shard.period.ends
        if ends is None or ends + FREEZE_AFTER_SECONDS > self._clock() // 1000:
            self.sequencer.republish(shard)
            return
        # A shorter tree with a newer date would prove that the log lied; to freeze it makes that last.
        self._guard.check()
        actor = Actor("service", socket.gethostname(), secrets.token_hex(16))
        final = self._store.freeze(shard.name, sign, actor)
        self._guard.catch_up()
        self._observer.count("log_shard_frozen")
        _LOG.info("the log shard %s is frozen with %d entries", shard.name, final.tree_size)

    def close(self) -> None:
        """Write what waits, and end this process's threads."""
        self.sequencer.close()

    def _current(self) -> LogShard:
        return self.directory.taking(self._clock() // 1000 + self._settings.authority.lifetime_seconds)

    def _reader(self, name: str) -> SqlLogReader:
        return self._readers.setdefault(name, SqlLogReader(self._database, name))

    def _sequencer(self, shard: LogShard) -> BatchingSequencer:
        try:
            sign = self._keys.signer(shard.identity)
        except ConfigurationError as error:
            raise LogUnavailable(f"the log has no key: {error.message}", retry_after=30) from error
        return BatchingSequencer(
            self._database,
            shard.identity,
            sign,
            self._clock,
            self._observer,
            entries=CertificateEntries(),
            queue_size=self._settings.log.queue_size,
            batch_size=self._settings.log.batch_size,
            timeout=_APPEND_SECONDS,
            guard=self._guard,
        )
