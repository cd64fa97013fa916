"""The real Fulcio as a process, with a key of its own and without a log, on free loopback ports."""

import base64
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.support.processes import environment, free_port, wait_until

SIGNING = "/api/v2/signingCert"


@dataclass
class Fulcio:
    """A running one."""

    url: str
    output: Path

    def ask(self, request: Mapping[str, Any]) -> requests.Response:
        return requests.post(f"{self.url}{SIGNING}", json=request, timeout=60)

    def certificate(self, request: Mapping[str, Any]) -> bytes | None:
        """The DER of the leaf that it issues, or None when it refuses with 400."""
        reply = self.ask(request)
        if reply.status_code == 400:
            return None
        assert reply.status_code == 200, reply.text
        pem: str = reply.json()["signedCertificateDetachedSct"]["chain"]["certificates"][0]
        return x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)


@contextmanager
def running_fulcio(
    program: Path, folder: Path, issuers: str, environ: Mapping[str, str] | None = None
) -> Iterator[Fulcio]:
    """Start Fulcio with an issuer file (YAML)."""
    file, output = folder / "config.yaml", folder / "fulcio.log"
    file.write_text(issuers)
    ports = [str(free_port()) for _ in range(3)]
    command: list[str | Path] = [
        *(program, "serve", "--config-path", file, "--ca", "ephemeralca", "--ct-log-url="),
        *("--host", "127.0.0.1", "--grpc-host", "127.0.0.1"),
        *("--port", ports[0], "--grpc-port", ports[1], "--metrics-port", ports[2]),
        *("--legacy-unix-domain-socket", f"@ca-service-test-{ports[0]}"),
    ]
    url = f"http://127.0.0.1:{ports[0]}"
    with (
        output.open("wb") as log,
        subprocess.Popen(command, env=environment(environ), stdout=log, stderr=log) as process,
    ):

        def serves() -> bool:
            assert process.poll() is None, output.read_text()
            try:
                return requests.get(f"{url}/healthz", timeout=10).ok
            except requests.ConnectionError:
                return False

        try:
            wait_until(serves, 60, "Fulcio")
            yield Fulcio(url, output)
        finally:
            process.terminate()


def key_request(token: str, spki_pem: str, proof: bytes) -> dict[str, Any]:
    """A request by a bare key and the proof that the client has it."""
    return {
        "credentials": {"oidcIdentityToken": token},
        "publicKeyRequest": {
            "publicKey": {"algorithm": "ECDSA", "content": spki_pem},
            "proofOfPossession": base64.b64encode(proof).decode(),
        },
    }
