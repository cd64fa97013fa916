"""Reading a log a portion at a time, in this process or in several."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from ca_service.authority.entry_inspection import EntryInspection
from ca_service.authority.finding import Finding
from ca_service.authority.tree_inspection import inspect_tile
from ca_service.merkle.tiles import TILE_WIDTH
from ca_service.merkle.tree import HASH_SIZE, complete_root
from ca_service.store.database import Database
from ca_service.store.inspection import InspectedLog, SqlInspection
from ca_service.store.integrity import SqlIntegrity

PORTION = 8 * TILE_WIDTH
"""Entries that are read at once: some megabytes."""

_WORTH_PROCESSES = 8 * PORTION


@dataclass(frozen=True)
class Subject:
    """What is inspected: a database, and the certificates that the settings name (DER, the root last)."""

    url: str
    folder: Path
    chain: tuple[bytes, ...]


@dataclass(frozen=True)
class Portion:
    """What one portion of a log gave: roots of full tiles, and the leaf hashes after the last full one."""

    roots: list[bytes]
    tail: list[bytes]
    newest: int
    holes: bool
    findings: list[Finding]


class Reader:
    """Inspects portions; one in each process."""

    def __init__(self, subject: Subject) -> None:
        """Open the database, and read what every entry is compared with; raises StoreUnavailable."""
        self.database = Database(subject.url, folder=subject.folder)
        self.reads = SqlInspection(self.database)
        self.certificates = self.reads.certificates()
        self.shard_urls = self.reads.shard_urls()
        self.roots = frozenset(subject.chain[-1:])
        self._rules: dict[str, EntryInspection] = {}

    def portion(self, log: InspectedLog, start: int, end: int) -> Portion:
        """Inspect entries start..end (excluded); `start` is where a tile begins. Raises StoreUnavailable."""
        shard = log.head.shard
        rules = self._rules.get(shard)
        if rules is None:
            rules = EntryInspection(
                shard, log.kind, self.certificates, self.roots, self.shard_urls, log.period
            )
            self._rules[shard] = rules
        leaves, issued, tiles = self.reads.portion(log.number, start, end)
        hashes, newest, findings = rules.inspect(start, end, leaves, issued)
        filled: list[bytes] = []
        for place, known in enumerate(hashes):
            row = tiles.get((start + place) // TILE_WIDTH)
            at = (start + place) % TILE_WIDTH * HASH_SIZE
            # A tile still knows the hash of a leaf that is gone: what is around it can then be judged.
            kept = row[1][at : at + HASH_SIZE] if row and isinstance(row[1], bytes) else b""
            filled.append(known or kept.ljust(HASH_SIZE, b"\0"))
        full = len(filled) // TILE_WIDTH * TILE_WIDTH
        roots = []
        for first in range(0, full, TILE_WIDTH):
            its = filled[first : first + TILE_WIDTH]
            index, root = (start + first) // TILE_WIDTH, complete_root(its)
            findings.extend(inspect_tile(shard, 0, index, its, root, tiles.get(index)))
            roots.append(root)
        return Portion(roots, filled[full:], newest, None in hashes, findings)


_reader: Reader | None = None


def _begin(subject: Subject) -> None:
    global _reader
    _reader = Reader(subject)


def _own() -> Reader:
    assert _reader is not None  # noqa: S101 - the pool's initializer made it
    return _reader


def _portion(log: InspectedLog, start: int, end: int) -> Portion:
    return _own().portion(log, start, end)


def _file() -> list[Finding]:
    return SqlIntegrity(_own().database).inspect_file()


class Workers:
    """Those who read: other processes, or this one's reader alone when there is little to read."""

    def __init__(self, local: Reader, pool: ProcessPoolExecutor | None, processes: int) -> None:
        """Use `working`."""
        self._local = local
        self._pool = pool
        self._processes = processes

    def portions(self, log: InspectedLog, first: int) -> Iterator[Portion]:
        """Inspect a log from its entry `first` to its end, in order; raises StoreUnavailable."""
        size = log.head.tree_size
        ranges = ((start, min(start + PORTION, size)) for start in range(first, size, PORTION))
        if self._pool is None:
            for start, end in ranges:
                yield self._local.portion(log, start, end)
            return
        waiting: deque[Future[Portion]] = deque()
        for start, end in ranges:
            waiting.append(self._pool.submit(_portion, log, start, end))
            if len(waiting) > 3 * self._processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def file(self) -> Future[list[Finding]]:
        """Begin to inspect the database's file; with one process it is done on return."""
        if self._pool is not None:
            return self._pool.submit(_file)
        done: Future[list[Finding]] = Future()
        done.set_result(SqlIntegrity(self._local.database).inspect_file())
        return done


@contextmanager
def working(subject: Subject, local: Reader, entries: int, processes: int) -> Iterator[Workers]:
    """Have so many entries read by so many processes; for few entries none is started."""
    if processes < 2 or entries < _WORTH_PROCESSES:
        yield Workers(local, None, 1)
        return
    pool = ProcessPoolExecutor(processes, get_context("spawn"), initializer=_begin, initargs=(subject,))
    try:
        yield Workers(local, pool, processes)
    finally:
        pool.shutdown(cancel_futures=True)
