"""Prometheus metrics: the Observer that the authority tells what it did, and the page that shows it."""

import os
import re
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, make_wsgi_app
from prometheus_client.multiprocess import MultiProcessCollector

from ca_service.telemetry.multiprocess import VARIABLE

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_STAGES = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_NOT_A_NAME = re.compile(r"[^a-z0-9]+")
_LONGEST_VALUE = 64


class PrometheusObserver:
    """Counts events as casvc_EVENT_total, and times stages in casvc_stage_seconds.

    An event's labels are those of its first count: later ones are fitted to them, because a metric that
    raises would fail a request.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """Register in a registry of its own; with several processes their shared directory joins them."""
        self.registry = registry or CollectorRegistry()
        self._lock = threading.Lock()
        self._counters: dict[str, tuple[Counter, tuple[str, ...]]] = {}
        self._counted: dict[tuple[str, tuple[tuple[str, str], ...]], Counter] = {}
        self._timed: dict[str, Histogram] = {}
        self._stages = Histogram(
            "casvc_stage_seconds",
            "Time spent in each stage of the work.",
            ["stage"],
            buckets=_STAGES,
            registry=self.registry,
        )

    def count(self, event: str, **labels: str) -> None:
        """Count one more of this event. Label values must be of a small, fixed set: no names, no serials."""
        # Finding a counter by its labels takes longer than counting.
        place = (event, tuple(labels.items()))
        counted = self._counted.get(place)
        if counted is None:
            counter, names = self._counters.get(event) or self._counter(event, labels)
            values = [labels.get(name, "")[:_LONGEST_VALUE] for name in names]
            counted = self._counted[place] = counter.labels(*values) if names else counter
        counted.inc()

    def duration(self, stage: str, seconds: float) -> None:
        """Note how long a stage of the work took."""
        timed = self._timed.get(stage)
        if timed is None:
            timed = self._timed[stage] = self._stages.labels(stage)
        timed.observe(seconds)

    def _counter(self, event: str, labels: dict[str, str]) -> tuple[Counter, tuple[str, ...]]:
        with self._lock:
            if event not in self._counters:
                names = tuple(sorted(labels))
                name = "casvc_" + _NOT_A_NAME.sub("_", event.lower()).strip("_")
                text = event.replace("_", " ").capitalize() + "."
                self._counters[event] = (Counter(name, text, names, registry=self.registry), names)
            return self._counters[event]


def metrics_page(observer: PrometheusObserver) -> "WSGIApplication":
    """The WSGI application that shows the metrics of all processes, or of this one when it is alone."""
    if VARIABLE not in os.environ:
        return _only_metrics(make_wsgi_app(observer.registry))

    def page(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        # A collector per request: it reads the files of all processes as they are now.
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # the library leaves it untyped
        body: Iterable[bytes] = make_wsgi_app(registry)(environ, start_response)
        return body

    return _only_metrics(page)


def by_port(port: str, metrics: "WSGIApplication", service: "WSGIApplication") -> "WSGIApplication":
    """Answer what arrives on the metrics port with the metrics, all else with the service.

    The port is that of the listening socket as the server saw it, never what a client wrote into Host.
    """

    def choose(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        chosen = metrics if environ.get("SERVER_PORT") == port else service
        return chosen(environ, start_response)

    return choose


def _only_metrics(page: Callable[["WSGIEnvironment", "StartResponse"], Iterable[bytes]]) -> "WSGIApplication":
    def answer(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if environ.get("PATH_INFO") == "/metrics" and environ.get("REQUEST_METHOD") in ("GET", "HEAD"):
            return page(environ, start_response)
        start_response("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
        return [b"Metrics are at GET /metrics.\n"]

    return answer
