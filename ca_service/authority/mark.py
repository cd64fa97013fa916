"""The high-water mark: the newest that was ever seen of a service, and how a database stands to it.

A database cannot know that it was restored from a backup, since all it knows was restored with it. So a few
numbers are kept in a second place, and only ever rise. Here are the records and the comparison; no files.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from ca_service.errors import RolledBack
from ca_service.vocabulary import KeyId, LogId, TimestampMs, format_seconds

CrlName = tuple[KeyId, str]
"""A CRL shard: issuing key and shard name."""

NO_AUDIT = "0" * 64
"""The audit hash before the first record."""

_SHOWN = 8


@dataclass(frozen=True, slots=True)
class LogMark:
    """How far a log had come: its size, the root hash at that size, and the head's time (ms)."""

    tree_size: int
    root_hash: bytes
    timestamp: TimestampMs


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a service had come: its logs, revocation changes, CRL numbers and the end of its audit trail.

    What a database says of itself has the same form, so that the two can be compared.
    """

    logs: Mapping[LogId, LogMark] = field(default_factory=dict)
    generation: int = 0
    audit_sequence: int = 0
    audit_hash: str = NO_AUDIT
    crl_numbers: Mapping[CrlName, int] = field(default_factory=dict)

    def with_log(self, log_id: LogId, seen: LogMark) -> "Mark":
        """The same mark, with a log at a new place."""
        return replace(self, logs={**self.logs, log_id: seen})

    def with_crl(self, name: CrlName, number: int) -> "Mark":
        """The same mark, with a CRL's newest number."""
        return replace(self, crl_numbers={**self.crl_numbers, name: number})

    def with_administration(self, generation: int, audit_sequence: int, audit_hash: str) -> "Mark":
        """The same mark, after a revocation or another recorded act."""
        return replace(self, generation=generation, audit_sequence=audit_sequence, audit_hash=audit_hash)

    def risen_to(self, other: "Mark") -> "Mark":
        """The higher of the two in everything."""
        logs = dict(self.logs)
        for log_id, seen in other.logs.items():
            if log_id not in logs or logs[log_id].tree_size < seen.tree_size:
                logs[log_id] = seen
        numbers = dict(self.crl_numbers)
        for name, number in other.crl_numbers.items():
            numbers[name] = max(number, numbers.get(name, 0))
        newer = other if other.audit_sequence > self.audit_sequence else self
        return Mark(
            logs, max(self.generation, other.generation), newer.audit_sequence, newer.audit_hash, numbers
        )

    def is_covered_by(self, other: "Mark") -> bool:
        """Whether nothing of this mark is lost when the other takes its place."""
        return (
            self.generation <= other.generation
            and self.audit_sequence <= other.audit_sequence
            and all(
                log_id in other.logs and seen.tree_size <= other.logs[log_id].tree_size
                for log_id, seen in self.logs.items()
            )
            and (
                self.crl_numbers is other.crl_numbers
                or all(number <= other.crl_numbers.get(name, -1) for name, number in self.crl_numbers.items())
            )
        )


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """One thing that a database should have and has not: a sentence, and the same as short facts."""

    what: str
    sentence: str
    facts: Mapping[str, str]


def discrepancies(
    mark: Mark,
    found: Mark,
    root_at: Callable[[LogId, int], bytes],
    audit_hash_at: Callable[[int], str],
) -> list[Discrepancy]:
    """Everything in which a database, that says `found` of itself, is behind the mark or beside it.

    `root_at` gives the root hash its log has at a size, `audit_hash_at` the hash of an audit record; each is
    asked only for what the database has.
    """
    wrong: list[Discrepancy] = []
    for log_id, seen in mark.logs.items():
        has = found.logs.get(log_id)
        if has is None:
            wrong.append(log_behind(log_id, seen, None))
        elif has.tree_size < seen.tree_size:
            wrong.append(log_behind(log_id, seen, has))
        elif (root := root_at(log_id, seen.tree_size)) != seen.root_hash:
            wrong.append(log_differs(log_id, seen, root))
    if found.generation < mark.generation:
        wrong.append(_number_behind("revocation generation", "generation", mark.generation, found.generation))
    if found.audit_sequence < mark.audit_sequence:
        wrong.append(_number_behind("audit trail", "audit", mark.audit_sequence, found.audit_sequence))
    elif mark.audit_sequence and audit_hash_at(mark.audit_sequence) != mark.audit_hash:
        wrong.append(audit_differs(mark.audit_sequence, mark.audit_hash))
    for name, number in mark.crl_numbers.items():
        if found.crl_numbers.get(name, 0) < number:
            wrong.append(crl_behind(name, number, found.crl_numbers.get(name)))
    return wrong


def log_behind(log_id: LogId, seen: LogMark, has: LogMark | None) -> Discrepancy:
    """A log with fewer entries than were seen."""
    short = log_id.hex()[:16]
    facts = {
        "log": log_id.hex(),
        "expected": f"{seen.tree_size} entries",
        "seen_root": seen.root_hash.hex(),
        "seen_at": _time(seen.timestamp),
    }
    was = f"{seen.tree_size} entries (root {seen.root_hash.hex()}) at {_time(seen.timestamp)}"
    if has is None:
        said = f"log {short} had {was}; the database has no such log"
        facts["received"] = "no such log"
    else:
        said = (
            f"log {short} had {was}; the database has {has.tree_size} (root {has.root_hash.hex()}) of "
            f"{_time(has.timestamp)}"
        )
        facts |= {
            "received": f"{has.tree_size} entries",
            "found_root": has.root_hash.hex(),
            "found_at": _time(has.timestamp),
        }
    return Discrepancy("log", said, facts)


def log_differs(log_id: LogId, seen: LogMark, root: bytes) -> Discrepancy:
    """A log that had other entries at the same size: it was continued from an older copy."""
    return Discrepancy(
        "log",
        f"log {log_id.hex()[:16]} had the root {seen.root_hash.hex()} at {seen.tree_size} entries "
        f"({_time(seen.timestamp)}); the database has {root.hex()} there, so the two hold different entries",
        {
            "log": log_id.hex(),
            "tree_size": str(seen.tree_size),
            "expected": seen.root_hash.hex(),
            "received": root.hex(),
            "seen_at": _time(seen.timestamp),
        },
    )


def audit_differs(sequence: int, expected: str) -> Discrepancy:
    """An audit trail with another record where one was seen."""
    return Discrepancy(
        "audit trail",
        f"audit record {sequence} had the hash {expected}; the database has another there",
        {"audit": str(sequence), "expected": expected},
    )


def crl_behind(name: CrlName, seen: int, has: int | None) -> Discrepancy:
    """A CRL that was published with a higher number."""
    found = "no such shard" if has is None else f"number {has}"
    return Discrepancy(
        "CRL",
        f"CRL {name[1]} of key {name[0][:8]} was published with number {seen}; the database has {found}",
        {"crl": f"{name[0]}/{name[1]}", "expected": str(seen), "received": found},
    )


def _number_behind(said: str, fact: str, seen: int, has: int) -> Discrepancy:
    return Discrepancy(
        said,
        f"the {said} had come to {seen}; the database has {has}",
        {fact: said, "expected": str(seen), "received": str(has)},
    )


def rolled_back(wrong: list[Discrepancy]) -> RolledBack:
    """The refusal that says exactly what was seen; its facts are those of the first discrepancy."""
    error = RolledBack(
        "the database is behind the high-water mark, so it is not the newest there was and nothing is "
        f"signed from it: {'; '.join(one.sentence for one in wrong[:_SHOWN])}"
        + (f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else "")
    )
    error.facts.update(wrong[0].facts)
    return error


def _time(milliseconds: int) -> str:
    return format_seconds(milliseconds // 1000)
