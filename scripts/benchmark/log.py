"""The log alone: what an append and a proof cost while it grows, on both engines."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ca_service.store.inspection import SqlInspection
from ca_service.store.logs import SqlLogReader
from scripts.benchmark.plan import Plan, Result, Row
from scripts.benchmark.population import populate
from tests.support.entries import Foundation
from tests.support.postgres import LocalPostgres
from tests.support.processes import environment

SIZES = (1_000, 100_000, 1_000_000)
ENGINES = ("sqlite", "postgresql")
_PROTOTYPE = {"sqlite": 9265.0, "postgresql": 5011.0}
"""Entries a second of the prototype, 2 processes of 16 threads, that this log is compared with."""
_THREADS = 16
_PROOFS = 400


def log(plan: Plan, engines: Sequence[str] = ENGINES, sizes: Sequence[int] = SIZES) -> Iterator[Result]:
    """Fill a log to each size in turn and measure there; one result for each engine."""
    for engine in engines:
        rows: list[Row] = []
        with _directory(plan.folder, engine) as folder:
            for size in sizes:
                missing = size - _size(folder)
                began = time.perf_counter()
                if missing > 0:
                    populate(folder, missing)
                    rows.append(
                        Row(f"{size:,}: filling", missing / (time.perf_counter() - began), "per second")
                    )
                rows.extend(_measured(plan, engine, folder, size))
        load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
        yield Result(f"log on {engine}, {plan.workers} × {_THREADS}; load of the machine {load}", rows)


def _measured(plan: Plan, engine: str, folder: Path, size: int) -> Iterator[Row]:
    label = f"{size:,}: "
    yield from _proofs(label, folder)
    command = [
        sys.executable,
        "-m",
        "scripts.benchmark.log_load",
        str(folder),
        str(_THREADS),
        str(plan.seconds),
    ]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, env={**environment(), **_named()})
        for _ in range(plan.workers)
    ]
    said = [json.loads(process.communicate()[0]) for process in processes]
    rate, entries = sum(one["rate"] for one in said), sum(one["entries"] for one in said)
    yield Row(f"{label}appends", rate, "per second", rate / _PROTOTYPE[engine])
    yield Row(f"{label}append, CPU", sum(one["cpu_seconds"] for one in said) / entries * 1e6, "µs CPU")
    yield Row(f"{label}append, p50", max(one["p50_ms"] for one in said), "ms")
    yield Row(f"{label}append, p99", max(one["p99_ms"] for one in said), "ms")


def _proofs(label: str, folder: Path) -> Iterator[Row]:
    foundation = Foundation(folder)
    reader = SqlLogReader(foundation.database, foundation.log.shard)
    size = reader.head().tree_size
    chance = random.Random(20261123)  # noqa: S311 - places in a log, not secrets
    asked: dict[str, Callable[[], object]] = {
        "inclusion proof": lambda: reader.inclusion_proof(chance.randrange(size), size),
        "consistency proof": lambda: reader.consistency_proof(chance.randrange(1, size), size),
    }
    for name, ask in asked.items():
        ask()
        before = time.process_time()
        for _ in range(_PROOFS):
            ask()
        yield Row(f"{label}{name}", (time.process_time() - before) / _PROOFS * 1e6, "µs CPU")
    foundation.database.close()


def _size(folder: Path) -> int:
    if not (folder / "ca.toml").exists():
        return 0
    foundation = Foundation(folder)
    logs, _ = SqlInspection(foundation.database).logs()
    foundation.database.close()
    return sum(one.head.tree_size for one in logs)


def _named() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("CASVC_")}


@contextmanager
def _directory(folder: Path, engine: str) -> Iterator[Path]:
    """Where a directory is to be made, with the database that its settings are to name in the environment."""
    if engine == "sqlite":
        yield folder / "sqlite"
        return
    with LocalPostgres(durable=True) as server:
        os.environ["CASVC_DATABASE__URL"] = server.new_database()
        try:
            yield folder / "postgresql"
        finally:
            del os.environ["CASVC_DATABASE__URL"]
