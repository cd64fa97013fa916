"""How much memory each worker has to itself, sampled while the load runs, and whether it grows."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import psutil

from tests.support.processes import RunningService

_EVERY_SECONDS = 2.0
_SERIES = 7
_MIB = 2**20


@dataclass(frozen=True)
class Growth:
    """One worker: proportional set size at the beginning and end of the line through its samples, MiB.

    `series` has one sample in fifteen seconds, of the whole phase: second, MiB.
    """

    worker: int
    samples: int
    first: float
    last: float
    highest: float
    series: tuple[tuple[int, float], ...] = ()


class MemoryWatch:
    """Samples the workers of a service in a thread of its own, for a with block."""

    def __init__(self, service: RunningService) -> None:
        """Watch the workers there are when it begins."""
        self._service = service
        self._stop = threading.Event()
        self._samples: dict[int, list[tuple[float, float]]] = {}
        self._thread = threading.Thread(target=self._watch, name="memory", daemon=True)

    def __enter__(self) -> Self:
        self._workers = self._service.workers()
        self._samples = {worker.pid: [] for worker in self._workers}
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def died(self) -> Sequence[int]:
        """The workers that were there at the beginning and are no more."""
        return [worker.pid for worker in self._workers if not worker.is_running()]

    def growth(self, since: float) -> list[Growth]:
        """Of each worker, by the samples taken after the moment `since` of time.monotonic()."""
        found = []
        for pid, samples in self._samples.items():
            late = [(moment, size) for moment, size in samples if moment >= since]
            if len(late) >= 3:
                begin = samples[0][0]
                series = tuple((round(moment - begin), round(size, 1)) for moment, size in samples[::_SERIES])
                found.append(replace(_line(pid, late), series=series))
        return found

    def _watch(self) -> None:
        while not self._stop.wait(_EVERY_SECONDS):
            now = time.monotonic()
            for worker in self._workers:
                try:
                    size = worker.memory_full_info().pss
                except psutil.NoSuchProcess:
                    continue  # died() tells
                self._samples[worker.pid].append((now, size / _MIB))


def _line(pid: int, samples: Sequence[tuple[float, float]]) -> Growth:
    """The least-squares line: single samples jump by whatever was being served."""
    count = len(samples)
    middle = sum(moment for moment, _ in samples) / count
    mean = sum(size for _, size in samples) / count
    spread = sum((moment - middle) ** 2 for moment, _ in samples)
    slope = sum((moment - middle) * (size - mean) for moment, size in samples) / spread if spread else 0.0
    begin, end = samples[0][0], samples[-1][0]
    return Growth(
        worker=pid,
        samples=count,
        first=mean + slope * (begin - middle),
        last=mean + slope * (end - middle),
        highest=max(size for _, size in samples),
    )
