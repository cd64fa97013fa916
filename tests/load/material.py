"""What the users of the load send, prepared beforehand, so that making it costs nothing while measuring."""

import base64
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp

from tests.support.issuer import LocalIssuer
from tests.support.processes import RunningService, http
from tests.support.signing import Issued, bearer, issue, key_body, new_key
from tests.support.verifier import crl_url, ocsp_get_url

_ADMINISTRATORS = 40
"""Each may call ten times a second."""
_JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Material:
    """Requests by kind, as they go over the wire; a user takes one of its kind by chance."""

    host: str
    port: int
    requests: dict[str, list[bytes]]

    def write(self, file: Path) -> Path:
        """Store it for the processes of locust."""
        encoded = {
            kind: [base64.b64encode(request).decode() for request in requests]
            for kind, requests in self.requests.items()
        }
        file.write_text(json.dumps({"host": self.host, "port": self.port, "requests": encoded}))
        return file

    @classmethod
    def read(cls, file: Path) -> "Material":
        """Read what `write` stored."""
        stored = json.loads(file.read_text())
        decoded = {
            kind: [base64.b64decode(request) for request in requests]
            for kind, requests in stored["requests"].items()
        }
        return cls(stored["host"], stored["port"], decoded)


def prepared(
    service: RunningService, issuer: LocalIssuer, staff: LocalIssuer, *, signers: int, issued: int
) -> Material:
    """Make tokens, keys and proofs for so many signers, issue so many certificates, and ask about these."""
    wire = Wire(service.bind)
    with http() as session:
        certificates = _issue(session, service, issuer, issued)
    log = f"/ctlog/{service.shard()}"
    made = {
        "issue": [_signing(wire, issuer, f"signer-{number}@example.com") for number in range(signers)],
        "ocsp-get": [wire.get(_path(ocsp_get_url(each.leaf, _question(each)))) for each in certificates],
        "ocsp-post": [
            wire.post("/ocsp", _question(each), {"Content-Type": "application/ocsp-request"})
            for each in certificates
        ],
        "crl": [wire.get(_path(url)) for url in sorted({crl_url(each.leaf) for each in certificates})],
        "log": [
            wire.get(f"{log}/checkpoint"),
            wire.get(f"{log}/ct/v1/get-sth"),
            *(
                wire.get(f"{log}/ct/v1/get-entries?start={first}&end={first + 7}")
                for first in range(0, issued - 8, 8)
            ),
            *(
                wire.get(f"{log}/ct/v1/get-sth-consistency?first={first}&second={issued}")
                for first in range(1, issued, max(issued // 16, 1))
            ),
            wire.get("/trust/trusted_root.json"),
            wire.get("/api/v2/configuration"),
        ],
        "admin": [
            request
            for number in range(_ADMINISTRATORS)
            for request in _administration(wire, staff, number, certificates)
        ],
    }
    host, _, port = service.bind.rpartition(":")
    return Material(host, int(port), made)


@dataclass(frozen=True)
class Wire:
    """Requests as octets, for one Host."""

    host: str

    def get(self, path: str, headers: dict[str, str] | None = None) -> bytes:
        """A GET."""
        return self._request("GET", path, headers or {}, b"")

    def post(self, path: str, body: bytes, headers: dict[str, str]) -> bytes:
        """A POST with its length."""
        return self._request("POST", path, {**headers, "Content-Length": str(len(body))}, body)

    def _request(self, method: str, path: str, headers: dict[str, str], body: bytes) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.host}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode() + body


def _issue(
    session: requests.Session, service: RunningService, issuer: LocalIssuer, count: int
) -> Sequence[Issued]:
    def one(number: int) -> Issued:
        email = f"known-{number}@example.com"
        return issue(session, service.url, issuer.token(email), email)

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(one, range(count)))


def _signing(wire: Wire, issuer: LocalIssuer, email: str) -> bytes:
    body = json.dumps(key_body(new_key(), email)).encode()
    # Longer than the longest run.
    return wire.post("/api/v2/signingCert", body, {**bearer(issuer.token(email, lifetime=14_400)), **_JSON})


def _question(issued: Issued) -> bytes:
    builder = ocsp.OCSPRequestBuilder().add_certificate(issued.leaf, issued.issuing, hashes.SHA256())
    return builder.build().public_bytes(serialization.Encoding.DER)


def _path(url: str) -> str:
    return urlsplit(url).path


def _administration(
    wire: Wire, staff: LocalIssuer, number: int, certificates: Sequence[Issued]
) -> Sequence[bytes]:
    """One administrator: who am I, a search, what a revocation would do, and one that is done."""
    token = staff.token(
        f"administrator-{number}@staff.example.com",
        claims={"aud": "ca-service-admin", "groups": ["ca-administrator"]},
    )
    headers = {**bearer(token), **_JSON}
    # The second half: those of the first stay good.
    taken_back = certificates[len(certificates) // 2 :]
    serial = taken_back[number % len(taken_back)].serial
    selector = {"selector": {"identity": f"known-{number}@example.com"}}

    def post(path: str, body: object) -> bytes:
        return wire.post(f"/admin/v1/{path}", json.dumps(body).encode(), headers)

    return (
        wire.get("/admin/v1/whoami", headers),
        post("certificates/search", selector),
        post("revocations/preview", selector),
        post("revocations/certificate", {"serial": serial, "reason": "superseded", "comment": "load"}),
    )
