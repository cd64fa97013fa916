"""What grows with the number of issued certificates: start, memory, latencies; on both engines, as curves."""

import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from time import perf_counter

from scripts.benchmark.asking import FEW, issued_certificates, ocsp_path, ocsp_requests, signing_requests
from scripts.benchmark.plan import ENGINES, NAMES, Options, Result, Row, middle
from scripts.benchmark.populated import Populated, in_environment, populated
from scripts.benchmark.server import load, service_of
from scripts.benchmark.turns import progress
from tests.support.entries import Foundation
from tests.support.issuer import LocalIssuer
from tests.support.postgres import LocalPostgres
from tests.support.processes import RunningService

SIZES = (1_000, 10_000, 100_000)
_CLIENTS = 8
_REQUESTS = 1000
_QUESTIONS = 1000

FIGURES: Mapping[str, tuple[str, str]] = {
    "start": ("start, until /readyz", "s"),
    "pss_started": ("memory of a worker, after start (PSS)", "MB"),
    "pss_used": ("memory of a worker, after requests (PSS)", "MB"),
    "rss_started": ("memory of a worker, after start (RSS)", "MB"),
    "rss_used": ("memory of a worker, after requests (RSS)", "MB"),
    "issue_p50": ("a certificate, p50", "ms"),
    "issue_p99": ("a certificate, p99", "ms"),
    "issue_cpu": ("a certificate, CPU", "µs"),
    "signed_p50": ("OCSP, asked for the first time, p50", "ms"),
    "signed_p99": ("OCSP, asked for the first time, p99", "ms"),
    "cached_p50": ("OCSP, cached, p50", "ms"),
    "cached_p99": ("OCSP, cached, p99", "ms"),
}
"""What is measured at each size: what it is called, and its unit."""

Measured = Mapping[tuple[str, int], Mapping[str, list[float]]]
"""By engine and size, by figure: one value of each round."""


def growth(options: Options) -> Iterator[Result]:
    """Directories of every size side by side, measured in turns; a row for each figure, engine and size."""
    engines = options.engines or ENGINES
    sizes = sorted(options.sizes or SIZES)
    measured: dict[tuple[str, int], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    folder = options.folder / "growth"
    folder.mkdir()
    with ExitStack() as stack:
        issuer = stack.enter_context(LocalIssuer())
        postgres = stack.enter_context(LocalPostgres(durable=True)) if "postgresql" in engines else None
        filled = [each for engine in engines for each in populated(folder, engine, sizes, issuer, postgres)]
        for number in range(options.rounds):
            for each in filled:
                progress(f"round {number + 1} of {options.rounds}: {each.engine}, {each.size:,}")
                for figure, value in _once(options, each, issuer, postgres).items():
                    measured[each.engine, each.size][figure].append(value)
    clients = (options.clients or (_CLIENTS,))[0]
    workers = options.plan(folder).workers
    if options.png is not None:
        from scripts.benchmark.curves import draw  # which takes a second to load, and only this mode draws

        draw(options.png, measured, workers=workers, clients=clients)
        progress(f"curves in {options.png}")
    yield Result(f"Growth: {workers} workers, {clients} clients, {_REQUESTS:,} requests of each kind", [])
    for figure, (name, _) in FIGURES.items():
        yield Result(name, [row for engine in engines for row in _rows(measured, engine, figure)])


def _once(
    options: Options, at: Populated, issuer: LocalIssuer, postgres: LocalPostgres | None
) -> dict[str, float]:
    """Start, measure everything once, stop."""
    plan = options.plan(at.folder, clients=(options.clients or (_CLIENTS,))[0])
    service = service_of(at.folder, plan.workers, {**at.environ, **options.variants[0]})
    with in_environment(at.environ):
        foundation = Foundation(at.folder)
        certificates = issued_certificates(foundation, _QUESTIONS)
        foundation.database.close()
    paths = [ocsp_path(foundation.authority, each) for each in certificates]
    requests = signing_requests(service, issuer)
    most_seconds = 60.0
    began = perf_counter()
    try:
        service.start()
        started = perf_counter() - began
        first = _memory(service)
        load(plan, service, requests[:100], most_seconds, most=100)  # connections and keys of the provider
        issued = load(plan, service, requests, most_seconds, most=_REQUESTS, database=postgres)
        used = _memory(service)
        signed = load(plan, service, ocsp_requests(service, paths), most_seconds, most=len(paths))
        few = ocsp_requests(service, paths[:FEW])
        load(plan, service, few, most_seconds, most=4 * FEW)
        cached = load(plan, service, few, most_seconds, most=_REQUESTS)
    finally:
        service.stop()
    return {
        "start": started,
        "pss_started": first["pss"],
        "rss_started": first["rss"],
        "pss_used": used["pss"],
        "rss_used": used["rss"],
        "issue_p50": issued["p50_ms"],
        "issue_p99": issued["p99_ms"],
        "issue_cpu": issued["server_cpu_seconds"] / issued["good"] * 1e6,
        "signed_p50": signed["p50_ms"],
        "signed_p99": signed["p99_ms"],
        "cached_p50": cached["p50_ms"],
        "cached_p99": cached["p99_ms"],
    }


def _memory(service: RunningService) -> dict[str, float]:
    """Megabytes of a worker, the mean of all: PSS counts what workers share in parts, RSS in full."""
    found = [worker.memory_full_info() for worker in service.workers()]
    return {name: statistics.mean(getattr(each, name) for each in found) / 1e6 for name in ("pss", "rss")}


def _rows(measured: Measured, engine: str, figure: str) -> Iterator[Row]:
    _, unit = FIGURES[figure]
    sizes = sorted(size for of, size in measured if of == engine)
    first = statistics.median(measured[engine, sizes[0]][figure])
    for size in sizes:
        values = measured[engine, size][figure]
        note = f"{statistics.median(values) / first:.2f} × that at {sizes[0]:,}" if size > sizes[0] else ""
        yield middle(f"{NAMES[engine]}, {size:,} certificates before", values, unit, note=note)
