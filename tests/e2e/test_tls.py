"""The service that ends TLS itself, and the process beside it that serves status in plain http."""

from dataclasses import replace
from pathlib import Path

import pytest
import requests

from tests.support.issuer import LocalIssuer
from tests.support.processes import CA_SERVICE, RunningService, free_port, http, production_service, running
from tests.support.signing import issue
from tests.support.tls import TlsAuthority
from tests.support.verifier import ca_issuers_url, crl_url, fetch_crl

EMAIL = "ada@example.com"


def test_tokens_travel_in_https_and_status_in_plain_http(tmp_path: Path) -> None:
    trust = TlsAuthority.new("Example TLS")
    key, certificate = trust.server("127.0.0.1", tmp_path / "tls")
    key.chmod(0o600)
    bundle = tmp_path / "trust.pem"
    bundle.write_text(trust.pem)
    status_url = f"http://127.0.0.1:{free_port()}"
    with LocalIssuer() as issuer:
        made = production_service(
            tmp_path / "ca",
            issuers=issuer.issuer_file(),
            workers=1,
            init_options=["--status-url", status_url],
            environ={
                "CASVC_SERVER__TLS_CERTIFICATE": str(certificate),
                "CASVC_SERVER__TLS_KEY": str(key),
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
            assert session.get(ca_issuers_url(leaf), timeout=10).status_code == 200
            # Nothing on the plain address takes a token, or lists what is signed.
            for path in ("/api/v2/signingCert", "/api/v1/signingCert", "/admin/v1/whoami"):
                assert session.post(f"{status_url}{path}", json={}, timeout=10).status_code == 404
            for path in ("/", "/api/v2/configuration", f"/ctlog/{made.shard()}/checkpoint"):
                assert session.get(f"{status_url}{path}", timeout=10).status_code == 404
            with pytest.raises(requests.exceptions.SSLError):
                requests.get(f"{signing.url}/healthz", timeout=10)
