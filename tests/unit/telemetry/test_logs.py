"""The log is JSON lines, and nothing that names a person or opens a door gets into it."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from ca_service.telemetry.logs import begin_request, configure_logs, record_access, record_fault

TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJlbWFpbCI6ImFAYi5jIn0.c2lnbmF0dXJl"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    stream = io.StringIO()
    configure_logs("info", stream)
    yield stream
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    for handler in before:
        root.addHandler(handler)
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_request_is_one_json_line_with_its_route_and_id(stream: io.StringIO) -> None:
    begin_request("0123456789abcdef")
    record_access(
        method="POST",
        route="/api/v2/signingCert",
        status=400,
        milliseconds=1.234,
        request_id="0123456789abcdef",
        reason="token-expired",
    )
    (line,) = lines(stream)
    assert line["message"] == "request"
    assert line["route"] == "/api/v2/signingCert"
    assert (line["status"], line["reason"], line["ms"]) == (400, "token-expired", 1.23)
    assert line["request_id"] == "0123456789abcdef"
    assert str(line["time"]).endswith("Z")


def test_records_of_libraries_are_json_lines_too_and_carry_the_request_id(stream: io.StringIO) -> None:
    begin_request("abcdefgh01234567")
    logging.getLogger("gunicorn.error").warning("Worker %s left", 7)
    logging.getLogger("some.library").debug("not at this level")
    (line,) = lines(stream)
    assert line["message"] == "Worker 7 left"
    assert (line["level"], line["request_id"]) == ("warning", "abcdefgh01234567")


@pytest.mark.parametrize(
    "secret",
    [
        TOKEN,
        "jane.doe@example.com",
        "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIA\n-----END EC PRIVATE KEY-----",
        "hunter2",
    ],
)
def test_secrets_and_addresses_are_blanked_wherever_they_stand(stream: io.StringIO, secret: str) -> None:
    shown = f"postgresql://ca:{secret}@db/x" if secret == "hunter2" else f"value {secret} here"
    structlog.get_logger().info(shown, nested={"list": [shown]}, error=ValueError(shown))
    logging.getLogger("x").error("%s", shown)
    with pytest.raises(ValueError) as caught:
        raise ValueError(shown)
    record_fault("0123456789abcdef", caught.value)
    text = stream.getvalue()
    assert len(lines(stream)) == 3
    assert secret not in text
    assert secret.splitlines()[-1] not in text
    assert "Traceback" in text
    assert "removed]" in text
