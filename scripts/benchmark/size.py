"""Whether what a certificate costs grows with the number of those before it; when a revocation is seen."""

import statistics
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial

from scripts.benchmark.asking import issued_certificates, signing_requests
from scripts.benchmark.floor import BusyFloor
from scripts.benchmark.issuance import certificate_row, ratios
from scripts.benchmark.plan import NAMES, Goal, Options, Result, Row, middle
from scripts.benchmark.populated import in_environment, populated
from scripts.benchmark.server import load, service_of, warmed
from scripts.benchmark.turns import in_turns
from scripts.benchmark.visibility import visibility
from tests.support.entries import Foundation
from tests.support.issuer import LocalIssuer
from tests.support.postgres import LocalPostgres
from tests.support.processes import running

SIZES = (1_000, 100_000)
_CLIENTS = 32
_GOAL = Goal(1.1, 1.0)


def size(options: Options) -> Result:
    """CPU for a certificate at each size against the smallest, in turns, on the first engine asked for."""
    engine = (options.engines or ("sqlite",))[0]
    sizes = sorted(options.sizes or SIZES)
    workers = options.plan(options.folder).workers
    clients = max(options.clients or (_CLIENTS,))
    folder = options.folder / "size"
    folder.mkdir()
    with ExitStack() as stack:
        floor = stack.enter_context(BusyFloor())
        issuer = stack.enter_context(LocalIssuer())
        postgres = stack.enter_context(LocalPostgres(durable=True)) if engine == "postgresql" else None
        services = {}
        for each in populated(folder, engine, sizes, issuer, postgres):
            environ = {**each.environ, **options.variants[0]}
            service = stack.enter_context(running(service_of(each.folder, workers, environ)))
            plan = options.plan(each.folder, workers=workers, clients=clients)
            requests = warmed(plan, service, partial(signing_requests, service, issuer))
            services[each.size] = (plan, service, requests)

        def measure(size: int) -> Mapping[str, float]:
            plan, service, requests = services[size]
            return load(plan, service, requests, options.seconds, database=postgres)

        turns = in_turns(options.rounds, sizes, measure, lambda _: floor.measure())
        _, largest, _ = services[sizes[-1]]
        with in_environment(largest.environ):
            foundation = Foundation(largest.directory)
            seen = visibility(largest, foundation, issued_certificates(foundation, 1000))
            foundation.database.close()
    smallest = ratios(turns[sizes[0]])
    rows: list[Row] = [
        certificate_row(f"{NAMES[engine]}, {each:,} certificates before", turns[each], None) for each in sizes
    ]
    rows += [
        middle(
            f"{NAMES[engine]}, {each:,} against {sizes[0]:,}",
            [mine / first for mine, first in zip(ratios(turns[each]), smallest, strict=True)],
            "×",
            goal=_GOAL,
            note=f"medians: {statistics.median(ratios(turns[each])) / statistics.median(smallest):.2f} ×",
        )
        for each in sizes[1:]
    ]
    return Result(
        f"CPU for a certificate as the log grows; revocation with {sizes[-1]:,} issued; {workers} workers",
        [*rows, *seen],
    )
