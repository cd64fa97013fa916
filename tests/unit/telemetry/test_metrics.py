"""Metrics: what the authority tells is counted, over all processes, on a port of its own."""

import io
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ca_service.telemetry.metrics import PrometheusObserver, by_port, metrics_page

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


def get(app: "WSGIApplication", path: str, port: str = "9555") -> tuple[str, str]:
    status: list[str] = []

    def start(line: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        status.append(line)

    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": path,
        "SERVER_PORT": port,
        "QUERY_STRING": "",
        "wsgi.input": io.BytesIO(),
    }
    body: Iterable[bytes] = app(environ, start)
    return status[0], b"".join(body).decode()


def test_events_and_stages_appear_on_the_page() -> None:
    observer = PrometheusObserver()
    observer.count("certificate_issued")
    observer.count("certificate_refused", reason="token-expired")
    observer.count("certificate_refused", reason="token-expired")
    observer.duration("log", 0.002)
    status, page = get(metrics_page(observer), "/metrics")
    assert status == "200 OK"
    assert "casvc_certificate_issued_total 1.0" in page
    assert 'casvc_certificate_refused_total{reason="token-expired"} 2.0' in page
    assert 'casvc_stage_seconds_count{stage="log"} 1.0' in page
    assert get(metrics_page(observer), "/")[0].startswith("404")


def test_an_observer_never_raises_for_odd_names_or_labels() -> None:
    observer = PrometheusObserver()
    observer.count("OCSP error/odd", status="x")
    observer.count("OCSP error/odd")
    observer.count("OCSP error/odd", other="y")
    observer.count("OCSP error/odd", status="z" * 1000)
    _, page = get(metrics_page(observer), "/metrics")
    assert 'casvc_ocsp_error_odd_total{status="x"} 1.0' in page
    assert 'casvc_ocsp_error_odd_total{status=""} 2.0' in page


def test_only_the_metrics_port_shows_metrics() -> None:
    def service(_environ: object, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"service"]

    app = by_port("9555", metrics_page(PrometheusObserver()), service)
    assert get(app, "/metrics", port="5555")[1] == "service"
    assert "casvc_stage_seconds" in get(app, "/metrics", port="9555")[1]


def test_counts_of_several_processes_are_added_up() -> None:
    program = """
        import os
        from ca_service.telemetry.multiprocess import *
        directory = open_metrics_directory()
        from ca_service.telemetry.metrics import PrometheusObserver, metrics_page
        observer = PrometheusObserver()
        for _ in range(3):
            child = os.fork()
            if child == 0:
                observer.count("certificate_issued")
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            forget_process(child)
        start = lambda *_: None
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/metrics", "QUERY_STRING": ""}
        print(b"".join(metrics_page(observer)(environ, start)).decode())
        close_metrics_directory(directory)
        print("left over:", directory.exists())
    """
    environ = {name: value for name, value in os.environ.items() if name != "PROMETHEUS_MULTIPROC_DIR"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=False,
        env=environ,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 0, done.stderr
    assert "casvc_certificate_issued_total 3.0" in done.stdout
    assert "left over: False" in done.stdout
