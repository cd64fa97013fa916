"""Keeping the log as files in a folder: by the service while it runs, and by a command."""

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from ca_service.app import material
from ca_service.authority.log_publisher import LogPublisher, Published
from ca_service.authority.log_shards import ShardState
from ca_service.authority.ports import Clock, Observer
from ca_service.authority.static_log import StaticLog
from ca_service.errors import CAError, ConfigurationError, LogForked, LogUnavailable
from ca_service.files.log_folder import LogFolder
from ca_service.settings import Settings
from ca_service.store.database import Database
from ca_service.store.log_shards import SqlLogShards
from ca_service.store.logs import SqlLogReader

_PAUSE_SECONDS = 1.0
"""Between two checkpoints: each obliges us to keep the partial tiles of its size until they are full."""

_TURN_SECONDS = 30.0

_CLOSED = (ShardState.FROZEN, ShardState.RETIRED)

_LOG = logging.getLogger("ca_service")


class LogExport:
    """Publishes every shard of the log into a folder, as one of several processes that try to."""

    def __init__(self, logs: Mapping[str, StaticLog], folder: Path, observer: Observer) -> None:
        """Take the shards by name, which may become more, and the folder; nothing is opened yet."""
        self._logs = logs
        self._folder = folder
        self._observer = observer
        self._files: dict[str, LogFolder] = {}
        self._finished: set[str] = set()
        self._troubles: dict[str, str] = {}

    def run(self, stopping: threading.Event) -> None:
        """Publish whenever it is this process's turn and something is new, until `stopping` is set."""
        while not stopping.wait(_PAUSE_SECONDS):
            self.publish_in_turn()

    def publish_in_turn(self) -> None:
        """Publish each shard when it is this process's turn; one in trouble does not stop the others.

        Trouble is counted, and written down when it is new.
        """
        try:
            names = list(self._logs)
        except CAError as error:
            self._tell("", error)
            return
        for name in names:
            if name not in self._finished:
                self._publish(name, self._logs[name])

    def _publish(self, name: str, log: StaticLog) -> None:
        if name not in self._files:
            self._files[name] = LogFolder(self._folder, name)
        files = self._files[name]
        try:
            with files.turn(_PAUSE_SECONDS * 0.9) as mine:
                if mine:
                    LogPublisher(log, files).publish()
                    if log.state in _CLOSED:
                        # Its last head is out, and there is never another.
                        self._finished.add(name)
        except CAError as error:
            self._tell(name, error)
        else:
            self._troubles.pop(name, None)

    def _tell(self, name: str, error: CAError) -> None:
        self._observer.count("log_export_failed", reason=error.reason)
        if error.message != self._troubles.get(name):
            _LOG.warning("the log's files could not be published: %s", error.message)
        self._troubles[name] = error.message


def export_log(settings: Settings, folder: Path, clock: Clock) -> Iterator[tuple[Path, Published]]:
    """Publish each shard into a folder now, which needs no private key; where it went, and what was done.

    Raises LogForked, after the other shards, StoreUnavailable, ConfigurationError, and LogUnavailable when
    another process is at it.
    """
    database = Database(settings.database.url, folder=settings.folder)
    forks: list[LogForked] = []
    try:
        database.check()
        valid = material.validity(material.chains(settings))
        shards = SqlLogShards(database, clock).all()
        if not shards:
            raise ConfigurationError("the database has no log; was it made with this directory?")
        for shard in shards:
            address = material.log_address(settings, valid, shard, clock() // 1000)
            log = StaticLog(shard.identity, SqlLogReader(database, shard.name), address)
            files = LogFolder(folder, shard.name)
            try:
                yield files.path, _published_now(log, files)
            except LogForked as fork:
                forks.append(fork)
    finally:
        database.close()
    if forks:
        raise forks[0]


def _published_now(log: StaticLog, files: LogFolder) -> Published:
    deadline = time.monotonic() + _TURN_SECONDS
    while time.monotonic() < deadline:
        with files.turn(0) as mine:
            if mine:
                return LogPublisher(log, files).publish()
        time.sleep(0.1)
    raise LogUnavailable(f"another process has been publishing into {files.path} for {_TURN_SECONDS:g} s")
