"""A real ca-service in its own processes, on a free loopback port and in a directory of its own."""

import contextlib
import itertools
import os
import random
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, TypeVar

import psutil
import requests
from click.testing import CliRunner

from ca_service.cli import main

CA_SERVICE = Path(sys.executable).parent / "ca-service"
_PATIENCE = 60.0
_START_SECONDS = 120.0
_STOP_SECONDS = 120.0
_FIRST_PORT, _RANGE_PORTS, _PORT_RANGES = 12_000, 5_000, 4
_offset = random.SystemRandom().randrange(_RANGE_PORTS)
_ports = itertools.count()
T = TypeVar("T")


class NotReady(AssertionError):
    """The service did not become ready; the message carries its output."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on now, and that no client's connection will take.

    It is below those that Linux gives to outgoing connections, and of a range that only this one of the
    processes has which share a run of the tests.
    """
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % _PORT_RANGES
    first = _FIRST_PORT + number * _RANGE_PORTS
    for _ in range(1000):
        port = first + (_offset + next(_ports)) % _RANGE_PORTS
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise RuntimeError(f"no free port from {first} on")


def http() -> requests.Session:
    """A session that ignores proxies of the environment: everything asked in tests is on loopback."""
    session = requests.Session()
    session.trust_env = False
    return session


def wait_until(condition: Callable[[], T], seconds: float, what: str, pause: float = 0.02) -> T:
    """Poll until `condition` returns something true and return that; AssertionError after `seconds`.

    `seconds` is there only so that a broken test ends: at least a minute, however quick it should be.
    """
    seconds = max(seconds, _PATIENCE)
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"after {seconds} seconds still not: {what}")
        time.sleep(pause)


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without proxies and without settings of the service, plus `extra`.

    Many services run beside each other, and one address would have the metrics of all of them.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("CASVC_") and not name.lower().endswith("_proxy")
    }
    return {**kept, "CASVC_METRICS__BIND": "", **(extra or {})}


def run(
    *arguments: str | Path, environ: Mapping[str, str] | None = None, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `ca-service ARGUMENTS` to its end, without judging its exit code."""
    return subprocess.run(
        [str(CA_SERVICE), *map(str, arguments)],
        env=environment(environ),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def invoke(
    *arguments: str | Path, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The same as `run`, but within this process: one of its own takes a second of a core to begin.

    Servers get one of their own all the same: they change the process that they run in.
    """
    if arguments[0] in ("serve", "dev"):
        return run(*arguments, environ=environ)
    cleared = {name: None for name in os.environ if name.startswith("CASVC_")}
    command = [str(argument) for argument in arguments]
    done = CliRunner().invoke(main, command, env={**cleared, **(environ or {})}, prog_name="ca-service")
    return subprocess.CompletedProcess(command, done.exit_code, done.stdout, done.stderr)


def succeed(*arguments: str | Path, environ: Mapping[str, str] | None = None) -> str:
    """Have `ca-service ARGUMENTS` done, demand exit code 0, and return what it printed."""
    done = invoke(*arguments, environ=environ)
    assert done.returncode == 0, (
        f"ca-service {arguments[0]}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    )
    return done.stdout


def suspend(process: psutil.Process) -> None:
    """Stop a process (SIGSTOP), and return once none of its threads does anything any more."""
    process.suspend()

    def still() -> bool:
        states = Path(f"/proc/{process.pid}/task").glob("*/stat")
        return {state.read_text().rpartition(")")[2].split()[0] for state in states} == {"T"}

    wait_until(still, 60, "a process that stands still", pause=0.001)


@dataclass
class RunningService:
    """A server with its workers; `command` is what was started, `url` where it answers."""

    directory: Path
    url: str
    command: Sequence[str]
    environ: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    certificates: Path | None = None
    """Who vouches for an https server: PEM."""

    @property
    def config(self) -> Path:
        return self.directory / "ca.toml"

    @property
    def output(self) -> Path:
        """Where everything the server prints goes, across restarts: beside the directory."""
        return self.directory.with_name(self.directory.name + "-output.log")

    @property
    def bind(self) -> str:
        return self.url.partition("://")[2]

    @property
    def status_url(self) -> str:
        """Where the certificates say that status is."""
        return self.url

    @property
    def machines(self) -> Sequence["RunningService"]:
        """The nodes that answer here."""
        return [self]

    def http(self) -> requests.Session:
        """A session that trusts the server."""
        session = http()
        session.verify = str(self.certificates) if self.certificates else True
        return session

    def connect(self, url: str | None = None) -> socket.socket:
        """A connection to the service, or to its status address, for octets that no client would send."""
        scheme, _, bind = (url or self.url).partition("://")
        host, _, port = bind.rpartition(":")
        connection = socket.create_connection((host, int(port)), timeout=60)
        if scheme == "http":
            return connection
        trust = ssl.create_default_context(cafile=self.certificates)
        return trust.wrap_socket(connection, server_hostname=host)

    @property
    def trusting(self) -> Mapping[str, str]:
        """The environment in which a command trusts the server."""
        return {"REQUESTS_CA_BUNDLE": str(self.certificates)} if self.certificates else {}

    def printed(self) -> str:
        """All that the server printed."""
        return self.output.read_text()

    def metrics(self) -> str:
        """The page of metrics."""
        with http() as session:
            return session.get(f"http://{self.environ['CASVC_METRICS__BIND']}/metrics", timeout=60).text

    def spawn(self) -> None:
        """Start the processes, without waiting for anything."""
        assert self.process is None, "already running"
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                env=environment(self.environ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def asked_for(self) -> int:
        """How many workers the command or the environment asks for; 1 when neither does."""
        command = [str(argument) for argument in self.command]
        if "--workers" in command:
            return int(command[command.index("--workers") + 1])
        return int(self.environ.get("CASVC_SERVER__WORKERS", "1"))

    def start(self) -> Self:
        """Start the processes and return once /readyz says so, and every worker is there."""
        self.spawn()
        self.wait_ready()
        return self

    def wait_ready(self) -> None:
        """Return once /readyz answers 200 and every worker is there; NotReady with the output when not.

        gunicorn takes its time between one worker and the next, and the first answers meanwhile.
        """
        deadline = time.monotonic() + _START_SECONDS
        with self.http() as session:
            session.headers["Connection"] = "close"  # one that is kept delays the end of its worker
            while time.monotonic() < deadline:
                if self.process is not None and self.process.poll() is not None:
                    raise NotReady(f"{self.command} ended with {self.process.returncode}\n{self.tail()}")
                with contextlib.suppress(requests.RequestException):
                    is_ready = session.get(f"{self.url}/readyz", timeout=60).status_code == 200
                    if is_ready and (self.process is None or len(self.workers()) >= self.asked_for):
                        return
                time.sleep(0.05)
        raise NotReady(f"{self.command} was not ready after {_START_SECONDS} seconds\n{self.tail()}")

    def tail(self, lines: int = 60) -> str:
        """The last lines the server printed."""
        if not self.output.exists():
            return "(no output)"
        return "\n".join(self.output.read_text(errors="replace").splitlines()[-lines:])

    def family(self) -> list[psutil.Process]:
        """Every living process of this server: those of the session that start() opened."""
        assert self.process is not None, "not running"
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(ProcessLookupError, psutil.Error):
                if os.getsid(process.pid) == self.process.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def workers(self) -> list[psutil.Process]:
        """The processes that answer requests: the children of gunicorn's master."""
        family = self.family()
        parents = set()
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):  # killed since it was listed
                parents.add(process.ppid())
        return [process for process in family if process.pid not in parents]

    def replace_workers(self) -> None:
        """Send SIGHUP to the first process, and wait until it has replaced every worker."""
        assert self.process is not None, "not running"
        before = {process.pid for process in self.family()} - {self.process.pid}
        self.process.send_signal(signal.SIGHUP)
        wait_until(
            lambda: not before & {process.pid for process in self.family()}, 60, "the old workers are gone"
        )
        self.wait_ready()

    def stop(self) -> None:
        """End it as an operator in a hurry does (SIGTERM, SIGINT) and check that nothing of it is left.

        After SIGTERM alone it waits two seconds for what may yet come on connections that are kept.
        """
        if self.process is None:
            return
        family = self.family()
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
            self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(
                f"the server did not stop within {_STOP_SECONDS} seconds\n{self.tail()}"
            ) from None
        _, left = psutil.wait_procs(family, timeout=60)
        for process in left:
            process.kill()
        self.process = None
        assert not left, f"left behind after SIGTERM: {left}"

    def kill(self) -> None:
        """kill -9 for every process of the server at once, as a power cut does."""
        assert self.process is not None, "not running"
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(_STOP_SECONDS)
        # A worker that dies later holds port and locks until then.
        wait_until(lambda: not self.family(), _STOP_SECONDS, "every process is gone")
        self.process = None

    def cli(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Have `ca-service ARGUMENTS --config` of this service done, without judging its exit code."""
        return invoke(*arguments, "--config", self.config, environ=self.environ)

    def admin(self, *arguments: str | Path) -> str:
        """Have `ca-service ARGUMENTS --config` of this service done, demand success, return its output."""
        return succeed(*arguments, "--config", self.config, environ=self.environ)

    def export_trust(self, out: Path, rekors: Mapping[str, Path] | None = None) -> Path:
        """Write the trust files into `out` and return it."""
        named = [f"--rekor={url}={key}" for url, key in (rekors or {}).items()]
        self.admin("export-trust", "--out", out, *named)
        return out

    def shard(self) -> str:
        """The name of the log shard, as in /ctlog/<shard>/."""
        found = re.search(r'^shard\s*=\s*"([^"]+)"', self.config.read_text(), re.MULTILINE)
        assert found, self.config.read_text()
        return found.group(1)


def dev_service(
    directory: Path, *, workers: int = 2, environ: Mapping[str, str] | None = None
) -> RunningService:
    """`ca-service dev` on a free port, not yet started."""
    port = free_port()
    return RunningService(
        directory=directory,
        url=f"http://127.0.0.1:{port}",
        command=[str(CA_SERVICE), "dev", "--dir", str(directory), "--bind", f"127.0.0.1:{port}"],
        environ={"CASVC_SERVER__WORKERS": str(workers), **(environ or {})},
    )


UNLIMITED = {"CASVC_LIMITS__IDENTITY_PER_MINUTE": "0", "CASVC_LIMITS__ISSUER_PER_MINUTE": "0"}
"""For services that one identity asks without a pause: on a quick machine it reaches any limit."""


def production_service(
    directory: Path,
    *,
    issuers: str,
    workers: int = 2,
    environ: Mapping[str, str] | None = None,
    init_options: Sequence[str] = (),
) -> RunningService:
    """`ca-service init` in `directory` with the given issuer file, then `serve`, not yet started."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    succeed("init", "--dir", directory, "--url", url, "--organization", "Example", *init_options)
    (directory / "issuers.yaml").write_text(issuers)
    return RunningService(
        directory=directory,
        url=url,
        command=[
            *(str(CA_SERVICE), "serve", "--config", str(directory / "ca.toml")),
            *("--bind", f"127.0.0.1:{port}", "--workers", str(workers)),
        ],
        environ={"CASVC_OIDC__PRIVATE_NETWORKS": '["127.0.0.0/8"]', **(environ or {})},
    )


@contextlib.contextmanager
def running(service: RunningService) -> Iterator[RunningService]:
    """Start the service for a with block; its output is shown when the block fails."""
    try:
        yield service.start()
    except BaseException:
        print(f"--- output of {service.url}\n{service.tail()}", file=sys.stderr)
        raise
    finally:
        service.stop()
