"""Inspecting what stands beside the logs: the periods of shards, the high-water mark, blocks, keys."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from ca_service.authority.finding import Finding
from ca_service.authority.log_shards import LogShard
from ca_service.authority.mark import Mark, discrepancies
from ca_service.vocabulary import LogId, format_seconds


class BlockRow(NamedTuple):
    """Whom a stored block concerns, and until when; seconds since 1970."""

    number: int
    targets: tuple[str | None, ...]
    created: int
    expires: int | None


def inspect_periods(shards: Sequence[LogShard]) -> Iterator[Finding]:
    """Check that the periods follow one another: at each moment one shard takes what is issued.

    `shards` come by the start of their periods. One that was retired ended when it had to: around it there
    may be a gap.
    """
    for shard in shards:
        ends = shard.period.ends
        if ends is not None and ends <= shard.period.starts and not shard.retired_for:
            yield Finding(
                "shard-period",
                f"log shard {shard.name}, ends",
                f"later than its start, {format_seconds(shard.period.starts)}",
                format_seconds(ends),
            )
    kept = [shard for shard in shards if not shard.retired_for]
    for one, following in pairwise(kept):
        expected = f"{format_seconds(following.period.starts)}, when {following.name} starts"
        ends = one.period.ends
        if ends is None or ends > following.period.starts:
            found = (
                f"{'none' if ends is None else format_seconds(ends)}: two shards take the same certificates"
            )
            yield Finding("shard-period", f"log shard {one.name}, ends", expected, found)
        elif ends < following.period.starts and not _between(shards, one, following):
            found = f"{format_seconds(ends)}: in between no shard takes what is issued"
            yield Finding("shard-period", f"log shard {one.name}, ends", expected, found)
    if shards and (not kept or kept[-1].frozen or kept[-1].period.ends is not None):
        yield Finding(
            "shard-period",
            f"log shard {shards[-1].name}",
            "a shard whose period has no end",
            "none: some day nothing can be issued",
        )


def _between(shards: Sequence[LogShard], one: LogShard, following: LogShard) -> bool:
    """Whether a retired shard stood between the two."""
    return shards.index(following) - shards.index(one) > 1


def inspect_mark(
    mark: Mark, found: Mark, root_at: Callable[[LogId, int], bytes], audit_hash_at: Callable[[int], str]
) -> Iterator[Finding]:
    """Compare what a database says of itself with the highest that was seen of it, as the service does."""
    for one in discrepancies(mark, found, root_at, audit_hash_at):
        name = next((one.facts[key] for key in ("log", "crl") if key in one.facts), "")
        size = f" at {one.facts['tree_size']} entries" if "tree_size" in one.facts else ""
        yield Finding(
            "high-water-mark",
            f"{one.what}{f' {name}' if name else ''}{size} against the high-water mark",
            f"at least what was seen: {one.facts['expected']}",
            f"{one.facts.get('received', 'another')}: {one.sentence}",
        )


def inspect_block(row: BlockRow) -> Iterator[Finding]:
    """Check that a block concerns somebody: one that restricts nothing would be everybody's."""
    where = f"block {row.number}"
    if all(target is None or not target.strip() for target in row.targets):
        yield Finding("block", where, "an identity, issuer, subject or key that it concerns", "none")
    if row.expires is not None and row.expires < row.created:
        yield Finding(
            "block", f"{where}, expires", f"at least {row.created}, when it was made", str(row.expires)
        )


def inspect_log_key(shard: LogShard, log_id: LogId | None, trouble: str) -> Iterator[Finding]:
    """Compare a shard with the public part of its key file: `log_id` of that, or None and the `trouble`."""
    where = f"key file of log shard {shard.name}"
    expected = f"the key of log {shard.identity.log_id.hex()}, which the database has"
    if log_id is None:
        yield Finding("log-key-file", where, expected, trouble)
    elif log_id != shard.identity.log_id:
        yield Finding("log-key-file", where, expected, f"that of {log_id.hex()}")
