"""What a client is told that sends no HTTP request, or one that the server does not read to its end."""

from gunicorn.http import errors

from ca_service.errors import BodyTooLarge, CAError, MalformedRequest, Unimplemented
from ca_service.web.problems import document

_TOO_LONG = {
    errors.LimitRequestLine: (414, "URI Too Long"),
    errors.LimitRequestHeaders: (431, "Request Header Fields Too Large"),
}
_UNREADABLE = (
    errors.InvalidRequestLine,
    errors.InvalidRequestMethod,
    errors.InvalidHTTPVersion,
    errors.InvalidHeader,
    errors.InvalidHeaderName,
    errors.InvalidSchemeHeaders,
    errors.ObsoleteFolding,
    errors.InvalidChunkSize,
    errors.ChunkMissingTerminator,
    errors.InvalidChunkExtension,
)


def refusal(error: Exception, request_id: str) -> bytes | None:
    """A whole HTTP reply that says what was wrong with a request; None when the fault is ours.

    Nothing of the request is repeated: it may be a token that came in a wrong place.
    """
    for kind, (status, phrase) in _TOO_LONG.items():
        if isinstance(error, kind):
            what = "request line" if status == 414 else "header, or all headers together,"
            return _reply(
                status,
                phrase,
                BodyTooLarge(
                    f"the {what} of this request is longer than this service reads",
                    expected="at most 8190 octets in the request line, 32768 in a header, and 64 headers",
                    received="more",
                ),
                request_id,
            )
    if isinstance(error, errors.UnsupportedTransferCoding):
        told: CAError = Unimplemented(
            "the request's body is in a transfer coding that this service does not read; expected chunked",
            expected="chunked",
            received="another transfer coding",
        )
        return _reply(501, "Not Implemented", told, request_id)
    if isinstance(error, errors.ExpectationFailed):
        told = MalformedRequest("the header Expect asks for something else than 100-continue")
        return _reply(417, "Expectation Failed", told, request_id)
    if isinstance(error, _UNREADABLE):
        told = MalformedRequest(
            "what came is no HTTP/1.1 request: its request line, a header or a chunk is malformed",
            expected="a request as RFC 9112 has it",
            received="something else",
        )
        return _reply(400, "Bad Request", told, request_id)
    return None


def fault(request_id: str) -> bytes:
    """A whole HTTP reply that says no more than that the fault is ours."""
    return _reply(500, "Internal Server Error", CAError("internal error"), request_id)


def _reply(status: int, phrase: str, told: CAError, request_id: str) -> bytes:
    body = document(told.code, told.message, told.reason, {**told.facts, "remedy": told.remedy}, request_id)
    head = (
        f"HTTP/1.1 {status} {phrase}\r\nConnection: close\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
        f"X-Request-Id: {request_id}\r\n\r\n"
    )
    return head.encode() + body
