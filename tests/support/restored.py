"""A service that may not sign, and how to see that it does not; and PostgreSQL's own backups."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import requests
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from sqlalchemy import make_url

from tests.support.issuer import LocalIssuer
from tests.support.postgres import LocalPostgres, program
from tests.support.processes import RunningService, wait_until
from tests.support.signing import Issued, bearer, issue, key_body, new_key
from tests.support.verifier import ocsp_url

EMAIL = "ada@example.com"


@contextlib.contextmanager
def unready(service: RunningService, session: requests.Session) -> Iterator[None]:
    """Run a service that answers, and is not expected to become ready."""
    service.spawn()

    def answers() -> bool:
        with contextlib.suppress(requests.RequestException):
            return session.get(f"{service.url}/healthz", timeout=60).ok
        return False

    try:
        wait_until(answers, 60, "an answer of the service")
        yield
    finally:
        service.stop()


def ask(service: RunningService, session: requests.Session, issuer: LocalIssuer) -> requests.Response:
    """Ask for a certificate."""
    body, headers = key_body(new_key(), EMAIL), bearer(issuer.token(EMAIL))
    return session.post(f"{service.url}/api/v2/signingCert", json=body, headers=headers, timeout=60)


def issued(service: RunningService, session: requests.Session, issuer: LocalIssuer) -> Issued:
    """A certificate for EMAIL."""
    return issue(session, service.url, issuer.token(EMAIL), EMAIL)


def ocsp_status(session: requests.Session, one: Issued) -> tuple[str, str | None]:
    """The response's status, and the certificate's."""
    request = ocsp.OCSPRequestBuilder().add_certificate(one.leaf, one.issuing, hashes.SHA256()).build()
    reply = session.post(ocsp_url(one.leaf), data=request.public_bytes(Encoding.DER), timeout=60)
    answer = ocsp.load_der_ocsp_response(reply.content)
    if answer.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        return answer.response_status.name, None
    return "SUCCESSFUL", answer.certificate_status.name


def dump(url: str, file: Path) -> None:
    """Back a PostgreSQL database up with its own program."""
    _run("pg_dump", "--format=custom", f"--file={file}", f"--dbname={_plain(url)}")


def restore(file: Path, server: LocalPostgres) -> str:
    """Put such a backup into a new database; its URL."""
    url = server.new_database()
    _run("pg_restore", "--exit-on-error", "--single-transaction", f"--dbname={_plain(url)}", str(file))
    return url


def _plain(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string()


def _run(name: str, *arguments: str) -> None:
    done = subprocess.run(
        [program(name), *arguments], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
