"""The page of metrics, on a port of its own."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family

from ca_service.authority.waiting import about_to_wait
from ca_service.telemetry.metrics import PrometheusObserver, ReadState, families

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class _Once(CollectorRegistry):
    """What the library's encoders write out."""

    def __init__(self, found: Iterable[Family]) -> None:
        super().__init__()
        self._found = found

    def collect(self) -> Iterable[Family]:
        return self._found


def metrics_page(observer: PrometheusObserver, state: ReadState = tuple) -> "WSGIApplication":
    """The WSGI application that shows at GET /metrics what all processes counted, and the state beside it."""

    def page(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if environ.get("PATH_INFO") != "/metrics" or environ.get("REQUEST_METHOD") not in ("GET", "HEAD"):
            start_response("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
            return [b"Metrics are at GET /metrics.\n"]
        encode, content_type = choose_encoder(environ.get("HTTP_ACCEPT", ""))
        now = state()
        body = encode(_Once(families(observer.samples(), now)))
        headers = [("Content-Type", content_type), ("Content-Length", str(len(body)))]
        start_response("200 OK", [*headers, ("Cache-Control", "no-store")])
        return [] if environ.get("REQUEST_METHOD") == "HEAD" else [body]

    return page


def by_port(port: str, metrics: "WSGIApplication", service: "WSGIApplication") -> "WSGIApplication":
    """Answer what arrives on the metrics port with the metrics, all else with the service.

    The port is that of the listening socket as the server saw it, never what a client wrote into Host.
    """

    def choose(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if environ.get("SERVER_PORT") != port:
            return service(environ, start_response)
        about_to_wait()  # it reads the files of all processes, and the database
        return metrics(environ, start_response)

    return choose
