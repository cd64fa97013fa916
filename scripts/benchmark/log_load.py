"""A process that appends as a worker does: python -m scripts.benchmark.log_load FOLDER THREADS SECONDS.

Each thread appends one entry after the other through the process's sequencer and signs its SCT, as issuance
does; certificates are not built. Prints a JSON object.
"""

import json
import secrets
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

from ca_service.pki.sct import digitally_sign
from ca_service.vocabulary import Serial
from tests.support.entries import Foundation

_TBS_OCTETS = 1200


def run(folder: Path, threads: int, seconds: float) -> dict[str, float]:
    """Append for so long; rate, latencies in milliseconds of each append, CPU seconds of this process."""
    foundation = Foundation(folder)
    template = foundation.entry()
    filling = secrets.token_bytes(_TBS_OCTETS)
    sequencer = foundation.sequencer()
    latencies: list[list[float]] = [[] for _ in range(threads)]
    ready = threading.Barrier(threads + 1)

    def append(mine: list[float]) -> None:
        ready.wait()
        while (began := time.perf_counter()) < end:
            number = secrets.randbits(158) + 1
            tbs = number.to_bytes(20, "big") + filling
            entry = replace(template, serial=Serial(number), tbs=tbs, precertificate=tbs)
            digitally_sign(foundation.log_key, sequencer.append(entry).leaf)
            mine.append(time.perf_counter() - began)

    sequencer.append(
        replace(template, tbs=secrets.token_bytes(64))
    )  # connections are opened before it counts
    workers = [threading.Thread(target=append, args=(mine,)) for mine in latencies]
    for worker in workers:
        worker.start()
    started, before = time.perf_counter(), time.process_time()
    end = started + seconds
    ready.wait()
    for worker in workers:
        worker.join()
    elapsed = time.perf_counter() - started
    sequencer.close()
    taken = sorted(one for mine in latencies for one in mine)
    count = len(taken)
    return {
        "entries": count,
        "rate": count / elapsed,
        "p50_ms": 1000 * taken[count // 2],
        "p99_ms": 1000 * taken[count * 99 // 100],
        "cpu_seconds": time.process_time() - before,
    }


if __name__ == "__main__":
    json.dump(run(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])), sys.stdout)
