"""A process that appends as a worker does: python -m scripts.benchmark.log_load FOLDER WHAT THREADS SECONDS.

WHAT is of LOADS. Each thread appends one entry after the other through the process's sequencer and signs its
SCT, as issuance does; certificates are not built. Says "ready", begins at a line of input, prints a JSON
object.
"""

import json
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ca_service.app.rollback import guard_of
from ca_service.authority.rollback import RollbackGuard
from ca_service.pki.sct import digitally_sign
from ca_service.store.entry_kinds import CertificateEntries
from ca_service.store.sequencer import BatchingSequencer, EntrySequencer
from scripts.benchmark.log_entries import (
    BARE_OCTETS,
    BareEntries,
    BareEntry,
    BareLog,
    CertificateTemplate,
    bare_entry,
)
from scripts.benchmark.log_reference import Reference
from tests.support.entries import Foundation, machine_clock
from tests.support.store import RecordingObserver

LOADS = {
    "reference": "the prototype's two tables",
    "log": "the log alone",
    "log+mark": "the log alone, strict mark",
    "certificates": "certificate log",
    "certificates+mark": "certificate log, strict mark",
}
"""What is appended to: by the name to ask for, what it is."""

_Append = Callable[[], bytes]


def reference_place(folder: Path) -> str:
    """Where the reference's tables are."""
    return os.environ.get("BENCH_REFERENCE", "") or str(folder / "state/reference.db")


def prepared(folder: Path, what: str) -> tuple[_Append, Callable[[], None]]:
    """What appends an entry and gives its leaf, and what ends it."""
    filling = secrets.token_bytes(BARE_OCTETS - 36)
    bare = BareLog(folder)
    if what == "reference":
        reference = Reference(reference_place(folder), bare.sign)
        return (lambda: reference.append(bare_entry(filling))), reference.close
    foundation = Foundation(folder, lock_timeout=30.0)
    guard: RollbackGuard | None = None
    if what.endswith("+mark"):
        guard = guard_of(foundation.settings, foundation.database)
    if what.startswith("log"):
        log = EntrySequencer[BareEntry](
            foundation.database,
            bare.identity,
            bare.sign,
            machine_clock,
            RecordingObserver(),
            entries=BareEntries(),
            timeout=60.0,
            guard=guard,
        )
        return (lambda: log.append(bare_entry(filling)).leaf), log.close
    template = CertificateTemplate(foundation)
    certificates = BatchingSequencer(
        foundation.database,
        foundation.log,
        foundation.sign,
        machine_clock,
        RecordingObserver(),
        entries=CertificateEntries(),
        timeout=60.0,
        guard=guard,
    )
    return (lambda: certificates.append(template.entry()).leaf), certificates.close


def run(folder: Path, what: str, threads: int, seconds: float) -> dict[str, float]:
    """Append for so long; rate, latencies in milliseconds of each append, CPU seconds of this process."""
    append, close = prepared(folder, what)
    key = BareLog(folder).key
    latencies: list[list[float]] = [[] for _ in range(threads)]
    ready = threading.Barrier(threads + 1)

    def produce(mine: list[float]) -> None:
        ready.wait()
        while (began := time.perf_counter()) < end:
            digitally_sign(key, append())
            mine.append(time.perf_counter() - began)

    append()  # connections are opened before it counts
    print("ready", flush=True)
    sys.stdin.readline()  # all processes begin together
    workers = [threading.Thread(target=produce, args=(mine,)) for mine in latencies]
    for worker in workers:
        worker.start()
    started, before = time.perf_counter(), time.process_time()
    end = started + seconds
    ready.wait()
    for worker in workers:
        worker.join()
    elapsed = time.perf_counter() - started
    spent = time.process_time() - before
    close()
    taken = sorted(one for mine in latencies for one in mine)
    count = len(taken)
    return {
        "entries": count,
        "rate": count / elapsed,
        "p50_ms": 1000 * taken[count // 2],
        "p99_ms": 1000 * taken[count * 99 // 100],
        "cpu_seconds": spent,
    }


if __name__ == "__main__":
    json.dump(run(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])), sys.stdout)
