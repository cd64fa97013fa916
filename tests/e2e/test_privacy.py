"""No token, no identity and no key in anything the service prints, whatever happens; each line is JSON."""

import contextlib
import json
import re
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from tests.support.issuer import LocalIssuer, b64url
from tests.support.processes import RunningService, free_port, production_service, running
from tests.support.signing import b64, bearer, csr_pem, issue, key_body, new_key, public_pem
from tests.support.verifier import ask_ocsp, fetch_crl, ocsp_url

EMAIL = "a.private.person@example.com"
OTHER = "somebody.else@example.com"
PROJECT = "a-private-project"
WORKLOAD = {
    "email": None,
    "sub": f"repo:acme/{PROJECT}:ref:refs/heads/main",
    "ref": "refs/heads/main",
    "sha": "a" * 40,
    "repository": f"acme/{PROJECT}",
    "repository_owner": "acme",
    "repository_visibility": "private",
    "repository_id": "74",
    "repository_owner_id": "65",
    "run_id": "65",
    "run_attempt": "2",
    "runner_environment": "github-hosted",
    "workflow": PROJECT,
    "workflow_ref": f"acme/{PROJECT}/.github/workflows/w.yml@refs/heads/main",
    "workflow_sha": "a" * 40,
    "event_name": "push",
    "job_workflow_ref": f"acme/{PROJECT}/.github/workflows/w.yml@refs/heads/main",
    "job_workflow_sha": "a" * 40,
}
CRASHING = '''
import ca_service.authority.issuance as issuance

usual = issuance.verify_possession

def verify_possession(public_key, proof, challenges):
    """A defect in the middle of the work, as libraries have them: what it was given is in its words."""
    if proof == b"crash":
        try:
            {}[challenges[0]]
        except KeyError as error:
            raise ValueError(f"no place for {challenges[0]} of {public_key}") from error
    usual(public_key, proof, challenges)

issuance.verify_possession = verify_possession
'''


@dataclass
class Run:
    """A service, and everything personal that was given to it, by what it is."""

    service: RunningService
    signers: LocalIssuer
    forge: LocalIssuer
    staff: LocalIssuer
    session: requests.Session
    secrets: dict[str, str] = field(default_factory=dict)

    def keep(self, name: str, token: str) -> str:
        """Remember a token as something that must not be printed."""
        for number, part in enumerate(token.split(".")[1:]):
            if len(part) >= 30:
                self.secrets[f"{name}, part {number + 1}"] = part[10:40]
        return token

    def sign(self, name: str, token: str, body: Mapping[str, Any] | None = None) -> requests.Response:
        """Ask for a certificate, with whatever body."""
        return self.session.post(
            f"{self.service.url}/api/v2/signingCert",
            json=body if body is not None else key_body(new_key(), EMAIL),
            headers=bearer(self.keep(name, token)),
            timeout=60,
        )

    def administer(self, call: str, token: str, order: Mapping[str, Any] | None = None) -> requests.Response:
        """Call /admin/v1."""
        return self.session.request(
            "GET" if order is None else "POST",
            f"{self.service.url}/admin/v1/{call}",
            json=order,
            headers=bearer(token),
            timeout=60,
        )


@pytest.fixture
def run(tmp_path: Path, session: requests.Session, request: pytest.FixtureRequest) -> Iterator[Run]:
    (tmp_path / "crash").mkdir()
    (tmp_path / "crash/sitecustomize.py").write_text(CRASHING)
    with LocalIssuer() as signers, LocalIssuer() as forge, LocalIssuer() as staff:
        issuers = yaml.safe_load(signers.issuer_file())
        (first,) = issuers["oidc-issuers"].values()
        issuers["oidc-issuers"][forge.url] = {
            **first,
            "issuer-url": forge.url,
            "type": "github-workflow",
        }
        service = production_service(
            tmp_path / "ca",
            issuers=yaml.safe_dump(issuers),
            workers=1,
            environ={
                "CASVC_LOGGING__LEVEL": request.param,
                "CASVC_METRICS__BIND": f"127.0.0.1:{free_port()}",
                "CASVC_REDIS__URL": f"redis://somebody:hidden-password@127.0.0.1:{free_port()}/0",
                "CASVC_LIMITS__IDENTITY_PER_MINUTE": "1000",
                "CASVC_OIDC__PRIVATE_NETWORKS": '["127.0.0.0/8"]',
                "PYTHONPATH": str(tmp_path / "crash"),
            },
        )
        with service.config.open("a") as file:
            for role in ("viewer", "revoker"):
                file.write(
                    f'\n[[admin_role]]\nrole = "{role}"\nissuer = "{staff.url}"\n'
                    f"claims = {{is_{role} = true}}\n"
                )
        session.headers["Connection"] = "close"  # some of what is refused ends its connection
        with running(service):
            yield Run(service, signers, forge, staff, session)


@pytest.mark.parametrize("run", ["info", "debug"], indirect=True)
def test_a_full_run_leaves_nothing_personal_in_the_log(run: Run, tmp_path: Path) -> None:
    service, session = run.service, run.session
    run.secrets |= {
        "the address": EMAIL,
        "its name": "a.private.person",
        "the other address": "somebody.else",
        "the project": PROJECT,
        "the password": "hidden-password",
    }

    # What succeeds.
    token = run.keep("token", run.signers.token(EMAIL))
    issued = issue(session, service.url, token, EMAIL)
    run.secrets["the key"] = public_pem(issued.key).splitlines()[1]
    run.secrets["the key, base64"] = b64(public_pem(issued.key).encode())[40:100]
    claims = dict(WORKLOAD)
    workload = run.keep("workload token", run.forge.token(EMAIL, claims=claims))
    issue(session, service.url, workload, str(claims["sub"]))
    request = {"certificateSigningRequest": b64(csr_pem(new_key()))}
    assert run.sign("token of a CSR", run.signers.token(EMAIL), request).status_code in (200, 201)
    folder = issued.write(tmp_path / "issued")
    ask_ocsp(folder, ocsp_url(issued.leaf))
    fetch_crl(session, issued.leaf)

    refuse_tokens(run, token)
    refuse_the_rest(run, token)
    administer(run, issued.serial)
    break_things(run, token)

    printed = service.output.read_text()
    found = {
        name: [line for line in printed.splitlines() if piece in line][:3]
        for name, piece in run.secrets.items()
        if piece in printed
    }
    assert not found, found
    assert "signingCert" in printed, "there is an access log"
    records = [json.loads(line) for line in printed.splitlines()]
    reasons = {record.get("reason") for record in records}
    wanted = {"token-expired", "token-malformed", "token-issuer-unknown", "token-audience-mismatch"}
    wanted |= {"token-signature-invalid", "token-claim-invalid", "email-not-verified", "proof-invalid"}
    wanted |= {"public-key-malformed", "csr-malformed", "identity-blocked", "body-too-large", "internal"}
    wanted |= {"unauthenticated", "forbidden", "not-found"}
    assert wanted <= reasons, wanted - reasons
    faults = [record for record in records if record["logger"] == "ca_service.fault"]
    assert len(faults) == 1
    assert "issuance.py" in faults[0]["exception"], "the traceback is there"
    assert re.search("KeyError.*ValueError", faults[0]["exception"], re.DOTALL)
    assert all(record["request_id"] for record in records if record["message"] == "request")
    page = session.get(f"http://{service.environ['CASVC_METRICS__BIND']}/metrics", timeout=60).text
    assert not [name for name, piece in run.secrets.items() if piece in page]


def refuse_tokens(run: Run, token: str) -> None:
    head, payload, signature = token.split(".")
    none = b64url(json.dumps({"alg": "none"}).encode())
    stranger = LocalIssuer()
    stranger.server.server_close()
    for name, bad in {
        "stale": run.signers.token(EMAIL, lifetime=-30),
        "early": run.signers.token(EMAIL, claims={"nbf": int(time.time()) + 3600}),
        "audience": run.signers.token(EMAIL, claims={"aud": EMAIL}),
        "subject": run.signers.token(EMAIL, claims={"sub": [EMAIL]}),
        "no subject": run.signers.token(EMAIL, claims={"sub": None}),
        "unverified": run.signers.token(EMAIL, claims={"email_verified": False}),
        "no address": run.signers.token(EMAIL, claims={"email": f"{EMAIL} {EMAIL}"}),
        "nothing": "",
        "no token": EMAIL,
        "two parts": f"{head}.{payload}",
        "unsigned": f"{none}.{payload}.",
        "tampered": f"{head}.{payload}.{signature[:-20]}{'A' * 20}",
        "of a stranger": stranger.token(EMAIL),
        "of another key": run.signers.sign({"iss": run.signers.url, "sub": EMAIL}, {"kid": EMAIL}),
        "in words": f"{head}.{b64url(EMAIL.encode())}.{signature}",
        "issuer in words": run.signers.token(EMAIL, claims={"iss": f"https://{EMAIL}/"}),
        "workload": run.forge.token(EMAIL, claims={**WORKLOAD, "job_workflow_ref": [PROJECT]}),
    }.items():
        assert run.sign(name, bad).status_code >= 400, name


def refuse_the_rest(run: Run, token: str) -> None:
    service, session, key = run.service, run.session, new_key()
    run.secrets["the refused key"] = public_pem(key).splitlines()[1]
    assert run.sign("token", token, key_body(key, OTHER)).json()["details"][0]["reason"] == "proof-invalid"
    for content in (EMAIL, public_pem(key)[:-60], f"-----BEGIN PUBLIC KEY-----\n{EMAIL}\n"):
        body = key_body(key, EMAIL)
        body["publicKeyRequest"]["publicKey"]["content"] = content
        assert run.sign("token", token, body).status_code == 400
    for request in (b64(EMAIL.encode()), EMAIL, b64(csr_pem(key)[:-90])):
        assert run.sign("token", token, {"certificateSigningRequest": request}).status_code == 400
    assert run.sign("token", token, {"publicKeyRequest": {EMAIL: PROJECT}}).status_code == 400
    url = f"{service.url}/api/v2/signingCert"
    assert session.post(url, data=token, timeout=60).status_code == 400
    assert session.post(url, data=(token * 300)[:200_000], timeout=60).status_code == 413
    session.get(f"{service.url}/nowhere/{EMAIL}/{PROJECT}", params={"email": EMAIL}, timeout=60)
    session.get(f"{service.url}/healthz?token={token}&project={PROJECT}", timeout=60)
    session.request(PROJECT.upper().replace("-", ""), f"{service.url}/{PROJECT}", timeout=60)
    session.get(f"{service.url}/healthz", headers={"X-Request-Id": EMAIL, "User-Agent": EMAIL}, timeout=60)
    for garbage in (
        f"GET /{PROJECT} {EMAIL}\r\n\r\n",
        f"{PROJECT} / HTTP/1.1\r\n\r\n",
        f"GET /{PROJECT} HTTP/1.1\r\nHost: x\r\n{EMAIL} {PROJECT}: {token}\r\n\r\n",
        f"GET /{PROJECT} HTTP/1.1\r\nAuthorization: {'x' * 40_000}{PROJECT}\r\n\r\n",
        f"POST /{PROJECT} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{PROJECT}\r\n",
        f"POST /api/v2/signingCert HTTP/1.1\r\nTransfer-Encoding: {PROJECT}\r\n\r\n",
        f"POST /api/v2/signingCert HTTP/1.1\r\nContent-Length: 900\r\n\r\n{token[:500]}",
    ):
        send(run, garbage)
    session.post(f"{service.url}/ocsp", data=EMAIL.encode(), timeout=60)
    session.get(f"{service.url}/ocsp/{b64(EMAIL.encode())}", timeout=60)
    session.get(f"{service.url}/crl/{PROJECT}/{EMAIL}.crl", timeout=60)


def send(run: Run, octets: str) -> None:
    """Send what is no HTTP, and read until the service hangs up."""
    host, _, port = run.service.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(octets.encode())
        connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while connection.recv(65_536):
                pass


def administer(run: Run, serial: str) -> None:
    audience = "ca-service-admin"
    order = {"identity": EMAIL}
    now = {"iat": int(time.time()), "auth_time": int(time.time())}
    roles = {"is_viewer": True, "is_revoker": True}
    staff = run.keep("staff token", run.staff.token(OTHER, claims={**now, **roles, "aud": audience}))
    viewer = run.keep(
        "viewer token", run.staff.token(OTHER, claims={**now, "is_viewer": True, "aud": audience})
    )
    assert run.administer("whoami", staff).json()["subject"]
    found = run.administer("certificates/search", staff, {"selector": order})
    assert len(found.json().get("certificates", run.administer("certificates/search", staff, order).json()))
    run.administer("certificates/search", staff, {"identity": [EMAIL], PROJECT: 1})
    run.administer("revocations/preview", staff, {"selector": order})
    assert run.administer("revocations/identity", viewer, {"selector": order}).status_code == 403
    assert run.administer("whoami", run.signers.token(EMAIL)).status_code == 401
    assert run.administer("whoami", EMAIL).status_code == 401
    run.administer("revocations/certificate", staff, {"serial": serial, "comment": f"stolen from {EMAIL}"})
    done = run.administer(
        "revocations/identity", staff, {"selector": {"identity": EMAIL}, "comment": f"all of {EMAIL}"}
    )
    assert done.status_code == 200, done.text
    run.administer("blocks", staff)
    run.administer("audit", staff)
    run.service.admin("find", "--identity", EMAIL)
    blocked = run.sign("token of the blocked", run.signers.token(EMAIL))
    assert blocked.json()["details"][0]["reason"] == "identity-blocked"


def break_things(run: Run, token: str) -> None:
    service, session = run.service, run.session
    key = new_key()
    body = key_body(key, OTHER)
    body["publicKeyRequest"]["proofOfPossession"] = b64(b"crash")
    reply = run.sign("token of a crash", run.signers.token(OTHER), body)
    assert reply.status_code == 500
    assert OTHER not in reply.text
    state = service.directory / "state"
    (state / "ca.db").rename(state / "aside.db")
    try:
        assert run.sign("token without a database", run.signers.token(OTHER)).status_code in (400, 503)
        body = key_body(key, OTHER)
        assert run.sign("second without a database", run.signers.token(OTHER), body).status_code == 503
        session.get(f"{service.url}/readyz", timeout=60)
    finally:
        (state / "aside.db").rename(state / "ca.db")
    run.signers.server.shutdown()
    run.sign("token while the issuer is away", run.signers.token(OTHER, claims={"kid": token[:5]}))


@pytest.mark.parametrize("run", ["info"], indirect=True)
def test_a_request_has_one_name_in_its_answer_in_the_log_and_in_what_went_wrong(run: Run) -> None:
    url, session = run.service.url, run.session
    name = "trace-0123456789abcdef"
    reply = session.get(f"{url}/nowhere", headers={"X-Request-Id": name}, timeout=60)
    assert reply.headers["X-Request-Id"] == name
    assert reply.json()["details"][0]["metadata"]["requestId"] == name
    made_up = []
    for strange in (None, EMAIL, "short", "x" * 65, "with space inside"):
        headers = {} if strange is None else {"X-Request-Id": strange}
        given = session.get(f"{url}/healthz", headers=headers, timeout=60).headers["X-Request-Id"]
        assert re.fullmatch("[0-9a-f]{32}", given)
        made_up.append(given)
    assert len(set(made_up)) == len(made_up)
    body = key_body(new_key(), OTHER)
    body["publicKeyRequest"]["proofOfPossession"] = b64(b"crash")
    headers = {**bearer(run.signers.token(OTHER)), "X-Request-Id": f"{name}-crash"}
    session.post(f"{url}/api/v2/signingCert", json=body, headers=headers, timeout=60)
    records = [json.loads(line) for line in run.service.output.read_text().splitlines()]
    requests_ = {record["request_id"] for record in records if record["message"] == "request"}
    assert {name, *made_up} <= requests_
    faults = [record for record in records if record["logger"] == "ca_service.fault"]
    assert [record["request_id"] for record in faults] == [f"{name}-crash"]
