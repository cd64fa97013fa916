"""The command of gunicorn with deploy/gunicorn.conf.py: the same service; no request lost when workers go."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from tests.support.issuer import LocalIssuer
from tests.support.processes import (
    UNLIMITED,
    RunningService,
    environment,
    free_port,
    http,
    production_service,
    running,
    wait_until,
)
from tests.support.signers import Signers
from tests.support.signing import issue
from tests.support.tls import TlsAuthority

EMAIL = "ada@example.com"
GUNICORN = Path(sys.executable).parent / "gunicorn"
FILE = Path(__file__).parents[2] / "deploy" / "gunicorn.conf.py"


@dataclass(frozen=True)
class Served:
    service: RunningService
    issuer: LocalIssuer
    metrics: str
    certificates: Path

    def signers(self) -> Signers:
        return Signers(self.service.url, self.issuer, EMAIL, certificates=self.certificates)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """With TLS and metrics, and workers that are replaced after every few requests."""
    trust = TlsAuthority.new("Example TLS")
    key, certificate = trust.server("127.0.0.1", tmp_path / "tls")
    key.chmod(0o600)
    bundle = tmp_path / "trust.pem"
    bundle.write_text(trust.pem)
    metrics = f"127.0.0.1:{free_port()}"
    with LocalIssuer() as issuer:
        made = production_service(tmp_path / "ca", issuers=issuer.issuer_file(), environ=UNLIMITED)
        environ = {
            "CASVC_CONFIG": str(made.config),
            "CASVC_SERVER__BIND": made.bind,
            "CASVC_SERVER__WORKERS": "2",
            "CASVC_SERVER__MAX_REQUESTS": "40",
            "CASVC_SERVER__MAX_REQUESTS_JITTER": "20",
            "CASVC_SERVER__TLS_CERTIFICATE": str(certificate),
            "CASVC_SERVER__TLS_KEY": str(key),
            "CASVC_METRICS__BIND": metrics,
            **made.environ,
        }
        service = RunningService(
            directory=made.directory,
            url=made.url.replace("http:", "https:"),
            command=[str(GUNICORN), "--config", str(FILE)],
            environ=environ,
            certificates=bundle,
        )
        with running(service):
            yield Served(service, issuer, f"https://{metrics}/metrics", bundle)


def test_requests_go_on_while_workers_are_replaced_reloaded_and_stopped(served: Served) -> None:
    service, first, then = served.service, served.signers(), served.signers()
    assert service.process is not None
    seen: set[int] = set()

    def replaced() -> bool:
        seen.update(worker.pid for worker in service.workers())
        return len(seen) >= 5 or bool(first.failed)

    with first.asking():
        wait_until(replaced, 120, "three workers in place of others")
    assert first.failed == []
    page = requests.get(served.metrics, verify=str(served.certificates), timeout=60).text
    counts = [line for line in page.splitlines() if line.startswith("casvc_certificates_issued_total")]
    assert sum(float(line.split()[-1]) for line in counts) == first.good, "a worker's count is gone"

    with then.asking():
        with LocalIssuer() as other, http() as session:
            file = service.directory / "issuers.yaml"
            file.write_text(file.read_text() + other.issuer_file().removeprefix("oidc-issuers:\n"))
            service.replace_workers()
            session.verify = str(served.certificates)
            issue(session, service.url, other.token(EMAIL), EMAIL)
        then.wait_for_more()
        assert then.failed == []
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(120) == 0
        service.process = None
        wait_until(lambda: then.refused or then.failed, 60, "nobody listens any more")
    assert then.failed == [], "a connection was accepted and not served"
    logged = service.admin("log", "list").split("entries")[0].split()[-1]
    assert int(logged) == first.good + then.good + 1, "what was signed was also sent"


@pytest.mark.parametrize(
    ("arguments", "environ", "sentence"),
    [
        ((), {"CASVC_CONFIG": ""}, "CASVC_CONFIG is not set"),
        (("--bind", "0.0.0.0:5555"), {}, "gunicorn's bind was given beside the settings file"),
        ((), {"CASVC_SERVER__BIND": "0.0.0.0:5555"}, "[server] trusted_proxies"),
        ((), {"CASVC_SERVER__WRKERS": "3"}, "CASVC_SERVER__WRKERS is no setting"),
    ],
)
def test_what_serve_refuses_gunicorn_refuses_with_the_same_sentence(
    tmp_path: Path, arguments: tuple[str, ...], environ: dict[str, str], sentence: str
) -> None:
    made = production_service(tmp_path / "ca", issuers="oidc-issuers: {}\n")
    refused = subprocess.run(
        [GUNICORN, "--config", FILE, *arguments],
        env=environment({"CASVC_CONFIG": str(made.config), "CASVC_SERVER__BIND": made.bind} | environ),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert refused.returncode == 2, refused.stderr
    assert sentence in refused.stderr
    assert "Traceback" not in refused.stderr
