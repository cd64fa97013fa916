"""Servers under measurement, their CPU time, and the process that loads them."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from scripts.benchmark.load import write_requests
from scripts.benchmark.plan import Plan
from tests.support.issuer import LocalIssuer
from tests.support.postgres import LocalPostgres
from tests.support.processes import CA_SERVICE, RunningService, environment, free_port, running, succeed


def given() -> dict[str, str]:
    """Settings that whoever measures gave in the environment; they are the service's too."""
    return {name: value for name, value in os.environ.items() if name.startswith("CASVC_")}


def founded(folder: Path, issuer: LocalIssuer, environ: Mapping[str, str]) -> dict[str, str]:
    """Make a directory as `init` does, which trusts `issuer`; returns the environment for serving it."""
    settings = {**given(), **environ}
    succeed("init", "--dir", folder, "--url", "http://127.0.0.1:5555", environ=settings)
    (folder / "issuers.yaml").write_text(issuer.issuer_file())
    return {"CASVC_OIDC__PRIVATE_NETWORKS": '["127.0.0.0/8"]', **settings}


def service_of(folder: Path, workers: int, environ: Mapping[str, str]) -> RunningService:
    """`ca-service serve` on a directory that is there, on a free port, not yet started."""
    port = free_port()
    # Several services run at once, and each shows its metrics, as it does in production.
    metrics = {"CASVC_METRICS__BIND": f"127.0.0.1:{free_port()}"}
    return RunningService(
        directory=folder,
        url=f"http://127.0.0.1:{port}",
        command=[
            *(str(CA_SERVICE), "serve", "--config", str(folder / "ca.toml")),
            *("--bind", f"127.0.0.1:{port}", "--workers", str(workers)),
        ],
        environ={**metrics, **environ},
    )


@contextmanager
def issuing_service(plan: Plan) -> Iterator[tuple[RunningService, LocalIssuer]]:
    """`ca-service serve` as it is by default (SQLite, durable log), with an identity provider on loopback."""
    with LocalIssuer() as issuer:
        environ = founded(plan.folder / "ca", issuer, {})
        with running(service_of(plan.folder / "ca", plan.workers, environ)) as service:
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
        environ={**service.environ, "CASVC_METRICS__BIND": ""},
    )
    with running(server):
        yield server


def port_of(server: RunningService) -> int:
    """The port it listens on."""
    return int(server.url.rpartition(":")[2])


def cpu_seconds(server: RunningService) -> float:
    """User and system time of the master and its workers so far (/proc), those that ended included."""
    return sum(map(_spent, server.family()))


def database_cpu_seconds(database: LocalPostgres | None) -> float:
    """User and system time of PostgreSQL's processes so far, those that ended included; 0 without one."""
    if database is None:
        return 0.0
    server = psutil.Process(database.pid)
    return sum(map(_spent, [server, *server.children(recursive=True)]))


def _spent(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.NoSuchProcess):  # then its parent has its time
        return float(sum(process.cpu_times()[:4]))
    return 0.0


def load(
    plan: Plan,
    server: RunningService,
    requests: Sequence[bytes],
    seconds: float,
    *,
    database: LocalPostgres | None = None,
    most: int = 0,
) -> dict[str, Any]:
    """Load the server from a process of its own; adds the server's CPU seconds to what that one measured.

    Ends after `seconds`, or after `most` answers when that is not 0.
    """
    before, database_before = cpu_seconds(server), database_cpu_seconds(database)
    measured = load_port(plan, port_of(server), requests, seconds, most=most)
    measured["server_cpu_seconds"] = cpu_seconds(server) - before
    measured["database_cpu_seconds"] = database_cpu_seconds(database) - database_before
    if set(measured["statuses"]) - {"200", "201"}:
        raise RuntimeError(f"not only good answers: {measured['statuses']}\n{server.tail(20)}")
    return measured


def load_port(
    plan: Plan, port: int, requests: Sequence[bytes], seconds: float, *, most: int = 0
) -> dict[str, Any]:
    """Load whatever listens on the port; what that measured."""
    file = plan.folder / "requests"
    write_requests(file, requests)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "scripts.benchmark.load"),
            *(str(port), str(file), str(plan.clients), str(seconds), str(most)),
        ],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
        timeout=seconds + 60,
        check=True,
    )
    measured: dict[str, Any] = json.loads(done.stdout)
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
    load(plan, server, made, min(1.0, plan.seconds))
    return made
