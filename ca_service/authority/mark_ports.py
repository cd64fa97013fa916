"""The memory outside the database, and what a database says of itself beside it.

As ports.py says, the comment under a method is its contract.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ca_service.authority.mark import LogMark, Mark
from ca_service.vocabulary import (
    LogId,
)


class HighWaterMark(Protocol):
    """The highest state ever seen of a service, in a place that no backup of its database covers."""

    def read(self) -> Mark:
        """What was stored last, by whichever process. Cheap while it does not change.

        Raises MarkMissing when there is none, MarkUnavailable when it cannot be read or was damaged.
        """
        ...

    def create(self, mark: Mark) -> None:
        """Store the first mark durably; AlreadyExists when there is one, MarkUnavailable."""
        ...

    def advance(self, seen: Mark, following: Mark) -> bool:
        """Put `following` in the place of `seen`, durably; False when another than `seen` stands there.

        Under a lock that holds between processes. Never goes backwards: ValueError when `following` does
        not cover `seen`. Raises MarkMissing, MarkUnavailable.
        """
        ...

    def change(self, made: Callable[[Mark], Mark]) -> None:
        """Put what `made` makes of the mark in its place, durably, under the lock of `advance`.

        It is kept when it comes back unchanged. For changes that many make: nobody has to try again.
        Raises as `advance` does, and what `made` raises.
        """
        ...

    def reset(self, mark: Mark) -> None:
        """Put another mark there, lower or not: the last step of a recovery. Raises MarkUnavailable."""
        ...


@dataclass(frozen=True, slots=True)
class QuickPosition:
    """How many entries all logs have together, and how far revocations and audit trail are."""

    entries: int
    generation: int
    audit_sequence: int


class Position(Protocol):
    """How far a database says it has come; every call reads afresh and raises StoreUnavailable."""

    def quick(self) -> QuickPosition:
        """The numbers alone, in one cheap look."""
        ...

    def whole(self) -> Mark:
        """Everything that a mark holds."""
        ...

    def log(self, log_id: LogId) -> LogMark | None:
        """How far one log has come; None when there is no such log."""
        ...

    def root_at(self, log_id: LogId, tree_size: int) -> bytes:
        """The root hash that a log of this database had at a size it has reached."""
        ...

    def audit_hash_at(self, sequence: int) -> str:
        """The hash of an audit record, "" when there is none of this number."""
        ...
