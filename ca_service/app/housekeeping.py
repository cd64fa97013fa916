"""What each worker does beside its requests: it looks whether something changed, and keeps things fresh.

What all processes of all nodes share is done by one of them at a time: whoever gets the lock. Nobody keeps
it, so that nobody has to notice when its holder dies.
"""

import logging
import random
import threading
import time
from collections.abc import Callable

from ca_service.app.authorities import AuthoritiesInForce
from ca_service.app.log_shards import ShardedLog
from ca_service.authority.ports import Observer, WakeUps
from ca_service.authority.publication import Publication
from ca_service.authority.rollback import RollbackGuard
from ca_service.errors import CAError
from ca_service.store.blocks import SqlBlocks
from ca_service.store.database import Database
from ca_service.store.position import SqlPosition
from ca_service.store.token_uses import SqlTokenUses

LOOK_SECONDS = 1.0
"""How long a change may go unnoticed that no wake-up told of; a look that finds none is one short query."""

ROUND_SECONDS = 30.0
TASK = "publication"

_SHORTEST_SECONDS = 0.1
_TROUBLE_SECONDS = 5.0
_LOG = logging.getLogger("ca_service")


class Housekeeping:
    """The looks and rounds of one process."""

    def __init__(
        self,
        *,
        database: Database,
        guard: RollbackGuard,
        authorities: AuthoritiesInForce,
        publication: Publication,
        log: ShardedLog,
        blocks: SqlBlocks,
        token_uses: SqlTokenUses,
        renew_delegates: Callable[[], object],
        wake_ups: WakeUps,
        observer: Observer,
    ) -> None:
        """Join the collaborators; nothing is read yet."""
        self._database = database
        self._guard = guard
        self._publication = publication
        self._blocks = blocks
        self._position = SqlPosition(database)
        self._wake_ups = wake_ups
        self._observer = observer
        self._authorities = authorities
        self._of_this_process = (authorities.check, publication.check_keys, renew_delegates)
        self._of_all = (publication.refresh, log.keep_house, token_uses.sweep)
        self._seen: tuple[int, int] | None = None
        self._behind = False
        self._told: str | None = None

    def run(self, stopping: threading.Event) -> None:
        """Look whenever woken, and every second; make a round now and then; until `stopping`."""
        next_round = time.monotonic() + ROUND_SECONDS
        while not stopping.is_set():
            began = time.monotonic()
            self._authorities.current()  # a key that was prepared is taken up before anybody asks for it
            if began >= next_round:
                well = self.round()
                # Not all processes in step, or always the same ones would find the lock taken.
                next_round = began + ROUND_SECONDS * random.uniform(0.9, 1.1)  # noqa: S311 - nothing secret
            else:
                well = self._done(self.look)
            # A flood of wake-ups, or of revocations, must not take more than a fifth of this process.
            took = time.monotonic() - began
            stopping.wait(max(_SHORTEST_SECONDS, 4 * took) if well else _TROUBLE_SECONDS)
            if not stopping.is_set():
                self._wake_ups.wait(LOOK_SECONDS)

    def look(self) -> None:
        """See whether somebody revoked or blocked; if so, take note of it, and publish it if we are elected.

        Raises CAError; the next look then tries again.
        """
        generations = self._position.generations()
        if generations != self._seen:
            self._behind = True
            self._blocks.refresh()
            self._guard.catch_up()
            self._seen = generations
        if self._behind:
            # As long as there is something to publish: whoever is at it may die of it.
            self._behind = self._publication.is_behind() and not self._elected(self._publication.refresh)

    def round(self) -> bool:
        """Do all that is due; whether nothing failed."""
        # First: from a database that was rolled back nothing is signed, no list and no tree head.
        if not self._done(self._guard.catch_up):
            return False
        well = [self._done(task) for task in self._of_this_process]
        well.append(self._done(lambda: self._elected(*self._of_all)))
        return all(well)

    def _elected(self, *tasks: Callable[[], object]) -> bool:
        """Do what one process at a time does, if that is us; one that fails keeps no other from being done.

        Raises the first trouble, and StoreUnavailable.
        """
        troubles: list[CAError] = []
        with self._database.try_lock(TASK) as held:
            if held:
                self._observer.count("publication_elected")
                for task in tasks:
                    try:
                        task()
                    except CAError as trouble:
                        troubles.append(trouble)
        for further in troubles[1:]:
            self._tell(further)
        if troubles:
            raise troubles[0]
        return held

    def _done(self, task: Callable[[], object]) -> bool:
        try:
            task()
        except CAError as trouble:
            self._tell(trouble)
            return False
        return True

    def _tell(self, trouble: CAError) -> None:
        # Requests meet the same trouble and are told; here it is for the operator, once while it lasts.
        self._observer.count("housekeeping_failed", reason=trouble.reason)
        level = logging.DEBUG if trouble.message == self._told else logging.WARNING
        self._told = trouble.message
        _LOG.log(level, "housekeeping failed: %s", trouble.message)
