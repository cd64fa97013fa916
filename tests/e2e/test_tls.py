"""The service that ends TLS itself, and the process beside it that serves status in plain http."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from tests.support.issuer import LocalIssuer
from tests.support.processes import (
    CA_SERVICE,
    RunningService,
    free_port,
    http,
    production_service,
    running,
    wait_until,
)
from tests.support.signing import issue
from tests.support.tls import TlsAuthority
from tests.support.verifier import ca_issuers_url, crl_url, fetch_crl

EMAIL = "ada@example.com"
GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "watch-the-service.md"


def documented(metrics: str, server_name: str, ca_file: Path) -> dict[str, Any]:
    """What the guide has Prometheus do for a service that ends TLS, with the values of this test."""
    (text,) = re.findall(
        r"```yaml\n(scrape_configs:\n(?:(?!```).)*scheme: https.*?)```", GUIDE.read_text(), re.DOTALL
    )
    for shipped, here in (
        ("127.0.0.1:9555", metrics),
        ("ca.example.com", server_name),
        ("/etc/prometheus/ca.pem", str(ca_file)),
    ):
        assert shipped in text
        text = text.replace(shipped, here)
    found: dict[str, Any] = yaml.safe_load(text)
    return found


@contextmanager
def prometheus(folder: Path, config: dict[str, Any]) -> Iterator[str]:
    """The real one, with this configuration; the URL of its API."""
    folder.mkdir()
    (folder / "prometheus.yml").write_text(
        yaml.safe_dump({"global": {"scrape_interval": "2s", "scrape_timeout": "2s"}, **config})
    )
    address = f"127.0.0.1:{free_port()}"
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [
                *("prometheus", f"--config.file={folder}/prometheus.yml", f"--web.listen-address={address}"),
                f"--storage.tsdb.path={folder}/data",
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            yield f"http://{address}/api/v1"
        finally:
            process.terminate()
            process.wait(60)


def target(session: requests.Session, api: str) -> dict[str, Any]:
    """What Prometheus says of its one target; empty before it says anything."""
    try:
        (found,) = session.get(f"{api}/targets", timeout=60).json()["data"]["activeTargets"]
    except (requests.RequestException, ValueError):
        return {}
    one: dict[str, Any] = found
    return one


def test_tokens_travel_in_https_and_status_in_plain_http(tmp_path: Path) -> None:
    trust = TlsAuthority.new("Example TLS")
    key, certificate = trust.server("127.0.0.1", tmp_path / "tls")
    key.chmod(0o600)
    bundle = tmp_path / "trust.pem"
    bundle.write_text(trust.pem)
    status_url = f"http://127.0.0.1:{free_port()}"
    metrics = f"127.0.0.1:{free_port()}"
    with LocalIssuer() as issuer:
        made = production_service(
            tmp_path / "ca",
            issuers=issuer.issuer_file(),
            workers=1,
            init_options=["--status-url", status_url],
            environ={
                "CASVC_SERVER__TLS_CERTIFICATE": str(certificate),
                "CASVC_SERVER__TLS_KEY": str(key),
                "CASVC_METRICS__BIND": metrics,
            },
        )
        signing = replace(made, url=made.url.replace("http:", "https:"), certificates=bundle)
        status = RunningService(
            directory=made.directory,
            url=status_url,
            command=[
                *(str(CA_SERVICE), "serve", "--config", str(made.config), "--only", "status"),
                *("--bind", status_url.removeprefix("http://"), "--workers", "1"),
            ],
            environ=made.environ,
        )
        with running(signing), running(status), http() as session:
            session.verify = str(bundle)
            leaf = issue(session, signing.url, issuer.token(EMAIL), EMAIL).chain[0]
            assert crl_url(leaf).startswith(status_url)
            assert fetch_crl(session, leaf)
            assert session.get(ca_issuers_url(leaf), timeout=60).status_code == 200
            # Nothing on the plain address takes a token, or lists what is signed.
            for path in ("/api/v2/signingCert", "/api/v1/signingCert", "/admin/v1/whoami"):
                assert session.post(f"{status_url}{path}", json={}, timeout=60).status_code == 404
            for path in ("/", "/api/v2/configuration", f"/ctlog/{made.shard()}/checkpoint"):
                assert session.get(f"{status_url}{path}", timeout=60).status_code == 404
            with pytest.raises(requests.exceptions.SSLError):
                requests.get(f"{signing.url}/healthz", timeout=60)

            page = session.get(f"https://{metrics}/metrics", timeout=60)
            assert re.search(r"(?m)^casvc_certificates_issued_total 1\.0$", page.text), page.text
            # The service itself is not there, and nothing is there in the clear.
            assert session.get(f"https://{metrics}/api/v2/configuration", timeout=60).status_code == 404
            with pytest.raises(requests.exceptions.ConnectionError):
                requests.get(f"http://{metrics}/metrics", timeout=60)
            assert session.get(f"{signing.url}/metrics", timeout=60).status_code == 404
            config = documented(metrics, "127.0.0.1", bundle)
            with prometheus(tmp_path / "prometheus", config) as api:
                # One that took too long on a busy machine is tried again.
                wait_until(lambda: target(session, api).get("health") == "up", 60, "a scrape that went well")
