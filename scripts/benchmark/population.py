"""A directory whose log has many entries, made quickly: for measurements and for fsck.

    python -m scripts.benchmark.population FOLDER ENTRIES

FOLDER is made if it is not there; CASVC_DATABASE__URL puts its database into an empty PostgreSQL one. Every
entry is as the service makes it: real precertificates, signed by the directory's own authority, written by
the code that writes them in production, but two thousand in a batch and several processes building.
"""

import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter

from ca_service.authority.log_ports import PendingCertificate
from ca_service.cli.founding import Plan, found
from tests.support.entries import Foundation

_URL = "http://127.0.0.1:5555"
_BATCH = 2000
_BUILDERS = 2

_foundation: Foundation | None = None


def _begin(folder: Path) -> None:
    global _foundation
    _foundation = Foundation(folder)


def _build(count: int) -> list[PendingCertificate]:
    assert _foundation is not None  # noqa: S101 - the pool's initializer made it
    return [_foundation.entry() for _ in range(count)]


def populate(folder: Path, entries: int) -> int:
    """Make FOLDER if absent and append so many entries to its log; returns the log's size."""
    if not (folder / "ca.toml").exists():
        found(folder, Plan(_URL, _URL))
    own = Foundation(folder)
    own.entry()  # opens the CRL shards' table rows once, before builders compete to do it
    appender = own.appender()
    for batch in _batches(folder, entries):
        for outcome in appender.append(batch):
            if isinstance(outcome, Exception):
                raise outcome
    with own.database.reading() as connection:
        size = connection.exec_driver_sql("SELECT max(tree_size) FROM tree_heads").scalar_one()
    own.database.close()
    return int(size)


def _batches(folder: Path, entries: int) -> Iterator[list[PendingCertificate]]:
    counts = [min(_BATCH, entries - start) for start in range(0, entries, _BATCH)]
    if entries <= _BATCH:
        builder = Foundation(folder)
        yield [builder.entry() for _ in range(entries)]
        builder.database.close()
        return
    context = get_context("spawn")
    with ProcessPoolExecutor(_BUILDERS, context, initializer=_begin, initargs=(folder,)) as pool:
        waiting: deque[Future[list[PendingCertificate]]] = deque()
        for count in counts:
            waiting.append(pool.submit(_build, count))
            if len(waiting) > 2 * _BUILDERS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


if __name__ == "__main__":
    began = perf_counter()
    size_ = populate(Path(sys.argv[1]), int(sys.argv[2]))
    print(f"{size_} entries after {perf_counter() - began:.1f} s")
