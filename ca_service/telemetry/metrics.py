"""Counting: the Observer that the authority tells what it did, and what all processes counted together."""

import json
import logging
import os
import threading
import weakref
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family

from ca_service.telemetry.catalogue import (
    EVENTS,
    LEVELS,
    REQUESTS,
    SIZES,
    STAGES,
    UNDECLARED,
    Metric,
    every_metric,
    metric_named,
)
from ca_service.telemetry.cells import Cells
from ca_service.telemetry.multiprocess import MetricsDirectory

_LONGEST_VALUE = 128
_LOG = logging.getLogger(__name__)

Labels = tuple[str, ...]
Samples = Mapping[tuple[str, Labels], list[float]]
"""By metric and the values of its labels: one number, or those of a histogram, its sum first."""


class Value(NamedTuple):
    """A number that was read for the page: the name of its metric, the values of its labels."""

    metric: str
    labels: Labels
    value: float


class PrometheusObserver:
    """Counts events, times stages and requests; what it is told costs about a third of a microsecond.

    It never raises for what it is told: a metric must not fail a request.
    """

    def __init__(self) -> None:
        """Count in this process alone, until `share`."""
        self._directory: MetricsDirectory | None = None
        self._begin()
        _observers.add(self)

    def share(self, directory: MetricsDirectory) -> None:
        """Count where the other processes of this service read it; what was counted so far is forgotten."""
        self._directory = directory
        self._begin()

    def forget(self, ended: int) -> None:
        """Keep what a process that ended has counted, and drop its levels; for the first process."""
        self.count("worker_ended")
        if self._directory is not None:
            self._directory.forget(ended)

    def processes(self) -> list[int]:
        """The processes that share these metrics, this one at least."""
        found = self._directory.processes() if self._directory is not None else []
        return sorted({*found, os.getpid()})

    # -- what the service tells --------------------------------------------------------------------

    def count(self, event: str, **labels: str) -> None:
        """Count one more of this event. Label values must be of a small, fixed set: no names, no serials."""
        # Finding a counter by its labels takes longer than counting.
        known = (event, *labels.items()) if labels else event
        place = self._counted.get(known)
        if place is None:
            place = self._counted[known] = self._place_of_event(event, labels)
        with self._lock:
            self._numbers[place] += 1.0

    def duration(self, stage: str, seconds: float) -> None:
        """Note how long a stage of the work took."""
        place = self._timed.get(stage)
        if place is None:
            place = self._timed[stage] = self._place(STAGES, (stage,))
        bucket = place + bisect_left(STAGES.buckets, seconds) + 1
        with self._lock:
            numbers = self._numbers
            numbers[place] += seconds
            numbers[bucket] += 1.0

    def answered(self, method: str, route: str, status: int, seconds: float, reason: str | None) -> None:
        """Note an answered request: its route's pattern, and the slug of an error."""
        known = (method, route, status // 100)
        place = self._answered.get(known)
        if place is None:
            place = self._answered[known] = self._place(REQUESTS, (method, route, f"{status // 100}xx"))
        bucket = place + bisect_left(REQUESTS.buckets, seconds) + 1
        with self._lock:
            numbers = self._numbers
            numbers[place] += seconds
            numbers[bucket] += 1.0
        if reason is not None:
            self.count("problem", route=route, reason=reason)

    def size(self, what: str, number: float) -> None:
        """Note how much was done at once."""
        metric = SIZES.get(what)
        if metric is None:
            return self.count(what)
        place = self._places.get((metric.name, ()))
        if place is None:
            place = self._place(metric, ())
        bucket = place + bisect_left(metric.buckets, number) + 1
        with self._lock:
            self._numbers[place] += number
            self._numbers[bucket] += 1.0
        return None

    def level(self, what: str, value: float, **labels: str) -> None:
        """Note how high something stands in this process now."""
        metric = LEVELS.get(what)
        if metric is None:
            return self.count(what)
        values = _values(metric, labels)
        place = self._places.get((metric.name, values))
        if place is None:
            place = self._place(metric, values)
        self._numbers[place] = value
        return None

    # -- what the page shows -----------------------------------------------------------------------

    def samples(self) -> Samples:
        """What all processes counted, added up; of levels the sum or the highest."""
        if self._directory is None:
            return {_split(name): numbers for name, numbers in self._cells.read()}
        joined: dict[tuple[str, Labels], list[float]] = {}
        for name, numbers in self._directory.read():
            key = _split(name)
            there = joined.get(key)
            if there is None:
                joined[key] = numbers
            elif metric_named(key[0]).joined == "max":
                joined[key] = [max(pair) for pair in zip(there, numbers, strict=True)]
            else:
                joined[key] = [old + new for old, new in zip(there, numbers, strict=True)]
        return joined

    # -- places ------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._counted: dict[object, int] = {}
        self._timed: dict[str, int] = {}
        self._answered: dict[tuple[str, str, int], int] = {}
        self._places: dict[tuple[str, Labels], int] = {}
        self._cells = self._open_cells()
        self._numbers = self._cells.numbers

    def _open_cells(self) -> Cells:
        try:
            return Cells(None) if self._directory is None else self._directory.open_cells()
        except OSError as error:
            _LOG.error("what this process counts is not shown: %s", error.strerror)
            return Cells(None)

    def _place_of_event(self, event: str, labels: Mapping[str, str]) -> int:
        declared = EVENTS.get(event)
        if declared is None:
            return self._place(UNDECLARED, ())
        return self._place(declared.metric, _values(declared.metric, {**declared.implied, **labels}))

    def _place(self, metric: Metric, values: Labels) -> int:
        with self._lock:
            place = self._places.get((metric.name, values))
            if place is None:
                numbers = len(metric.buckets) + 2 if metric.kind == "histogram" else 1
                place = self._cells.allot(json.dumps([metric.kind, metric.name, values]), numbers)
                self._places[metric.name, values] = place
            return place


_observers: "weakref.WeakSet[PrometheusObserver]" = weakref.WeakSet()


def _begin_after_fork() -> None:
    """A child counts in files of its own; of its parent's, or its lock, it must touch nothing."""
    for observer in list(_observers):
        observer._begin()  # noqa: SLF001 - of this module


os.register_at_fork(after_in_child=_begin_after_fork)


def families(samples: Samples, state: Iterable[Value]) -> list[Family]:
    """Everything as Prometheus' library has it, in the catalogue's order; what never occurred is 0."""
    found: dict[str, dict[Labels, list[float]]] = {}
    for (name, labels), numbers in samples.items():
        found.setdefault(name, {})[labels] = numbers
    for value in state:
        found.setdefault(value.metric, {})[value.labels] = [value.value]
    return [_family(metric, found.get(metric.name, {})) for metric in every_metric()]


def _family(metric: Metric, found: dict[Labels, list[float]]) -> Family:
    if metric.kind == "gauge":
        gauge = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
        for labels, numbers in found.items():
            gauge.add_metric(labels, numbers[0])
        return gauge
    zero = [0.0] * (len(metric.buckets) + 2)
    always: list[Labels] = [(value,) for value in metric.values] if metric.labels else [()]
    for labels in always:
        found.setdefault(labels, zero)
    if metric.kind == "counter":
        counter = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
        for labels, numbers in found.items():
            counter.add_metric(labels, numbers[0])
        return counter
    histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, (total, *counts) in found.items():
        buckets, below = [], 0.0
        for bound, number in zip((*map(str, metric.buckets), "+Inf"), counts, strict=True):
            below += number
            buckets.append((bound, below))
        histogram.add_metric(labels, buckets, total)
    return histogram


def _values(metric: Metric, labels: Mapping[str, str]) -> Labels:
    return tuple(str(labels.get(name, ""))[:_LONGEST_VALUE] for name in metric.labels)


def _split(name: str) -> tuple[str, Labels]:
    _, metric, values = json.loads(name)
    return metric, tuple(values)


ReadState = Callable[[], Iterable[Value]]
"""Reads what the page shows beside the counts; it neither raises nor takes long."""
