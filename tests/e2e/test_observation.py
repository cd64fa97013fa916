"""What operators watch: metrics of a running service with traffic, and the dashboard and alerts over them."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from grafana_foundation_sdk.models.prometheus import Dataquery as PrometheusQuery

from ca_service import errors
from tests.support.issuer import LocalIssuer
from tests.support.processes import RunningService, free_port, production_service, running, wait_until
from tests.support.prometheus import (
    GIVEN_BY_PROMETHEUS,
    Page,
    groupings,
    scrape,
    selectors,
)
from tests.support.signing import bearer, issue, key_body, new_key
from tests.support.verifier import ask_ocsp, fetch_crl, ocsp_url

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/observation"
PAGE = ROOT / "docs/how-to/watch-the-service.md"
EMAIL = "signer@example.com"
CERTIFICATES = 4

ONLY_IN_TROUBLE = {
    "casvc_log_batches_failed",
    "casvc_log_export_failures",
    "casvc_high_water_mark_failures",
    "casvc_housekeeping_failures",
    "casvc_issuer_stale_keys_served",
    "casvc_issuer_keys_fetched_for_unknown_kid",
    "casvc_admin_forbidden",
    "casvc_redis_errors",
    "casvc_overload_refusals",
    "casvc_certificates_revoked",
}
"""Metrics that a healthy service shows without a sample: their labels are what the catalogue says."""
ELSEWHERE = {("role", "tls")}
"""Values that this service does not show, since it is set otherwise."""


@dataclass
class Watched:
    """A service with metrics, after some traffic."""

    service: RunningService
    issuer: LocalIssuer
    address: str
    issued: int

    def page(self) -> Page:
        """What Prometheus would read now."""
        return scrape(self.address)

    def read_anew(self) -> Page | None:
        """The page, once it shows what the database holds since the traffic."""
        page = self.page()
        read = page.value("casvc_state_read") == page.value("casvc_audit_records") == 1
        return page if read else None


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    address = f"127.0.0.1:{free_port()}"
    environ = {"CASVC_METRICS__BIND": address, "CASVC_OCSP__SIGNER": "delegated"}
    with LocalIssuer() as issuer, requests.Session() as session:
        session.headers["Connection"] = "close"
        away = f"http://127.0.0.1:{free_port()}"
        issuers = yaml.safe_load(issuer.issuer_file())
        first = next(iter(issuers["oidc-issuers"].values()))
        issuers["oidc-issuers"][away] = {**first, "issuer-url": away}
        service = production_service(folder / "ca", issuers=yaml.safe_dump(issuers), environ=environ)
        with service.config.open("a") as file:
            file.write(
                f'\n[[admin_role]]\nrole = "viewer"\nissuer = "{issuer.url}"\nclaims = {{staff = true}}\n'
            )
        with running(service):
            # It is ready before its last worker has started.
            wait_until(lambda: scrape(address).value("casvc_workers") == 2, 60, "both workers run")
            make_traffic(service, issuer, away, session, folder)
            yield Watched(service, issuer, address, CERTIFICATES)


def make_traffic(
    service: RunningService, issuer: LocalIssuer, away: str, session: requests.Session, folder: Path
) -> None:
    for _ in range(CERTIFICATES):
        issued = issue(session, service.url, issuer.token(EMAIL), EMAIL)
    written = issued.write(folder / "issued")
    ask_ocsp(written, ocsp_url(issued.leaf))
    ask_ocsp(written, ocsp_url(issued.leaf), serial="1234")
    fetch_crl(session, issued.leaf)
    service.admin("revoke", "certificate", issued.serial)
    ask_ocsp(written, ocsp_url(issued.leaf))
    fetch_crl(session, issued.leaf)
    for token in (issuer.token(EMAIL, lifetime=-60), issuer.token(EMAIL, claims={"iss": away}), "x"):
        session.post(
            f"{service.url}/api/v2/signingCert",
            json=key_body(new_key(), EMAIL),
            headers=bearer(token),
            timeout=60,
        )
    session.post(f"{service.url}/ocsp", data=b"no request", timeout=60)
    session.get(f"{service.url}/admin/v1/whoami", headers=bearer("x"), timeout=60)
    session.get(f"{service.url}/nowhere", timeout=60)


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "grafana-dashboard.json").read_text())
    return found


def alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def queries() -> dict[str, str]:
    """Every query of dashboard and alerts, by where it is, with Grafana's variables filled in."""
    found = {f"alert {rule['alert']}": rule["expr"] for rule in alerts()}
    board = dashboard()
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            found[f"panel {panel['title']} {target['refId']}"] = target["expr"]
    for annotation in board["annotations"]["list"]:
        found[f"annotation {annotation['name']}"] = annotation["expr"]
    filled = {place: query.replace("$__rate_interval", "5m") for place, query in found.items()}
    return {place: query.replace("$instance", ".*") for place, query in filled.items()}


def test_the_page_counts_what_happened(watched: Watched) -> None:
    page = watched.page()
    assert page.value("casvc_certificates_issued_total") == watched.issued
    for reason in ("token-expired", "issuer-unavailable", "token-malformed"):
        assert page.value("casvc_certificates_refused_total", reason=reason) == 1, reason
    for status, number in {"good": 1, "revoked": 1, "unknown": 1, "malformed_request": 1}.items():
        assert page.value("casvc_ocsp_responses_total", status=status) == number, status
    for stage in ("decide", "precertificate", "log", "certificate"):
        assert page.value("casvc_stage_seconds_count", stage=stage) == watched.issued, stage
    posted = {"method": "POST", "route": "/api/v2/signingCert"}
    assert page.value("casvc_http_request_seconds_count", status="2xx", **posted) == watched.issued
    assert page.value("casvc_http_request_seconds_count", status="4xx", **posted) == 2
    assert page.value("casvc_http_request_seconds_count", status="5xx", **posted) == 1
    assert page.value("casvc_log_batch_entries_sum") == watched.issued
    (log,) = page.values("casvc_log_tree_size", "log")
    wait_until(
        lambda: watched.page().value("casvc_log_tree_size", log=log) == watched.issued, 60, "it is read anew"
    )
    assert page.value("casvc_issuer_keys", issuer=watched.issuer.url) == 1
    assert page.value("casvc_issuer_keys_fetched_timestamp_seconds", issuer=watched.issuer.url) > 1.7e9
    assert page.value("casvc_workers") == page.value("casvc_workers_configured") == 2
    wait_until(lambda: watched.page().value("casvc_audit_records") == 1, 60, "the audit head is shown")
    wait_until(lambda: watched.page().value("casvc_ready") == 1, 60, "it is ready")
    assert watched.page().value("casvc_state_read") == 1
    assert page.value("casvc_undeclared_events_total") == 0
    assert page.values("casvc_certificate_not_after_timestamp_seconds", "role") == {"root", "issuing", "ocsp"}
    assert page.value("casvc_cpu_seconds_total") > 0
    assert EMAIL not in page.text


def test_promtool_finds_no_fault_with_the_page_the_alerts_and_the_queries(
    watched: Watched, tmp_path: Path
) -> None:
    def promtool(*arguments: str, content: str | None = None) -> str:
        command = ["promtool", *arguments]
        done = subprocess.run(
            command, input=content, cwd=FOLDER, capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    assert promtool("check", "metrics", content=watched.page().text) == ""
    promtool("check", "rules", "--lint-fatal", "alerts.yaml")
    promtool("test", "rules", "alerts-test.yaml")
    rules = [{"record": f"q:{number}", "expr": query} for number, query in enumerate(queries().values())]
    panels = tmp_path / "panels.yaml"
    panels.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", str(panels))


def test_every_metric_and_label_that_dashboard_and_alerts_name_is_on_the_page(watched: Watched) -> None:
    page = wait_until(watched.read_anew, 60, "the state is read anew")
    assert page is not None
    slugs = {kind.reason for kind in every_error(errors.CAError)}
    named: set[str] = set()
    for place, query in queries().items():
        known = set(GIVEN_BY_PROMETHEUS)
        for selector in selectors(query):
            if selector.name == "up":
                continue
            metric = selector.declared
            named.add(metric.name)
            assert metric.name in page.families, f"{place}: {selector.name}"
            labels = page.labels(selector.name)
            if metric.name in ONLY_IN_TROUBLE:
                labels |= set(metric.labels)
            else:
                assert selector.name in {name for name, _ in page.samples}, f"{place}: {selector.name}"
            known |= labels
            for label, operator, value in selector.matchers:
                if label in GIVEN_BY_PROMETHEUS:
                    continue
                assert label in labels, f"{place}: {selector.name} has no label {label}"
                if label == "reason":
                    assert set(value.split("|")) <= slugs, f"{place}: {value}"
                elif operator in ("=", "=~"):
                    there = page.values(selector.name, label)
                    for one in value.split("|") if operator == "=~" else [value]:
                        assert (label, one) in ELSEWHERE or any(re.fullmatch(one, it) for it in there), (
                            f"{place}: no {selector.name} has {label}={one}, only {there}"
                        )
        assert groupings(query) <= known, f"{place}: {groupings(query) - known}"
    assert len(named) > 50, "the search finds the metrics"
    assert page.families >= named


def every_error(kind: type[errors.CAError]) -> Iterator[type[errors.CAError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from every_error(below)


def test_each_alert_says_what_is_wrong_and_where_it_is_explained() -> None:
    sections = set(re.findall(r"^### (.+)$", PAGE.read_text(), re.MULTILINE))
    for rule in alerts():
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"].endswith(".")
        assert rule["annotations"]["description"].endswith(".")
        assert rule["annotations"]["runbook"] == (f"docs/how-to/watch-the-service.md#{rule['alert'].lower()}")
    named = {rule["alert"] for rule in alerts()}
    assert named == {section for section in sections if section.startswith("CaService")}
    tested = (FOLDER / "alerts-test.yaml").read_text()
    assert named == set(re.findall(r'alertname="(\w+)"', tested)), "each is raised by its test"


NOT_IN_ITS_SCHEMA = {"titleFormat", "textFormat", "definition"}
"""What Grafana reads and writes though its schema names it nowhere: words of annotations and variables."""


def test_grafanas_schema_knows_every_member_of_the_dashboard() -> None:
    register_default_plugins()
    board = dashboard()
    read = Dashboard.from_json(board)
    targets = [one for panel in read.panels or () for one in getattr(panel, "targets", None) or ()]
    assert targets
    assert all(isinstance(one, PrometheusQuery) for one in targets)
    left_out = set(differing(board, json.loads(JSONEncoder().encode(read))))
    assert {path.rpartition("/")[2] for path in left_out} <= NOT_IN_ITS_SCHEMA, left_out


def differing(given: Any, understood: Any, path: str = "") -> Iterator[str]:
    """Where what was understood lacks something of what was given, or has another value."""
    if isinstance(given, dict) and isinstance(understood, dict):
        for name, value in given.items():
            yield from differing(value, understood.get(name), f"{path}/{name}")
    elif isinstance(given, list) and isinstance(understood, list) and len(given) == len(understood):
        for number, (one, other) in enumerate(zip(given, understood, strict=True)):
            yield from differing(one, other, f"{path}/{number}")
    elif given != understood:
        yield path


def test_the_dashboard_has_the_form_that_grafana_imports() -> None:
    board = dashboard()
    assert board["schemaVersion"] >= 36
    assert board["uid"]
    assert "id" not in board, "an id is of one Grafana"
    variables = {variable["name"] for variable in board["templating"]["list"]}
    assert variables == {"datasource", "instance"}
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(board))) <= variables | {"__rate_interval", "__all"}
    numbers = [panel["id"] for panel in board["panels"]]
    assert len(numbers) == len(set(numbers))
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        assert panel["title"]
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        squares = {
            (column, line)
            for column in range(place["x"], place["x"] + place["w"])
            for line in range(place["y"], place["y"] + place["h"])
        }
        assert not squares & taken, f"{panel['title']} covers another"
        taken |= squares
        if panel["type"] == "row":
            continue
        assert panel["type"] in ("timeseries", "stat")
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["targets"]
        for target in panel["targets"]:
            assert (
                target["datasource"]
                == panel["datasource"]
                == {
                    "type": "prometheus",
                    "uid": "${datasource}",
                }
            )
            assert 'instance=~"$instance"' in target["expr"]


def test_a_killed_worker_takes_no_count_with_it_and_leaves_no_level(
    watched: Watched, session: requests.Session
) -> None:
    before = watched.page()
    issued = before.value("casvc_certificates_issued_total")
    ended = before.value("casvc_workers_ended_total")
    for worker in watched.service.workers():
        os.kill(worker.pid, signal.SIGKILL)
    wait_until(lambda: answers(watched), 60, "other workers answer")
    wait_until(lambda: watched.page().value("casvc_workers_ended_total") == ended + 2, 60, "it is noticed")
    wait_until(lambda: watched.page().value("casvc_workers") == 2, 60, "two others run")
    assert watched.page().value("casvc_certificates_issued_total") == issued
    issue(session, watched.service.url, watched.issuer.token(EMAIL), EMAIL)
    watched.issued += 1
    assert watched.page().value("casvc_certificates_issued_total") == issued + 1
    assert watched.page().value("casvc_cpu_seconds_total") >= before.value("casvc_cpu_seconds_total")


def answers(watched: Watched) -> bool:
    try:
        return requests.get(f"http://{watched.address}/metrics", timeout=60).status_code == 200
    except requests.RequestException:
        return False


def test_the_page_is_shown_without_a_database_and_says_so(watched: Watched) -> None:
    state = watched.service.directory / "state"
    file, aside = state / "ca.db", state / "aside.db"
    file.rename(aside)
    try:
        # Each worker notices for itself.
        page = wait_until(lambda: not_ready(watched), 60, "it is noticed")
        assert page is not None
        assert page.value("casvc_check_ok", check="database") == 0
        assert page.values("casvc_certificate_not_after_timestamp_seconds", "role") >= {"root", "issuing"}
        assert page.value("casvc_certificates_issued_total") == watched.issued
    finally:
        aside.rename(file)
    wait_until(lambda: watched.page().value("casvc_ready") == 1, 60, "it is ready again")


def not_ready(watched: Watched) -> Page | None:
    page = watched.page()
    return None if page.value("casvc_ready") else page
