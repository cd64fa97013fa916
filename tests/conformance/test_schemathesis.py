"""schemathesis reads /openapi.json and tries to make the service break its own description."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.processes import RunningService, dev_service, environment, running
from tests.support.signing import bearer
from tests.support.tokens import TokenDesk

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
)


@pytest.mark.parametrize("authorized", [True, False], ids=["with a good token", "without"])
def test_the_service_keeps_to_its_openapi_document(
    service: RunningService, tokens: TokenDesk, tmp_path: Path, authorized: bool
) -> None:
    header = bearer(tokens.token("schemathesis@example.com")) if authorized else {}
    hold(service, header, tmp_path, "--exclude-path-regex", "^/admin/", "--max-examples", "25")


def test_administration_keeps_to_it_too(tmp_path: Path) -> None:
    """Against a service of its own: what is made up here revokes and blocks."""
    unlimited = {"CASVC_ADMIN__REQUESTS_PER_MINUTE": "0"}
    with running(dev_service(tmp_path / "ca", workers=1, environ=unlimited)) as service:
        token = TokenDesk(service).mint("admin@example.com", audience="ca-service-admin")
        hold(service, bearer(token), tmp_path, "--include-path-regex", "^/admin/", "--max-examples", "5")


def hold(service: RunningService, header: Mapping[str, str], folder: Path, *options: str) -> None:
    """A bounded run, the same examples every time; a failure prints the request that shows it."""
    done = subprocess.run(
        [
            *(Path(sys.executable).parent / "schemathesis", "run", f"{service.url}/openapi.json"),
            *("--checks", ",".join(CHECKS)),
            *("--phases", "examples,coverage,fuzzing", *options),
            *("--generation-deterministic", "--no-color"),
            *("--request-timeout", "60", "--suppress-health-check", "all"),
            *(f"--header={name}:{value}" for name, value in header.items()),
        ],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-12_000:]
    service.wait_ready()
