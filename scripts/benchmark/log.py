"""The log while it grows: what an append, a proof and a certificate cost at each size, on both engines."""

import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ca_service.app.rollback import guard_of
from ca_service.cli.founding import Plan as Founding
from ca_service.cli.founding import found
from ca_service.store.append import LogAppender
from ca_service.store.entry_kinds import CertificateEntries
from ca_service.store.logs import SqlLogReader
from scripts.benchmark.asking import signing_requests
from scripts.benchmark.log_entries import (
    BARE_OCTETS,
    BareEntries,
    BareEntry,
    BareLog,
    CertificateTemplate,
    bare_entry,
)
from scripts.benchmark.log_load import LOADS, reference_place
from scripts.benchmark.log_reference import Reference
from scripts.benchmark.plan import Plan, Result, Row
from scripts.benchmark.server import load, warmed
from tests.support.entries import Foundation, machine_clock
from tests.support.issuer import LocalIssuer
from tests.support.postgres import LocalPostgres
from tests.support.processes import CA_SERVICE, RunningService, environment, free_port, running

SIZES = (1_000, 100_000, 1_000_000)
ENGINES = ("sqlite", "postgresql")
_PROTOTYPE = {"sqlite": 9265.0, "postgresql": 5011.0}
"""Entries a second of the prototype on an idle machine, 2 processes of 16 threads."""
_THREADS = 16
_PROOFS = 400
_TURNS = 2
_FILLED_AT_ONCE = 4096

_Entry = TypeVar("_Entry")


@dataclass
class _Directory:
    """A directory with a certificate log and a bare one, and the service that can be started on it."""

    folder: Path
    service: RunningService
    issuer: LocalIssuer


def log(plan: Plan, engines: Sequence[str] = ENGINES, sizes: Sequence[int] = SIZES) -> Iterator[Result]:
    """Fill the logs to each size in turn and measure there; one result for each engine."""
    for engine in engines:
        rows: list[Row] = []
        first: dict[str, float] = {}
        with _directory(plan, engine) as directory:
            for size in sizes:
                rows.extend(_filled(directory, size))
                for row in (
                    *_proofs(directory.folder),
                    *_appends(plan, engine, directory.folder),
                    *_issuance(plan, directory),
                ):
                    ratio = row.ratio
                    if ratio is None:
                        ratio = row.value / first.setdefault(row.name, row.value)
                    rows.append(Row(f"{size:,}: {row.name}", row.value, row.unit, ratio))
        load_ = ", ".join(f"{one:.1f}" for one in os.getloadavg())
        yield Result(f"log on {engine}, {plan.workers} × {_THREADS}; load of the machine {load_}", rows)


def _filled(directory: _Directory, size: int) -> Iterator[Row]:
    """Bring both logs to a size; entries are as in production, only their signatures do not verify."""
    foundation, bare = Foundation(directory.folder), BareLog(directory.folder)
    template = CertificateTemplate(foundation)
    filling = os.urandom(BARE_OCTETS - 36)
    certificates = LogAppender(
        foundation.database, foundation.log, foundation.sign, machine_clock, CertificateEntries()
    )
    bares = LogAppender[BareEntry](
        foundation.database, bare.identity, bare.sign, machine_clock, BareEntries()
    )
    for name, shard, append in (
        ("certificate log", foundation.log.shard, _filler(certificates, template.entry)),
        ("log alone", bare.identity.shard, _filler(bares, lambda: bare_entry(filling))),
    ):
        missing = size - SqlLogReader(foundation.database, shard).head().tree_size
        began = time.perf_counter()
        for start in range(0, missing, _FILLED_AT_ONCE):
            append(min(_FILLED_AT_ONCE, missing - start))
        if missing > 0:
            yield Row(f"{size:,}: filling {name}", missing / (time.perf_counter() - began), "per second")
    guard_of(foundation.settings, foundation.database).catch_up()
    foundation.database.close()


def _filler(appender: LogAppender[_Entry], make: Callable[[], _Entry]) -> Callable[[int], None]:
    def fill(count: int) -> None:
        for outcome in appender.append([make() for _ in range(count)]):
            if isinstance(outcome, Exception):
                raise outcome

    return fill


def _proofs(folder: Path) -> Iterator[Row]:
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
        yield Row(name, (time.process_time() - before) / _PROOFS * 1e6, "µs CPU")
    foundation.database.close()


def _appends(plan: Plan, engine: str, folder: Path) -> Iterator[Row]:
    """Each load in turn, several times, so that a machine that is busy for a while is so for all of them."""
    said: dict[str, list[dict[str, float]]] = {what: [] for what in LOADS}
    for _ in range(_TURNS):
        for what, turns in said.items():
            turns.append(_loaded(plan, folder, what, plan.seconds / _TURNS))
    rates = {what: statistics.mean(turn["rate"] for turn in turns) for what, turns in said.items()}
    as_specified = rates["reference"] / _PROTOTYPE[engine]
    yield Row("reference against the idle prototype", rates["reference"], "per second", as_specified)
    for what, turns in said.items():
        name = LOADS[what]
        yield Row(name, rates[what], "per second", rates[what] / rates["reference"])
        entries = sum(turn["entries"] for turn in turns)
        yield Row(f"{name}, CPU", sum(turn["cpu_seconds"] for turn in turns) / entries * 1e6, "µs CPU")
        yield Row(f"{name}, p50", statistics.mean(turn["p50_ms"] for turn in turns), "ms")
        yield Row(f"{name}, p99", max(turn["p99_ms"] for turn in turns), "ms")


def _loaded(plan: Plan, folder: Path, what: str, seconds: float) -> dict[str, float]:
    command = [
        *(sys.executable, "-m", "scripts.benchmark.log_load"),
        *(str(folder), what, str(_THREADS), str(seconds)),
    ]
    processes = [
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**environment(), **_named()},
        )
        for _ in range(plan.workers)
    ]
    for process in processes:
        assert process.stdout is not None  # noqa: S101 - a pipe, as asked above
        process.stdout.readline()  # "ready"
    for process in processes:
        assert process.stdin is not None  # noqa: S101 - as above
        process.stdin.write(b"begin\n")
        process.stdin.flush()
    said = [json.loads(process.communicate()[0]) for process in processes]
    return {name: (max if name.endswith("_ms") else sum)(one[name] for one in said) for name in said[0]}


def _issuance(plan: Plan, directory: _Directory) -> Iterator[Row]:
    """The whole service on this directory: CPU of its processes for one certificate, the database's apart."""
    with running(directory.service) as service:
        requests = warmed(plan, service, lambda: signing_requests(service, directory.issuer))
        measured = load(plan, service, requests, plan.seconds)
    yield Row("issuance", measured["rate"], "per second")
    yield Row("issuance, CPU", measured["server_cpu_seconds"] / measured["good"] * 1e6, "µs CPU")


def _named() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(("CASVC_", "BENCH_"))}


@contextmanager
def _directory(plan: Plan, engine: str) -> Iterator[_Directory]:
    """A founded directory whose database is of this engine; the environment names it."""
    folder = plan.folder / engine
    with LocalIssuer() as issuer:
        if engine == "sqlite":
            yield _founded(plan, folder, issuer, {})
            return
        with LocalPostgres(durable=True) as server:
            named = {
                "CASVC_DATABASE__URL": server.new_database(),
                "BENCH_REFERENCE": server.conninfo(server.new_database().rpartition("/")[2]),
            }
            os.environ.update(named)
            try:
                yield _founded(plan, folder, issuer, {"CASVC_DATABASE__URL": named["CASVC_DATABASE__URL"]})
            finally:
                for name in named:
                    del os.environ[name]


def _founded(plan: Plan, folder: Path, issuer: LocalIssuer, environ: dict[str, str]) -> _Directory:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    found(folder, Founding(url, url))
    (folder / "issuers.yaml").write_text(issuer.issuer_file())
    foundation = Foundation(folder)
    BareLog(folder).create(foundation.database)
    foundation.database.close()
    Reference.make(reference_place(folder))
    service = RunningService(
        directory=folder,
        url=url,
        command=[
            *(str(CA_SERVICE), "serve", "--config", str(folder / "ca.toml")),
            *("--bind", f"127.0.0.1:{port}", "--workers", str(plan.workers)),
        ],
        environ={"CASVC_OIDC__PRIVATE_NETWORKS": '["127.0.0.0/8"]', **environ},
    )
    return _Directory(folder, service, issuer)
