"""Whether the service can do its work: what it needs, and what it goes on without."""

import inspect
import logging
from collections.abc import Callable, Mapping

from ca_service.errors import CAError

Check = Callable[[], object]
"""Raises a CAError when what it looks at does not work."""

NOT_ASKED = "not asked, since the database does not answer"
WITHOUT_REDIS = "away: limits are not held, and changes on other nodes are found within about a second"

_LOG = logging.getLogger("ca_service.readiness")


class Readiness:
    """Asks each part whether it works, and answers in words that anybody may read.

    Paths, addresses and numbers are in the log alone, once for each trouble that comes.
    """

    def __init__(
        self,
        *,
        local: Mapping[str, Check],
        database: Check,
        stored: Mapping[str, Check],
        redis: Callable[[], str | None] | None,
    ) -> None:
        """Take the checks by name: of this machine, of the database, and of what is `stored` in it.

        The last are not asked when the database fails. `redis` says why it is of no use, or None.
        """
        self._local = local
        self._database = database
        self._stored = stored
        self._redis = redis
        self._told: dict[str, str | None] = {}

    def needed(self) -> Mapping[str, str | None]:
        """What issuing needs: each name, and None or what is wrong."""
        found = {name: self._trouble(name, check) for name, check in self._local.items()}
        found["database"] = self._trouble("database", self._database)
        for name, check in self._stored.items():
            # A server that hangs is waited for once, and not by each.
            found[name] = self._trouble(name, check) if found["database"] is None else NOT_ASKED
        return found

    def extras(self) -> Mapping[str, str | None]:
        """What the service goes on without: each name, and None or what is missed."""
        if self._redis is None:
            return {}
        trouble = self._redis()
        self._tell("redis", trouble)
        return {"redis": None if trouble is None else WITHOUT_REDIS}

    def _trouble(self, name: str, check: Check) -> str | None:
        try:
            check()
        except CAError as error:
            self._tell(name, error.message)
            return f"{error.reason}: {inspect.cleandoc(error.__doc__ or '').splitlines()[0]}"
        self._tell(name, None)
        return None

    def _tell(self, name: str, trouble: str | None) -> None:
        before, self._told[name] = self._told.get(name), trouble
        if trouble is not None and trouble != before:
            _LOG.warning("a check fails: %s: %s", name, trouble)
        elif trouble is None and before is not None:
            _LOG.info("a check passes again: %s", name)
