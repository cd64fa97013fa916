"""Revocation with many certificates issued: what it takes to revoke, to publish and to answer."""

import os
import random
import statistics
import time
from collections.abc import Iterator, Sequence

from ca_service.app import build_service
from ca_service.authority.ports import Actor
from ca_service.authority.status_ports import IssuedCertificate, Revocation
from ca_service.settings import load_settings
from ca_service.store.revocations import SqlRevocations
from ca_service.vocabulary import RevocationReason
from scripts.benchmark.asking import FEW, issued_certificates, ocsp_path, ocsp_requests
from scripts.benchmark.crl import timed
from scripts.benchmark.plan import Options, Plan, Result, Row
from scripts.benchmark.population import populate
from scripts.benchmark.server import empty_view, given, load, request_bytes, service_of, warmed
from scripts.benchmark.turns import progress
from scripts.benchmark.visibility import visibility
from tests.support.entries import Foundation, machine_clock
from tests.support.processes import RunningService, running

SIZES = (100, 1_000_000)
_MOST_QUESTIONS = 20_000
_ACTOR = Actor("local:bench", "localhost", "bench")


def revocation(options: Options) -> Iterator[Result]:
    """One result for each number of issued certificates, 1 % of which are revoked."""
    for size in options.sizes or SIZES:
        folder = options.folder / f"issued-{size}"
        yield _service(options.plan(folder), size)


def _service(plan: Plan, size: int) -> Result:
    folder = plan.folder
    progress(f"fill to {size:,} certificates")
    filled = timed(lambda: populate(folder, size))
    foundation = Foundation(folder)
    certificates = issued_certificates(foundation, _MOST_QUESTIONS)
    random.shuffle(certificates)
    revoked = max(1, size // 100)
    rows = [Row("filling", size / filled, "a second"), *_mass_revocation(foundation, certificates, revoked)]
    with running(service_of(folder, plan.workers, given())) as served:
        rows += _answers(plan, served, foundation, certificates)
        rows += visibility(served, foundation, certificates)
    foundation.database.close()
    return Result(
        f"Revocation with {size:,} certificates issued, {revoked:,} of them revoked; {plan.workers} workers",
        rows,
    )


def _mass_revocation(
    foundation: Foundation, certificates: Sequence[IssuedCertificate], count: int
) -> Iterator[Row]:
    now = int(time.time())
    taken = [
        Revocation(
            each.serial,
            each.authority_key,
            each.crl_shard,
            each.not_before,
            now,
            RevocationReason.KEY_COMPROMISE,
        )
        for each in certificates[-count:]
    ]
    revocations = SqlRevocations(foundation.database, machine_clock)
    took = timed(lambda: revocations.revoke(taken, _ACTOR, "revoke-identity"))
    yield Row("revoking 1 %", took * 1000, "ms")
    service = build_service(load_settings(foundation.folder / "ca.toml", os.environ))
    dirty = len({each.crl_shard for each in taken})
    yield Row(f"signing its {dirty} lists", timed(service.publication.refresh) * 1000, "ms")
    service.close()


def _answers(
    plan: Plan, served: RunningService, foundation: Foundation, certificates: Sequence[IssuedCertificate]
) -> Iterator[Row]:
    paths = [ocsp_path(foundation.authority, each) for each in certificates]
    # Few are asked again and again; then many, each seldom.
    cached = warmed(plan, served, lambda: ocsp_requests(served, paths[:FEW]))
    views, answers = [], []
    with empty_view(plan, served) as empty:
        nothing = warmed(plan, empty, lambda: [request_bytes(empty, "GET", "/empty")])
        for _ in range(3):
            answers.append(load(plan, served, cached, plan.seconds / 3)["rate"])
            views.append(load(plan, empty, nothing, plan.seconds / 3)["rate"])
    view, answer = statistics.median(views), statistics.median(answers)
    yield Row("empty Flask view", view, "a second", 1.0)
    yield Row("OCSP by GET, cached", answer, "a second", answer / view)
    signed = load(plan, served, ocsp_requests(served, paths), plan.seconds / 3)
    yield Row(f"OCSP, {len(paths):,} certificates", signed["rate"], "a second", signed["rate"] / view)
