"""Servers under measurement, their CPU time, and the process that loads them."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from scripts.benchmark.load import write_requests
from scripts.benchmark.plan import Plan
from tests.support.issuer import LocalIssuer
from tests.support.processes import RunningService, environment, free_port, production_service, running


@contextmanager
def issuing_service(plan: Plan) -> Iterator[tuple[RunningService, LocalIssuer]]:
    """`ca-service serve` as it is by default (SQLite, durable log), with an identity provider on loopback."""
    with LocalIssuer() as issuer:
        service = production_service(plan.folder / "ca", issuers=issuer.issuer_file(), workers=plan.workers)
        with running(service):
            yield service, issuer


@contextmanager
def empty_view(plan: Plan, service: RunningService) -> Iterator[RunningService]:
    """A Flask application with one empty view, under gunicorn with the options of `service`."""
    port = free_port()
    server = RunningService(
        directory=plan.folder / "empty",
        url=f"http://127.0.0.1:{port}",
        command=[
            *(sys.executable, "-m", "scripts.benchmark.empty_view"),
            *(str(service.config), f"127.0.0.1:{port}", str(plan.workers)),
        ],
    )
    with running(server):
        yield server


def port_of(server: RunningService) -> int:
    """The port it listens on."""
    return int(server.url.rpartition(":")[2])


def cpu_seconds(server: RunningService) -> float:
    """User and system time of the master and its workers so far (/proc)."""
    return sum(sum(process.cpu_times()[:2]) for process in server.family())


def load(plan: Plan, server: RunningService, requests: Sequence[bytes], seconds: float) -> dict[str, Any]:
    """Load the server from a process of its own; adds the server's CPU seconds to what that one measured."""
    file = plan.folder / "requests"
    write_requests(file, requests)
    before = cpu_seconds(server)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "scripts.benchmark.load"),
            *(str(port_of(server)), str(file), str(plan.clients), str(seconds)),
        ],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=seconds + 60,
        check=True,
    )
    measured: dict[str, Any] = json.loads(done.stdout)
    measured["server_cpu_seconds"] = cpu_seconds(server) - before
    if set(measured["statuses"]) - {"200", "201"}:
        raise RuntimeError(f"not only good answers: {measured['statuses']}\n{server.tail(20)}")
    return measured


def request_bytes(
    server: RunningService, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b""
) -> bytes:
    """An HTTP/1.1 request as it goes over the wire."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {server.bind}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def warmed(plan: Plan, server: RunningService, requests: Callable[[], Sequence[bytes]]) -> list[bytes]:
    """Make the requests, and let each worker serve some before anything is measured."""
    made = list(requests())
    load(plan, server, made, 1.0)
    return made
