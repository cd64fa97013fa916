"""One phase of a run: locust, in processes of its own, against the service for some seconds."""

import contextlib
import json
import math
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.load.memory import Growth, MemoryWatch
from tests.support.processes import RunningService, environment

LOCUSTFILE = Path(__file__).with_name("locustfile.py")
_ROOT = Path(__file__).parents[2]
_BEGIN_SECONDS = 120.0


@dataclass(frozen=True)
class Phase:
    """What came of one: by kind of request counts and times, and how it went for the processes.

    `offered` is the rate that was meant, 0 where users asked as fast as they were answered.
    """

    name: str
    seconds: float
    users: int
    offered: float
    kinds: dict[str, Any]
    died: int
    memory: list[Growth]
    server_cpu: float
    locust_cpu: float

    @property
    def all(self) -> dict[str, Any]:
        """Of all kinds together."""
        together: dict[str, Any] = self.kinds["all"]
        return together

    @property
    def asked(self) -> int:
        """How many requests there were."""
        return sum(self.all["statuses"].values())

    @property
    def errors(self) -> int:
        """How many were neither served nor refused as they should be."""
        return self.asked - self.served - self.refused

    @property
    def served(self) -> int:
        """How many were answered with 200."""
        return int(self.all["good"]["count"])

    @property
    def refused(self) -> int:
        """How many were answered with 429 or 503 and when to ask again."""
        return int(self.all["refused"]["count"])


@dataclass(frozen=True)
class Stage:
    """Where phases run: the service, what is sent to it, and a folder for what comes back."""

    service: RunningService
    material: Path
    folder: Path

    def closed(self, name: str, users: int, seconds: float) -> Phase:
        """Let users ask as fast as they are answered."""
        return self._run(name, users, seconds, period=0.0, offered=0.0)

    def at_rate(self, name: str, rate: float, seconds: float, period: float = 1.0) -> Phase:
        """Ask so many times a second, one time in each `period` by each user, however slow answers are."""
        users = max(math.ceil(rate * period), 1)
        return self._run(name, users, seconds, period=users / rate, offered=rate)

    def _run(self, name: str, users: int, seconds: float, *, period: float, offered: float) -> Phase:
        tally = self.folder / f"{name}.json"
        before = _cpu(self.service)
        with MemoryWatch(self.service) as memory, (self.folder / f"{name}.log").open("wb") as output:
            began = time.monotonic()
            locust = subprocess.Popen(
                [
                    *(sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--only-summary"),
                    *("--users", str(users), "--spawn-rate", str(users), "--run-time", f"{seconds:.0f}s"),
                    *("--host", self.service.url, "--exit-code-on-error", "0", "--stop-timeout", "40"),
                ],
                cwd=_ROOT,
                env=environment(
                    {
                        "LOAD_MATERIAL": str(self.material),
                        "LOAD_TALLY": str(tally),
                        "LOAD_PERIOD": str(period),
                        "PYTHONPATH": str(_ROOT),
                    }
                ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            try:
                code, usage = _wait(locust, seconds + _BEGIN_SECONDS)
            finally:
                if locust.poll() is None:
                    locust.kill()
            took = time.monotonic() - began
            if code != 0 or not tally.exists():
                said = (self.folder / f"{name}.log").read_text(errors="replace")
                raise RuntimeError(f"locust ended with {code} in phase {name}:\n{said[-4000:]}")
        return Phase(
            name=name,
            seconds=seconds,
            users=users,
            offered=offered,
            kinds=json.loads(tally.read_text()),
            died=len(memory.died()),
            # The first half fills caches: each thread's connection to SQLite keeps pages of its own.
            memory=memory.growth(began + took / 2),
            server_cpu=(_cpu(self.service) - before) / seconds,
            locust_cpu=usage / seconds,
        )


def _wait(process: "subprocess.Popen[bytes]", seconds: float) -> tuple[int, float]:
    """The exit code of a process, and the CPU seconds that it took."""
    watched, used, deadline = psutil.Process(process.pid), 0.0, time.monotonic() + seconds
    while process.poll() is None:
        if time.monotonic() > deadline:
            raise RuntimeError(f"locust did not end within {seconds:.0f} s")
        with contextlib.suppress(psutil.Error):  # it ends
            used = sum(watched.cpu_times()[:2])
        time.sleep(0.5)
    return process.returncode, used


def _cpu(service: RunningService) -> float:
    """User and system seconds of the service so far."""
    total = 0.0
    for process in service.family():
        times = process.cpu_times()
        total += times.user + times.system
    return total


def cores() -> int:
    """How many this process, and so service and load together, may use."""
    return len(os.sched_getaffinity(0))
