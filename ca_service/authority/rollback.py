"""Watching that the database is the newest there was: nothing is signed from one that was rolled back.

The high-water mark is read before the database, never after: it follows the database, so a database that is
read later can only be further.
"""

import threading
from collections.abc import Callable
from time import perf_counter

from ca_service.authority.mark import (
    CrlName,
    Discrepancy,
    LogMark,
    Mark,
    audit_differs,
    crl_behind,
    discrepancies,
    log_behind,
    log_differs,
    rolled_back,
)
from ca_service.authority.mark_ports import HighWaterMark, Position
from ca_service.authority.ports import Observer
from ca_service.errors import AlreadyExists, MarkMissing, MarkUnavailable, RolledBack
from ca_service.vocabulary import LogId

_ATTEMPTS = 50
"""How often a mark that others keep moving is tried; each failure means that another process got on."""

_REMEMBERED = 256
"""Heads of a log that are known to be its own: the mark, moved by several processes, stands at one."""

RootAt = Callable[[LogId, int], bytes]


class RollbackGuard:
    """Refuses what must not be done with a database that is behind its mark, and lets the mark rise.

    Strict: the mark has risen, durably, before anything that follows from it is released. Relaxed: it rises
    with `catch_up`, which somebody calls every second; what happened since the last call would not be missed.
    """

    def __init__(
        self, mark: HighWaterMark, position: Position, observer: Observer | None, *, strict: bool
    ) -> None:
        """Join the collaborators; nothing is read yet."""
        self._mark = mark
        self._position = position
        self._observer = observer
        self.strict = strict
        self._wrong: list[Discrepancy] = []
        self._wrong_under: Mark | None = None
        self._verified: dict[LogId, dict[int, bytes]] = {}
        self._verifying = threading.Lock()
        self._verified_audit: tuple[int, str] | None = None
        self._creating = threading.Lock()

    # -- looking -----------------------------------------------------------------------------------

    def examine(self) -> list[Discrepancy]:
        """Compare everything; raises MarkUnavailable and StoreUnavailable."""
        return self._compare(self._read(), self._position.whole())

    def check(self) -> None:
        """Compare everything and raise RolledBack when the database is behind; MarkUnavailable."""
        if wrong := self.examine():
            raise rolled_back(wrong)

    def refuse_when_behind(self) -> Mark:
        """Raise RolledBack when the last look found the database behind; MarkUnavailable. Returns the mark.

        Reads nothing of the database, unless the mark has changed since: `recover` may have put it right.
        """
        mark = self._read()
        if self._wrong:
            if mark is self._wrong_under:
                raise rolled_back(self._wrong)
            self.check()
        return mark

    def admit_answers(self) -> int:
        """Return the revocation generation, read now, when the database is not behind; else as `check`."""
        mark = self.refuse_when_behind()
        found = self._position.quick()
        if (
            found.generation < mark.generation
            or found.audit_sequence < mark.audit_sequence
            or found.entries < sum(seen.tree_size for seen in mark.logs.values())
        ):
            self.check()
            # Only an answer of the database that is older than the one before leads here.
            raise RolledBack("the database gave an older answer than before; nothing is signed from it")
        return found.generation

    # -- the log -----------------------------------------------------------------------------------

    def admit_head(self, log_id: LogId, head: LogMark) -> None:
        """Let a log grow from this head, read under its lock; raises RolledBack, MarkUnavailable."""
        seen = self.refuse_when_behind().logs.get(log_id)
        if seen is None:
            return
        if seen.tree_size > head.tree_size and self._knows(log_id, seen):
            self._refuse(log_behind(log_id, seen, head))
        self._verify_log(log_id, seen, head)
        self._remember(log_id, head)

    def record_head(self, log_id: LogId, head: LogMark) -> None:
        """Let the mark rise to a head that is durable now, before anything of it is released.

        Raises RolledBack when another database got there first, MarkUnavailable.
        """
        if not self.strict:
            return
        began = perf_counter()
        self._remember(log_id, head)

        def risen(mark: Mark) -> Mark:
            seen = mark.logs.get(log_id)
            if seen is not None:
                self._verify_log(log_id, seen, head)
                if seen.tree_size >= head.tree_size:
                    return mark
            return mark.with_log(log_id, head)

        self._mark.change(risen)
        if self._observer is not None:
            self._observer.duration("high_water_mark", perf_counter() - began)

    def _verify_log(self, log_id: LogId, seen: LogMark, head: LogMark) -> None:
        """Raise RolledBack unless the log that has come to `head` went through `seen`, or goes on to it."""
        if seen.tree_size == head.tree_size:
            if seen.root_hash != head.root_hash:
                self._refuse(log_differs(log_id, seen, head.root_hash))
            return
        if self._knows(log_id, seen):
            return
        if seen.tree_size > head.tree_size:
            # Another process of this service may have gone on since; another service may have, too.
            newest = self._position.log(log_id)
            if newest is None or newest.tree_size < seen.tree_size:
                self._refuse(log_behind(log_id, seen, newest))
            elif newest.tree_size == seen.tree_size and newest.root_hash == seen.root_hash:
                self._remember(log_id, seen)
                return
        if (root := self._position.root_at(log_id, seen.tree_size)) != seen.root_hash:
            self._refuse(log_differs(log_id, seen, root))
        self._remember(log_id, seen)

    def _knows(self, log_id: LogId, seen: LogMark) -> bool:
        """Whether this database's log was seen to have this root at this size: then it went through it."""
        with self._verifying:
            return self._verified.get(log_id, {}).get(seen.tree_size) == seen.root_hash

    def _remember(self, log_id: LogId, head: LogMark) -> None:
        with self._verifying:
            verified = self._verified.setdefault(log_id, {})
            verified[head.tree_size] = head.root_hash
            if len(verified) > _REMEMBERED:
                del verified[next(iter(verified))]

    # -- revocations, audit, CRLs --------------------------------------------------------------------

    def record_administration(self) -> None:
        """Let the mark rise to the revocations and the audit trail as they are now.

        Raises RolledBack, MarkUnavailable; what was stored stays stored.
        """
        for _ in range(_ATTEMPTS):
            mark = self._read()
            found = self._position.whole()
            self._verify_audit(mark, found)
            risen = mark.with_administration(found.generation, found.audit_sequence, found.audit_hash)
            if self._mark.advance(mark, risen):
                return
        raise self._busy()

    def _verify_audit(self, mark: Mark, found: Mark) -> None:
        if found.generation < mark.generation or found.audit_sequence < mark.audit_sequence:
            self.check()
        seen = (mark.audit_sequence, mark.audit_hash)
        if mark.audit_sequence and seen != self._verified_audit:
            if self._position.audit_hash_at(mark.audit_sequence) != mark.audit_hash:
                self._refuse(audit_differs(*seen))
            self._verified_audit = seen

    def crl_number(self, name: CrlName) -> int | None:
        """The highest number of a CRL that was published; ask before the database. MarkUnavailable."""
        return self._read().crl_numbers.get(name)

    def admit_crl(self, name: CrlName, seen: int | None, has: int | None) -> None:
        """Raise RolledBack when the database has an older CRL than was seen, or none."""
        if seen is not None and (has is None or has < seen):
            self._refuse(crl_behind(name, seen, has))

    def record_crl(self, name: CrlName, number: int) -> None:
        """Let the mark rise to the number of a CRL before it is published. RolledBack, MarkUnavailable."""
        if not self.strict:
            return
        for _ in range(_ATTEMPTS):
            mark = self._read()
            if mark.crl_numbers.get(name, 0) >= number:
                return
            self.refuse_when_behind()
            if self._mark.advance(mark, mark.with_crl(name, number)):
                return
        raise self._busy()

    # -- as a whole --------------------------------------------------------------------------------

    def catch_up(self) -> None:
        """Compare everything, and let the mark rise to all of it; raises RolledBack, MarkUnavailable."""
        for _ in range(_ATTEMPTS):
            mark = self._read()
            found = self._position.whole()
            if wrong := self._compare(mark, found):
                raise rolled_back(wrong)
            risen = mark.risen_to(found)
            if risen == mark or self._mark.advance(mark, risen):
                return
        raise self._busy()

    def _compare(self, mark: Mark, found: Mark) -> list[Discrepancy]:
        wrong = discrepancies(mark, found, self._position.root_at, self._position.audit_hash_at)
        self._wrong_under, self._wrong = mark, wrong
        return wrong

    def _refuse(self, wrong: Discrepancy) -> None:
        self._wrong_under, self._wrong = self._read(), [wrong]
        raise rolled_back(self._wrong)

    def _read(self) -> Mark:
        try:
            return self._mark.read()
        except MarkMissing:
            if self.strict:
                raise
        with self._creating:
            try:
                self._mark.create(self._position.whole())
            except AlreadyExists:
                pass  # another process was first
            else:
                if self._observer is not None:
                    self._observer.count("high_water_mark_created")
        return self._mark.read()

    @staticmethod
    def _busy() -> MarkUnavailable:
        return MarkUnavailable(
            f"the high-water mark was moved by others {_ATTEMPTS} times while it was to be moved here",
            retry_after=1,
        )
