"""`serve` refuses what would be unsafe before it listens, and hands gunicorn the limits we promise."""

import contextlib
import os
from pathlib import Path

import pytest

from ca_service.cli.serve import refuse_open_http, refuse_taken_address, with_free_metrics
from ca_service.cli.server import ServerApplication, server_options, worker_count
from ca_service.errors import ConfigurationError
from ca_service.settings import Settings, load_settings
from ca_service.settings.rendering import EXAMPLE, settings_file
from tests.unit.cli.conftest import Host, run


def settings(tmp_path: Path, **environ: str) -> Settings:
    (tmp_path / "ca.toml").write_text(settings_file(EXAMPLE))
    return load_settings(tmp_path / "ca.toml", environ)


@pytest.mark.parametrize("bind", ["0.0.0.0:5555", "[::]:5555", "192.0.2.1:5555", "ca.example.com:5555"])
def test_plain_http_off_loopback_needs_a_proxy_or_a_certificate(tmp_path: Path, bind: str) -> None:
    with pytest.raises(ConfigurationError, match=r"\[server\] trusted_proxies"):
        refuse_open_http(settings(tmp_path, CASVC_SERVER__BIND=bind))
    refuse_open_http(settings(tmp_path, CASVC_SERVER__BIND=bind, CASVC_SERVER__TRUSTED_PROXIES="10.0.0.0/8"))
    files = {"CASVC_SERVER__TLS_CERTIFICATE": "tls.pem", "CASVC_SERVER__TLS_KEY": "tls.key"}
    refuse_open_http(settings(tmp_path, CASVC_SERVER__BIND=bind, **files))


def test_a_certificate_without_its_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"\[server\] tls_certificate .*both"):
        settings(tmp_path, CASVC_SERVER__TLS_CERTIFICATE="tls.pem")


@pytest.mark.parametrize("bind", ["127.0.0.1:5555", "[::1]:5555", "localhost:5555", "127.8.8.8:1"])
def test_loopback_needs_no_proxy(tmp_path: Path, bind: str) -> None:
    refuse_open_http(settings(tmp_path, CASVC_SERVER__BIND=bind))


def test_an_issuer_file_with_the_development_provider_is_refused(host: Host) -> None:
    (host.folder / "issuers.yaml").write_text(
        "oidc-issuers:\n  http://127.0.0.1:5555/dev-idp/:\n    issuer-url: http://127.0.0.1:5555/dev-idp/\n"
        "    client-id: sigstore\n    type: email\n"
    )
    refused = run("serve", "--config", host.config)
    assert refused.exit_code == 2
    assert "ca-service dev" in refused.stderr


def test_a_wrong_option_is_named_like_a_setting(host: Host) -> None:
    refused = run("serve", "--config", host.config, "--bind", "5555")
    assert refused.exit_code == 2
    assert "[server] bind from command line: expected HOST:PORT" in refused.stderr


@pytest.mark.enable_socket
def test_an_address_that_is_taken_is_refused_with_its_setting() -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigurationError, match=r"\[metrics\] bind: .*already in use"):
            refuse_taken_address("[metrics] bind", bind)


@pytest.mark.enable_socket
def test_metrics_that_nobody_asked_for_keep_no_service_from_starting(tmp_path: Path) -> None:
    import socket

    address = settings(tmp_path).metrics.bind
    assert address == "127.0.0.1:9555"
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):  # somebody else has it, which is as good
            taken.bind(("127.0.0.1", 9555))
            taken.listen()
        assert with_free_metrics(settings(tmp_path)).metrics.bind == ""
        with pytest.raises(ConfigurationError, match=r"\[metrics\] bind: .*already in use"):
            with_free_metrics(settings(tmp_path, CASVC_METRICS__BIND=address))


def test_gunicorn_takes_every_option_and_opens_no_socket_of_its_own(tmp_path: Path) -> None:
    chosen = settings(tmp_path, CASVC_METRICS__BIND="127.0.0.1:9555", CASVC_SERVER__WORKERS="3")
    options = server_options(chosen, after_fork=lambda: None, close=lambda: None, reload=lambda: None)
    server = ServerApplication(lambda _environ, _start: [], options)
    assert server.cfg.bind == ["127.0.0.1:5555", "127.0.0.1:9555"]
    assert (server.cfg.workers, server.cfg.worker_class_str) == (3, "LoopWorker")
    assert server.cfg.control_socket_disable is True
    assert server.cfg.limit_request_field_size >= 16384
    assert server.cfg.umask == 0o077
    assert server.cfg.accesslog is None


def test_there_is_a_worker_for_each_core_unless_set(tmp_path: Path) -> None:
    assert worker_count(settings(tmp_path)) == len(os.sched_getaffinity(0))
    assert worker_count(settings(tmp_path, CASVC_SERVER__WORKERS="5")) == 5
