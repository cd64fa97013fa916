"""`serve` as processes: metrics of all workers on their own port, long tokens, nothing left behind."""

import json
import signal
import stat
from pathlib import Path

import pytest
import requests

from tests.support.issuer import LocalIssuer
from tests.support.processes import free_port, production_service, run, running
from tests.support.signing import issue


def test_metrics_of_all_workers_are_on_their_own_port_and_go_with_the_server(
    tmp_path: Path, session: requests.Session
) -> None:
    metrics = f"http://127.0.0.1:{free_port()}/metrics"
    temporary, home = tmp_path / "tmp", tmp_path / "home"
    temporary.mkdir()
    home.mkdir()
    environ = {
        "CASVC_METRICS__BIND": metrics.removeprefix("http://").removesuffix("/metrics"),
        "TMPDIR": str(temporary),
        "HOME": str(home),
    }
    with LocalIssuer() as issuer:
        service = production_service(tmp_path / "ca", issuers=issuer.issuer_file(), environ=environ)
        with running(service):
            for number in range(6):
                email = f"signer-{number}@example.com"
                issue(session, service.url, issuer.token(email), email)
            lines = requests.get(metrics, timeout=60).text.splitlines()
            assert "casvc_certificates_issued_total 6.0" in lines
            assert not [line for line in lines if "@example.com" in line]
            assert requests.get(metrics.replace("/metrics", "/healthz"), timeout=60).status_code == 404
            assert session.get(f"{service.url}/metrics", timeout=60).status_code == 404
            counted_in = {
                Path(mapped.path).parent
                for worker in service.workers()
                for mapped in worker.memory_maps()
                if "ca-service-metrics-" in mapped.path
            }
            assert len(counted_in) == 1
            assert service.process is not None
            process = service.process
            process.send_signal(signal.SIGTERM)
            assert process.wait(120) == 0
    assert not counted_in.pop().exists()
    assert not list(temporary.iterdir())
    assert not list(home.rglob("*")), "gunicorn left something in HOME"
    for file in (service.directory / "state").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file


def test_a_long_token_reaches_the_service_and_its_answer_names_no_version(
    tmp_path: Path, session: requests.Session
) -> None:
    with LocalIssuer() as issuer:
        service = production_service(tmp_path / "ca", issuers=issuer.issuer_file(), workers=1)
        with running(service):
            email = "many.groups@example.com"
            token = issuer.token(email, claims={"groups": [f"group-{number:04}" for number in range(750)]})
            assert 13_000 < len(token) < 16_384
            issue(session, service.url, token, email)
            answer = session.post(
                f"{service.url}/api/v2/signingCert",
                headers={"Authorization": f"Bearer {token}"},
                json={},
                timeout=60,
            )
            assert answer.status_code == 400
            assert not any(letter.isdigit() for letter in answer.headers["Server"])
        lines = [json.loads(line) for line in service.output.read_text().splitlines()]
        assert {"request"} <= {line["message"] for line in lines}
        assert token not in service.output.read_text()


@pytest.mark.parametrize("bind", ["192.0.2.1", "[::]"])
def test_serve_refuses_plain_http_off_loopback(tmp_path: Path, bind: str) -> None:
    service = production_service(tmp_path / "ca", issuers="oidc-issuers: {}\n")
    refused = run("serve", "--config", service.config, "--bind", f"{bind}:{free_port()}")
    assert refused.returncode == 2
    assert "trusted_proxies" in refused.stderr


def test_a_key_of_another_directory_does_not_sign_this_log(tmp_path: Path) -> None:
    ours = production_service(tmp_path / "ours", issuers="oidc-issuers: {}\n")
    theirs = production_service(tmp_path / "theirs", issuers="oidc-issuers: {}\n")
    (log_key,) = (ours.directory / "private").glob("log-*.key")
    log_key.write_bytes((theirs.directory / "private" / log_key.name).read_bytes())
    refused = run("serve", "--config", ours.config, "--bind", ours.bind)
    assert refused.returncode == 2
    assert "[log] key" in refused.stderr
