"""schemathesis reads /openapi.json and tries to make the service break its own description."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import RunningService, environment
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
    """A bounded run, the same examples every time; a failure prints the request that shows it."""
    header = bearer(tokens.token("schemathesis@example.com")) if authorized else {}
    done = subprocess.run(
        [
            *(Path(sys.executable).parent / "schemathesis", "run", f"{service.url}/openapi.json"),
            *("--checks", ",".join(CHECKS)),
            *("--phases", "examples,coverage,fuzzing", "--max-examples", "25"),
            *("--generation-deterministic", "--no-color"),
            *("--request-timeout", "10", "--max-response-time", "5", "--suppress-health-check", "all"),
            *(f"--header={name}:{value}" for name, value in header.items()),
        ],
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-12_000:]
    service.wait_ready()
