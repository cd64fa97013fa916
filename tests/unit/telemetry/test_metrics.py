"""Metrics: what the authority tells is counted and shown, on a port of its own."""

import ast
import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ca_service.telemetry.catalogue import EVENTS, LEVELS, SIZES, every_metric
from ca_service.telemetry.metrics import PrometheusObserver, Value
from ca_service.telemetry.page import by_port, metrics_page

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

CODE = Path(__file__).parents[3] / "ca_service"


def get(app: "WSGIApplication", path: str, port: str = "9555", **headers: str) -> tuple[str, str]:
    status: list[str] = []

    def start(line: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        status.append(line)

    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": path,
        "SERVER_PORT": port,
        "QUERY_STRING": "",
        "wsgi.input": io.BytesIO(),
        **headers,
    }
    body: Iterable[bytes] = app(environ, start)
    return status[0], b"".join(body).decode()


def test_events_stages_sizes_levels_and_requests_appear_on_the_page() -> None:
    observer = PrometheusObserver()
    observer.count("certificate_issued")
    observer.count("certificate_refused", reason="token-expired")
    observer.count("certificate_refused", reason="token-expired")
    observer.count("ocsp_status", status="revoked")
    observer.count("ocsp_error", status="try_later")
    observer.duration("log", 0.002)
    observer.duration("log", 99.0)
    observer.size("log_batch", 3)
    observer.level("issuer_keys", 2, issuer="https://issuer.example")
    observer.answered("POST", "/api/v2/signingCert", 400, 0.004, "token-expired")
    status, page = get(metrics_page(observer), "/metrics")
    assert status == "200 OK"
    for line in (
        "casvc_certificates_issued_total 1.0",
        'casvc_certificates_refused_total{reason="token-expired"} 2.0',
        'casvc_ocsp_responses_total{status="revoked"} 1.0',
        'casvc_ocsp_responses_total{status="try_later"} 1.0',
        'casvc_ocsp_responses_total{status="good"} 0.0',
        'casvc_stage_seconds_bucket{le="0.001",stage="log"} 0.0',
        'casvc_stage_seconds_bucket{le="0.0025",stage="log"} 1.0',
        'casvc_stage_seconds_bucket{le="+Inf",stage="log"} 2.0',
        'casvc_stage_seconds_count{stage="log"} 2.0',
        'casvc_stage_seconds_sum{stage="log"} 99.002',
        'casvc_log_batch_entries_bucket{le="2.0"} 0.0',
        'casvc_log_batch_entries_bucket{le="4.0"} 1.0',
        'casvc_issuer_keys{issuer="https://issuer.example"} 2.0',
        'casvc_http_request_seconds_count{method="POST",route="/api/v2/signingCert",status="4xx"} 1.0',
        'casvc_http_problems_total{reason="token-expired",route="/api/v2/signingCert"} 1.0',
    ):
        assert line in page.splitlines(), line
    assert get(metrics_page(observer), "/")[0].startswith("404")
    assert get(metrics_page(observer), "/metrics", HTTP_ACCEPT="application/openmetrics-text")[1].endswith(
        "# EOF\n"
    )


def test_a_bound_of_a_bucket_is_in_the_bucket() -> None:
    observer = PrometheusObserver()
    observer.size("log_batch", 256)
    observer.size("log_batch", 257)
    _, page = get(metrics_page(observer), "/metrics")
    assert 'casvc_log_batch_entries_bucket{le="256.0"} 1.0' in page
    assert 'casvc_log_batch_entries_bucket{le="+Inf"} 2.0' in page


def test_an_observer_never_raises_for_odd_names_or_labels() -> None:
    observer = PrometheusObserver()
    observer.count("OCSP error/odd", status="x")
    observer.size("odd", 1)
    observer.level("odd", 1, label="x")
    observer.count("certificate_refused")
    observer.count("certificate_refused", reason="z" * 1000, other="y")
    _, page = get(metrics_page(observer), "/metrics")
    assert "casvc_undeclared_events_total 3.0" in page
    assert 'casvc_certificates_refused_total{reason=""} 1.0' in page
    assert f'casvc_certificates_refused_total{{reason="{"z" * 128}"}} 1.0' in page


def test_no_number_of_labels_fills_the_memory_or_stops_the_counting() -> None:
    observer = PrometheusObserver()
    for number in range(20_000):
        observer.count("certificate_refused", reason=f"reason-{number}")
    observer.count("certificate_issued")
    observer.duration("decide", 1)
    assert len(observer.samples()) < 16_384


def test_only_the_metrics_port_shows_metrics() -> None:
    def service(_environ: object, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"service"]

    app = by_port("9555", metrics_page(PrometheusObserver()), service)
    assert get(app, "/metrics", port="5555")[1] == "service"
    assert "casvc_stage_seconds" in get(app, "/metrics", port="9555")[1]


def test_the_state_is_on_the_page_beside_the_counts() -> None:
    page = metrics_page(PrometheusObserver(), lambda: [Value("casvc_log_tree_size", ("2026",), 7)])
    assert 'casvc_log_tree_size{log="2026"} 7.0' in get(page, "/metrics")[1]


def test_names_keep_to_the_conventions() -> None:
    names = [metric.name for metric in every_metric()]
    assert len(names) == len(set(names))
    for metric in every_metric():
        assert re.fullmatch(r"casvc_[a-z][a-z_]*[a-z]", metric.name)
        assert not metric.name.endswith("_total"), "the library adds it"
        assert metric.help.endswith("."), metric.name
        assert not re.search("milli|micro|minutes|hours|kilo|mega", metric.name), "base units only"
        if metric.kind == "histogram":
            assert metric.name.endswith(("_seconds", "_entries"))
            assert list(metric.buckets) == sorted(set(metric.buckets))
    _, page = get(metrics_page(PrometheusObserver()), "/metrics")
    shown = {family.name: family for family in text_string_to_metric_families(page)}
    assert set(names) <= set(shown)
    assert all(family.documentation for family in shown.values())


def told() -> Iterator[tuple[str, str, frozenset[str], str]]:
    """Every call of an observer in the code: method, what, names of labels, where."""
    for file in CODE.rglob("*.py"):
        tree = ast.parse(file.read_text())
        constants = {
            target.id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for call in ast.walk(tree):
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute) or not call.args:
                continue
            method = call.func.attr.lstrip("_")
            owner = ast.unparse(call.func.value)
            by_issuer = file.name == "key_cache.py" and owner == "self" and method == "count"
            if method not in ("count", "duration", "size", "level") or not (
                owner.endswith("observer") or by_issuer
            ):
                continue
            first = call.args[0]
            what = constants.get(first.id) if isinstance(first, ast.Name) else getattr(first, "value", None)
            labels = frozenset(keyword.arg or "**" for keyword in call.keywords)
            if isinstance(what, str):
                yield method, what, labels | ({"issuer"} if by_issuer else set()), f"{file}:{call.lineno}"


@pytest.mark.parametrize("method", ["count", "size", "level"])
def test_everything_that_the_code_tells_is_declared_with_its_labels(method: str) -> None:
    declared = {
        "count": {event: found.metric for event, found in EVENTS.items()},
        "size": SIZES,
        "level": LEVELS,
    }[method]
    calls = [call for call in told() if call[0] == method]
    assert len(calls) >= {"count": 30, "size": 1, "level": 3}[method], "the search finds the calls"
    for _, what, labels, where in calls:
        assert what in declared, where
        assert labels == set(declared[what].labels), where
    assert {call[1] for call in calls} >= set(declared) - {"problem", "worker_ended"}, "none is left over"


def test_every_stage_is_explained() -> None:
    text = next(metric.help for metric in every_metric() if metric.name == "casvc_stage_seconds")
    for _, stage, _, where in (call for call in told() if call[0] == "duration"):
        assert stage in text, where
