"""The cluster as one service, so that a test of a service need not know how many nodes it has."""

import contextlib
import itertools
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.support.cluster import Cluster, running_cluster
from tests.support.postgres import LocalPostgres
from tests.support.processes import RunningService, dev_service, environment, free_port, running
from tests.support.tokens import IssuerDesk, TokenDesk, Tokens

ONE_NODE, TWO_NODES = "one_node", "two_nodes"

GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "run-several-nodes.md"


class Nodes(RunningService):
    """The cluster as one service: what nginx answers; commands are given on either node in turn."""

    def __init__(self, cluster: Cluster) -> None:
        first = cluster.nodes[0].service
        super().__init__(first.directory, cluster.url, (), certificates=cluster.nginx.certificates)
        self._status_url = cluster.nginx.status_url
        self._machines = [node.service for node in cluster.nodes]
        self._turns = itertools.cycle(self._machines)

    @property
    def config(self) -> Path:
        """The settings of one node, and the next time of the other."""
        return next(self._turns).config

    @property
    def status_url(self) -> str:
        return self._status_url

    @property
    def machines(self) -> Sequence[RunningService]:
        return self._machines

    def printed(self) -> str:
        return "".join(machine.printed() for machine in self._machines)

    def metrics(self) -> str:
        return "".join(machine.metrics() for machine in self._machines)

    def tail(self, lines: int = 60) -> str:
        return "\n".join(machine.tail(lines) for machine in self._machines)

    def workers(self) -> list[psutil.Process]:
        return [worker for machine in self._machines for worker in machine.workers()]

    def spawn(self) -> None:
        for machine in self._machines:
            machine.spawn()

    def wait_ready(self) -> None:
        for machine in self._machines:
            machine.wait_ready()

    def stop(self) -> None:
        for machine in self._machines:
            machine.stop()

    def kill(self) -> None:
        for machine in self._machines:
            machine.kill()

    def replace_workers(self) -> None:
        for machine in self._machines:
            machine.replace_workers()

    def cli(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return next(self._turns).cli(*arguments)

    def admin(self, *arguments: str | Path) -> str:
        return next(self._turns).admin(*arguments)


@pytest.fixture(scope="session")
def two_nodes(cluster: Cluster) -> Nodes:
    """The same as one service, by the addresses of nginx."""
    return Nodes(cluster)


@dataclass(frozen=True)
class OwnPlace:
    """A service that is one test's own, on one node or on two; `issuer` makes the tokens."""

    service: RunningService
    tokens: Tokens
    issuer: str
    cluster: Cluster | None = None

    @property
    def machines(self) -> Sequence[RunningService]:
        """Its nodes."""
        return self.service.machines

    @property
    def urls(self) -> Sequence[str]:
        """Where it answers: at each of its nodes, and at nginx where there is one."""
        return [*dict.fromkeys([*(machine.url for machine in self.machines), self.service.url])]


@contextlib.contextmanager
def own_place(
    place: str,
    folder: Path,
    *,
    postgres: Callable[[], LocalPostgres],
    environ: Mapping[str, str] | None = None,
    before_start: Callable[[RunningService], object] = lambda first: None,
) -> Iterator[OwnPlace]:
    """Start a service with two workers on each node, for a with block; no limits unless `environ` says so.

    `before_start` is given the first of two nodes when the second was copied from it and neither runs.
    """
    settings = {
        "CASVC_LIMITS__IDENTITY_PER_MINUTE": "0",
        "CASVC_LOG__EXPORT_DIR": "public",
        **(environ or {}),
    }
    if place == ONE_NODE:
        settings["CASVC_METRICS__BIND"] = f"127.0.0.1:{free_port()}"
        with running(dev_service(folder / "ca", environ=settings)) as started:
            yield OwnPlace(started, TokenDesk(started), f"{started.url}/dev-idp")
        return
    with running_cluster(folder, environ=settings, postgres=postgres(), before_start=before_start) as cluster:
        nodes = Nodes(cluster)
        yield OwnPlace(nodes, IssuerDesk(cluster.signers), cluster.signers.url, cluster)


def guides_commands(about: str) -> str:
    """The commands of run-several-nodes.md below this comment, up to the next empty line or the end."""
    found = re.search(rf"^# {re.escape(about)}\n((?:(?!```).+\n)+)", GUIDE.read_text(), re.MULTILINE)
    assert found, about
    return found[1]


def copy_as_the_guide_says(
    one: RunningService, two: RunningService, about: str, its_name: str, name: str
) -> None:
    """Run the guide's commands as from a machine that reaches both nodes.

    `its_name` is what the guide calls the thing that is copied, `name` what it is called here.
    """
    with tempfile.TemporaryDirectory() as hosts:
        for host, node in (("node1", one), ("node2", two)):
            (Path(hosts) / host).symlink_to(node.directory)
        # Each "host" has its own folder in the place of /srv/ca.
        ssh = f'ssh() {{ local node=$1; shift; bash -ec "${{*//\\/srv\\/ca/{hosts}/$node}}"; }}'
        commands = guides_commands(about)
        assert its_name in commands
        script = f"set -eo pipefail\n{ssh}\n{commands.replace(its_name, name)}"
        done = subprocess.run(
            ["bash", "-c", script],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
