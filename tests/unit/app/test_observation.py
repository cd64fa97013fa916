"""The state on the page of metrics: read rarely, never waited for long, and never the end of the page."""

import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from ca_service.app import Service, build_service, observation
from ca_service.app.observation import ServiceState
from ca_service.errors import StoreUnavailable
from ca_service.settings import load_settings
from ca_service.store.standing import SqlStanding, Standing
from ca_service.telemetry.page import metrics_page
from tests.support.processes import invoke

EMPTY = Standing(logs=(), crls=(), generation=0, audit_records=0, blocks=0)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Service:
    folder = tmp_path_factory.mktemp("watched") / "ca"
    done = invoke("init", "--dir", folder, "--url", "http://127.0.0.1:5555")
    assert done.returncode == 0, done.stderr
    return build_service(load_settings(folder / "ca.toml", {}))


def values(state: ServiceState) -> Mapping[str, float]:
    return {found.metric: found.value for found in state.read()}


def test_everything_is_read(service: Service) -> None:
    found = values(ServiceState(service))
    assert found["casvc_state_read"] == found["casvc_ready"] == 1
    assert found["casvc_log_tree_size"] == found["casvc_high_water_mark_tree_size"] == 0
    assert found["casvc_resident_memory_bytes"] > 1e6
    assert found["casvc_certificate_not_after_timestamp_seconds"] > found["casvc_start_time_seconds"]
    service.close()


def test_the_database_is_asked_once_in_five_seconds_however_many_ask(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def read(standing: SqlStanding) -> Standing:
        asked.append(standing)
        return EMPTY

    now = 100.0
    monkeypatch.setattr(SqlStanding, "read", read)
    state = ServiceState(service, lambda: now)
    for _ in range(5):
        assert values(state)["casvc_blocks"] == 0
    assert len(asked) == 1
    now += observation.FRESH_SECONDS
    state.read()
    assert len(asked) == 2
    service.close()


@pytest.mark.parametrize("trouble", [StoreUnavailable("away"), RuntimeError("a defect")])
def test_what_fails_is_left_out_and_said(
    service: Service, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    def read(_: SqlStanding) -> Standing:
        raise trouble

    monkeypatch.setattr(SqlStanding, "read", read)
    found = values(ServiceState(service))
    assert found["casvc_state_read"] == 0
    assert "casvc_log_tree_size" not in found
    assert found["casvc_ready"] == 1, "the checks were made before"
    assert found["casvc_build_info"] == 1
    service.close()


def test_a_database_that_hangs_holds_no_page_up(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    asked: list[object] = []

    def read(standing: SqlStanding) -> Standing:
        asked.append(standing)
        assert go_on.wait(60)
        return EMPTY

    monkeypatch.setattr(SqlStanding, "read", read)
    monkeypatch.setattr(observation, "PATIENCE_SECONDS", 0.05)
    state = ServiceState(service)
    for _ in range(3):
        found = values(state)
        assert (found["casvc_state_read"], found["casvc_ready"]) == (0, 0)
        assert found["casvc_build_info"] == 1
    assert len(asked) == 1, "nobody asks beside the one who waits"
    go_on.set()
    monkeypatch.setattr(observation, "PATIENCE_SECONDS", 60)
    assert values(state)["casvc_state_read"] == 1
    page = b"".join(metrics_page(service.observer, state.read)(ENVIRON, lambda *_: lambda _: None))
    assert b"casvc_state_read_failures_total" in page
    service.close()


ENVIRON = {"REQUEST_METHOD": "GET", "PATH_INFO": "/metrics", "QUERY_STRING": ""}


def test_the_end_of_the_tls_certificate_is_shown_and_one_that_cannot_be_read_is_not(
    service: Service, tmp_path: Path
) -> None:
    chain = service.settings.authority.certificates
    (found,) = observation._tls(chain)
    assert found.labels == ("tls", "")
    assert found.value > 1.7e9
    assert list(observation._tls(tmp_path / "missing.pem")) == []
