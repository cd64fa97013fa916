"""What is no HTTP request, or too long a one, is refused in the form of every other error."""

import json

import pytest
from gunicorn.http import errors

from ca_service.cli.refusals import fault, refusal

SECRET = "Bearer eyJhbGciOiJSUzI1NiJ9"
CASES = [
    (errors.LimitRequestLine(9000, 8190), "414 URI Too Long", "body-too-large"),
    (
        errors.LimitRequestHeaders("limit request headers fields size"),
        "431 Request Header Fields Too Large",
        "body-too-large",
    ),
    (errors.InvalidRequestLine(SECRET), "400 Bad Request", "malformed-request"),
    (errors.InvalidRequestMethod(SECRET), "400 Bad Request", "malformed-request"),
    (errors.InvalidHTTPVersion(SECRET), "400 Bad Request", "malformed-request"),
    (errors.InvalidHeader(SECRET), "400 Bad Request", "malformed-request"),
    (errors.InvalidHeaderName(SECRET), "400 Bad Request", "malformed-request"),
    (errors.ObsoleteFolding(SECRET), "400 Bad Request", "malformed-request"),
    (errors.InvalidChunkSize(SECRET), "400 Bad Request", "malformed-request"),
    (errors.UnsupportedTransferCoding(SECRET), "501 Not Implemented", "unimplemented"),
    (errors.ExpectationFailed(SECRET), "417 Expectation Failed", "malformed-request"),
]


@pytest.mark.parametrize(("error", "line", "reason"), CASES)
def test_each_fault_has_its_status_and_a_sentence_without_the_clients_text(
    error: Exception, line: str, reason: str
) -> None:
    told = refusal(error, "the-request")
    assert told is not None
    head, _, body = told.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {line}\r\n".encode())
    assert b"\r\nConnection: close" in head
    assert b"\r\nContent-Length: %d" % len(body) in head
    answer = json.loads(body)
    assert answer["details"][0]["reason"] == reason
    assert answer["details"][0]["metadata"]["requestId"] == "the-request"
    assert answer["message"]
    assert b"eyJ" not in told


def test_a_fault_of_ours_says_its_number_and_no_more() -> None:
    assert refusal(ZeroDivisionError("division"), "the-request") is None
    head, _, body = fault("the-request").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 500 ")
    assert json.loads(body)["message"] == "internal error"
