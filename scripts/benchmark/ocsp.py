"""Cached OCSP answers against an empty view, and behind the shipped nginx against openssl's responder."""

import os
import signal
import statistics
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from ca_service.authority.status_ports import IssuedCertificate
from ca_service.vocabulary import format_serial
from scripts.benchmark.asking import FEW, issue_some, issued_certificates, ocsp_path, ocsp_requests
from scripts.benchmark.issuance import named
from scripts.benchmark.plan import Goal, Options, Result, Row, middle
from scripts.benchmark.server import (
    cpu_seconds,
    empty_view,
    founded,
    load_port,
    port_of,
    request_bytes,
    service_of,
)
from scripts.benchmark.turns import Turn, in_turns, progress
from tests.support.entries import Foundation
from tests.support.issuer import LocalIssuer
from tests.support.nginx import configured, serving
from tests.support.processes import environment, free_port, running, wait_until

CLIENTS = (8, 32)
_WARM_SECONDS = 1.0


@dataclass(frozen=True)
class _Asked:
    """Something that is loaded: where, with what, and whose CPU it takes."""

    name: str
    port: int
    requests: Sequence[bytes]
    cpu: Callable[[], float]


@dataclass(frozen=True)
class _Pair:
    """What is measured and what it is held against."""

    mine: _Asked
    theirs: _Asked
    goal: Goal


def ocsp(options: Options) -> Result:
    """Rows for each number of workers, variant and number of clients: ratios of rates, turn by turn."""
    rows: list[Row] = []
    for workers in options.workers or (2,):
        for variant in options.variants:
            rows += _measured(options, workers, variant)
    return Result("OCSP answers by GET, cached: rate × that of what it is held against", rows)


def _measured(options: Options, workers: int, variant: Mapping[str, str]) -> Iterator[Row]:
    folder = options.folder / f"ocsp-{workers}-{len(list(options.folder.iterdir()))}"
    folder.mkdir()
    clients = options.clients or CLIENTS
    with ExitStack() as stack:
        pairs = _pairs(stack, options, folder, workers, variant)
        for pair in pairs.values():
            for each in (pair.mine, pair.theirs):
                _load(options, folder, each, max(clients), min(_WARM_SECONDS, options.seconds))
        cells = [(name, count) for name in pairs for count in clients]
        turns = in_turns(
            options.rounds,
            cells,
            lambda cell: _load(options, folder, pairs[cell[0]].mine, cell[1], options.seconds / 2),
            lambda cell: _load(options, folder, pairs[cell[0]].theirs, cell[1], options.seconds / 4),
        )
    for name, count in cells:
        what = "1 worker" if workers == 1 else f"{workers} workers"
        shown = ", ".join(filter(None, (f"{name}, {what}, {count} clients", named(variant))))
        yield _row(shown, pairs[name], turns[name, count])


def _pairs(
    stack: ExitStack, options: Options, folder: Path, workers: int, variant: Mapping[str, str]
) -> dict[str, _Pair]:
    """Everything running: the service, an empty view, nginx before the service, openssl's responder."""
    progress(f"start what answers OCSP, {workers} workers {named(variant)}")
    issuer = stack.enter_context(LocalIssuer())
    service = service_of(folder / "ca", workers, founded(folder / "ca", issuer, variant))
    stack.enter_context(running(service))
    issue_some(service, issuer)
    foundation = Foundation(folder / "ca")
    certificates = issued_certificates(foundation, FEW)
    foundation.database.close()
    asked = ocsp_requests(service, [ocsp_path(foundation.authority, each) for each in certificates])
    empty = stack.enter_context(empty_view(options.plan(folder, workers=workers), service))
    nginx = stack.enter_context(serving(configured(folder / "nginx", [service.bind])))
    openssl = stack.enter_context(_responder(folder / "openssl", workers, foundation, certificates))
    return {
        "gunicorn alone": _Pair(
            _Asked("answer", port_of(service), asked, lambda: cpu_seconds(service)),
            _Asked(
                "empty Flask view",
                port_of(empty),
                [request_bytes(empty, "GET", "/empty")],
                lambda: cpu_seconds(empty),
            ),
            Goal(now=0.8, at_least=True),
        ),
        "behind nginx": _Pair(
            _Asked(
                "answer",
                int(nginx.status_url.rpartition(":")[2]),
                asked,
                lambda: _children_cpu("nginx") + cpu_seconds(service),
            ),
            _Asked(
                "openssl ocsp",
                openssl,
                [request.replace(b"GET /ocsp/", b"GET /") for request in asked],
                lambda: _children_cpu("openssl"),
            ),
            Goal(then=1.0, at_least=True),
        ),
    }


@contextmanager
def _responder(
    folder: Path, workers: int, foundation: Foundation, certificates: Sequence[IssuedCertificate]
) -> Iterator[int]:
    """`openssl ocsp` with our issuing key and the same certificates, in so many processes; its port."""
    folder.mkdir()
    index = "".join(
        f"V\t491231235959Z\t\t{format_serial(each.serial).upper()}\tunknown\t/CN={number}\n"
        for number, each in enumerate(certificates)
    )
    (folder / "index.txt").write_text(index)
    port = free_port()
    chain, key = foundation.folder / "authority/chain.pem", foundation.folder / "private/issuing.key"
    command = [
        *("openssl", "ocsp", "-port", str(port), "-index", str(folder / "index.txt"), "-CA", str(chain)),
        *("-rsigner", str(chain), "-rkey", str(key), "-ndays", "1", "-multi", str(workers)),
    ]
    with (folder / "output").open("wb") as output:
        responder = subprocess.Popen(command, env=environment(), stdout=output, stderr=output)

    def listens() -> bool:
        assert responder.poll() is None, (folder / "output").read_text()  # noqa: S101 - ends the benchmark
        return "ACCEPT" in (folder / "output").read_text()

    try:
        wait_until(listens, 60, "openssl's responder listens")
        yield port
    finally:
        os.killpg(responder.pid, signal.SIGKILL)  # it made a group of its own, and waits on SIGTERM
        responder.wait(30)


def _children_cpu(name: str) -> float:
    """User and system time of this process's children of a name, and of theirs."""
    return sum(
        float(sum(process.cpu_times()[:4]))
        for process in psutil.Process().children(recursive=True)
        if process.name() == name
    )


def _load(options: Options, folder: Path, asked: _Asked, clients: int, seconds: float) -> dict[str, Any]:
    before = asked.cpu()
    measured = load_port(options.plan(folder, clients=clients), asked.port, asked.requests, seconds)
    measured["cpu_us"] = (asked.cpu() - before) / max(measured["good"], 1) * 1e6
    if set(measured["statuses"]) != {"200"}:
        raise RuntimeError(f"{asked.name}: not only good answers: {measured['statuses']}")
    return measured


def _row(name: str, pair: _Pair, turns: Sequence[Turn[dict[str, Any]]]) -> Row:
    def mine(of: str) -> float:
        return statistics.median(float(turn.measured[of]) for turn in turns)

    def theirs(of: str) -> float:
        return statistics.median(float(turn.before[of] + turn.after[of]) / 2 for turn in turns)

    ratios = [turn.measured["rate"] * 2 / (turn.before["rate"] + turn.after["rate"]) for turn in turns]
    return middle(
        name,
        ratios,
        "×",
        goal=pair.goal,
        note=f"{mine('rate'):,.0f} a second, {mine('cpu_us'):,.0f} µs CPU, p99 {mine('p99_ms'):.1f} ms; "
        f"{pair.theirs.name} {theirs('rate'):,.0f}, {theirs('cpu_us'):,.0f} µs",
        facts={
            **{name: mine(name) for name in ("rate", "cpu_us", "p50_ms", "p99_ms")},
            **{f"reference_{name}": theirs(name) for name in ("rate", "cpu_us", "p50_ms", "p99_ms")},
        },
    )
