"""Keeping the log as files in a folder: by the service while it runs, and by a command."""

import logging
import threading
import time
from pathlib import Path

from ca_service.app import material
from ca_service.authority.log_publisher import LogPublisher, Published
from ca_service.authority.ports import Observer
from ca_service.authority.static_log import StaticLog
from ca_service.errors import CAError, LogUnavailable
from ca_service.files.log_folder import LogFolder
from ca_service.settings import Settings
from ca_service.store.database import Database
from ca_service.store.logs import SqlLogReader, stored_identity

_PAUSE_SECONDS = 1.0
"""Between two checkpoints: each obliges us to keep the partial tiles of its size until they are full."""

_TURN_SECONDS = 30.0

_LOG = logging.getLogger("ca_service")


class LogExport:
    """Publishes one log into a folder, as one of several processes that try to."""

    def __init__(self, log: StaticLog, folder: Path, observer: Observer) -> None:
        """Take the log and the folder; nothing is opened yet."""
        self._files = LogFolder(folder, log.identity.shard)
        self._publisher = LogPublisher(log, self._files)
        self._observer = observer
        self._trouble = ""

    def run(self, stopping: threading.Event) -> None:
        """Publish whenever it is this process's turn and something is new, until `stopping` is set."""
        while not stopping.wait(_PAUSE_SECONDS):
            self.publish_in_turn()

    def publish_in_turn(self) -> None:
        """Publish when it is this process's turn. Trouble is counted, and written down when it is new."""
        try:
            with self._files.turn(_PAUSE_SECONDS * 0.9) as mine:
                if mine:
                    self._publisher.publish()
        except CAError as error:
            self._observer.count("log_export_failed", reason=error.reason)
            if error.message != self._trouble:
                _LOG.warning("the log's files could not be published: %s", error.message)
            self._trouble = error.message
        else:
            self._trouble = ""


def export_log(settings: Settings, folder: Path) -> tuple[Path, Published]:
    """Publish the log into a folder now, which needs no private key; where it went, and what was done.

    Raises LogForked, StoreUnavailable, ConfigurationError, and LogUnavailable when another process is at it.
    """
    database = Database(settings.database.url, folder=settings.folder)
    try:
        database.check()
        identity = stored_identity(database, settings.log.shard)
        reader = SqlLogReader(database, identity.shard)
        files = LogFolder(folder, identity.shard)
        publisher = LogPublisher(StaticLog(identity, reader, material.log_address(settings)), files)
        deadline = time.monotonic() + _TURN_SECONDS
        while time.monotonic() < deadline:
            with files.turn(0) as mine:
                if mine:
                    return files.path, publisher.publish()
            time.sleep(0.1)
    finally:
        database.close()
    raise LogUnavailable(f"another process has been publishing into {folder} for {_TURN_SECONDS:g} s")
