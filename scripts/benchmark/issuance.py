"""Server CPU for one issued certificate, against the five operations it cannot do without."""

import statistics
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from scripts.benchmark.asking import signing_requests
from scripts.benchmark.floor import BusyFloor
from scripts.benchmark.plan import ENGINES, NAMES, Goal, Options, Result, Row, middle
from scripts.benchmark.server import founded, load, service_of, warmed
from scripts.benchmark.turns import Turn, in_turns, progress
from tests.support.issuer import LocalIssuer
from tests.support.postgres import LocalPostgres
from tests.support.processes import RunningService, running

CLIENTS = (8, 32)
_GOALS = {"sqlite": Goal(6.0, 3.5), "postgresql": Goal(6.5, 4.0)}


@dataclass(frozen=True)
class Cell:
    """One combination of what is varied."""

    engine: str
    workers: int
    variant: str
    clients: int

    def __str__(self) -> str:
        workers = "1 worker" if self.workers == 1 else f"{self.workers} workers"
        return f"{NAMES[self.engine]}, {workers}, {self.clients} clients{self.variant and ', '}{self.variant}"


@dataclass(frozen=True)
class _Server:
    service: RunningService
    requests: Sequence[bytes]
    folder: Path
    database: LocalPostgres | None


def issuance(options: Options) -> Result:
    """A row for each engine, number of workers, variant and number of clients, measured in turns."""
    engines = options.engines or ENGINES
    clients = options.clients or CLIENTS
    with ExitStack() as stack:
        floor = stack.enter_context(BusyFloor())
        servers = _started(stack, options, engines, max(clients))
        cells = [Cell(*key, count) for key in servers for count in clients]

        def measure(cell: Cell) -> Mapping[str, float]:
            server = servers[cell.engine, cell.workers, cell.variant]
            plan = options.plan(server.folder, workers=cell.workers, clients=cell.clients)
            return load(plan, server.service, server.requests, options.seconds, database=server.database)

        turns = in_turns(options.rounds, cells, measure, lambda _: floor.measure())
    return Result(
        "Server CPU for a certificate, × the floor: durable log, gunicorn",
        [
            _floor_row(turns, floor.alone),
            *(certificate_row(str(cell), turns[cell], _GOALS[cell.engine]) for cell in cells),
        ],
    )


def _started(
    stack: ExitStack, options: Options, engines: Sequence[str], clients: int
) -> dict[tuple[str, int, str], _Server]:
    """Every service that is measured, running and warm; the ones that are not asked cost nothing."""
    issuer = stack.enter_context(LocalIssuer())
    postgres = stack.enter_context(LocalPostgres(durable=True)) if "postgresql" in engines else None
    servers: dict[tuple[str, int, str], _Server] = {}
    for engine in engines:
        for workers in options.workers or (2,):
            for variant in options.variants:
                database = postgres if engine == "postgresql" else None
                environ = {"CASVC_DATABASE__URL": database.new_database()} if database else {}
                folder = options.folder / f"issuance-{len(servers)}"
                service = service_of(folder, workers, founded(folder, issuer, {**environ, **variant}))
                progress(f"start {engine}, {workers} workers {named(variant)}")
                stack.enter_context(running(service))
                plan = options.plan(folder, workers=workers, clients=clients)
                requests = warmed(plan, service, partial(signing_requests, service, issuer))
                servers[engine, workers, named(variant)] = _Server(service, requests, folder, database)
    return servers


def named(variant: Mapping[str, str]) -> str:
    """A variant as it is shown: the settings without the prefix that all of them have."""
    return " ".join(f"{name.removeprefix('CASVC_').lower()}={value}" for name, value in variant.items())


def ratios(turns: Sequence[Turn[dict[str, float]]]) -> list[float]:
    """CPU for a certificate against the floor around it, one of each round."""
    return [
        cost(turn.measured) / ((sum(turn.before.values()) + sum(turn.after.values())) / 2) for turn in turns
    ]


def cost(measured: Mapping[str, float]) -> float:
    """CPU microseconds of the server's processes for one certificate."""
    return measured["server_cpu_seconds"] / max(measured["good"], 1) * 1e6


def certificate_row(name: str, turns: Sequence[Turn[dict[str, float]]], goal: Goal | None) -> Row:
    """The ratio to the floor, with what it is made of and how quick the answers were."""

    def median(of: str) -> float:
        return statistics.median(float(turn.measured[of]) for turn in turns)

    spent = statistics.median(cost(turn.measured) for turn in turns)
    database = statistics.median(
        turn.measured["database_cpu_seconds"] / max(turn.measured["good"], 1) * 1e6 for turn in turns
    )
    rate, p50, p99 = median("rate"), median("p50_ms"), median("p99_ms")
    apart = f" and {database:,.0f} of the database" if database else ""
    return middle(
        name,
        ratios(turns),
        "× floor",
        goal=goal,
        note=f"{spent:,.0f} µs{apart}; {rate:,.0f} a second, p50 {p50:.0f} ms, p99 {p99:.0f} ms",
        facts={
            "server_cpu_us": spent,
            "database_cpu_us": database,
            "rate_per_second": rate,
            "p50_ms": p50,
            "p99_ms": p99,
        },
    )


def _floor_row(turns: Mapping[Cell, Sequence[Turn[dict[str, float]]]], alone: Sequence[float]) -> Row:
    floors = [each for cell in turns.values() for turn in cell for each in (turn.before, turn.after)]
    operations = {name: statistics.median(each[name] for each in floors) for name in floors[0]}
    by_itself = statistics.median(alone)
    parts = ", ".join(f"{name} {spent:.0f}" for name, spent in operations.items())
    note = f"on all cores at once; {by_itself:.0f} on one alone; {parts}"
    return middle(
        "floor: five operations",
        [sum(each.values()) for each in floors],
        "µs CPU",
        note=note,
        facts={"alone_us": by_itself, **{f"{name}_us": spent for name, spent in operations.items()}},
    )
