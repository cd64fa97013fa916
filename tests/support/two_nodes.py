"""The cluster as one service, so that a test of a service need not know how many nodes it has."""

import itertools
import subprocess
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from tests.support.cluster import Cluster
from tests.support.processes import RunningService


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
