"""What went wrong, as HTTP: every error answer of the service has one JSON shape, made here.

The body is google.rpc.Status with one ErrorInfo, and the reason phrase carries the sentence too, since it is
the only text that some clients show.
"""

import json
import re
from collections.abc import Callable, Mapping

from flask import Flask, Response, request
from gunicorn.http.errors import NoMoreData, ParseException
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import MethodNotAllowed as WrongMethod

from ca_service.errors import (
    BodyTooLarge,
    CAError,
    Code,
    ConfigurationError,
    InvalidRequest,
    LogFrozen,
    MalformedRequest,
    MethodNotAllowed,
    NotFound,
    PermissionDenied,
    RateLimited,
    Unavailable,
    Unimplemented,
)
from ca_service.web.correlation import request_id
from ca_service.web.replies import rate_limit_headers

ReportFault = Callable[[str, BaseException], None]
"""Told of every fault that is ours: the request id and the exception. It must not fail."""

ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"
DOMAIN = "ca-service"

_STATUS_OF_CODE = {
    Code.INVALID_ARGUMENT: 400,
    Code.FAILED_PRECONDITION: 400,
    Code.UNAUTHENTICATED: 401,
    Code.PERMISSION_DENIED: 403,
    Code.NOT_FOUND: 404,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.INTERNAL: 500,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
}
_CODE_OF_STATUS = {
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    405: Code.UNIMPLEMENTED,
    429: Code.RESOURCE_EXHAUSTED,
    501: Code.UNIMPLEMENTED,
    503: Code.UNAVAILABLE,
}
# What the router or the HTTP layer refuses has the slug of our own error for that status.
_KIND_OF_STATUS: Mapping[int, type[CAError]] = {
    403: PermissionDenied,
    404: NotFound,
    405: MethodNotAllowed,
    413: BodyTooLarge,
    429: RateLimited,
    501: Unimplemented,
    503: Unavailable,
}
_DEFAULT_RETRY_SECONDS = 5
_KEPT_HEADERS = ("Allow", "Content-Range", "Retry-After", "WWW-Authenticate")

_LIMIT = frozenset({"limit", "remaining", "reset_after"})

_REASON_KEY = "ca_service.error_reason"
_NOT_PRINTABLE = re.compile(r"[^\x20-\x7e]")
_SNAKE = re.compile(r"_([a-z0-9])")
_MAX_PHRASE = 200


def install(app: Flask, report: ReportFault) -> None:
    """Answer every error of the application in the one shape; `report` hears of those that are our fault."""

    def known(error: CAError) -> Response:
        status = http_status(type(error))
        if status == 500:
            # Its sentence is for the operator: it may name files of this machine.
            return unknown(error)
        headers = {}
        if status in (429, 503):
            headers["Retry-After"] = str(error.retry_after or _DEFAULT_RETRY_SECONDS)
        if status == 401:
            headers["WWW-Authenticate"] = _challenge(error)
        if isinstance(error, RateLimited) and error.facts.keys() >= _LIMIT:
            headers.update(rate_limit_headers(**{name: error.facts[name] for name in _LIMIT}))
        return _answer(
            status, error.code, error.message, error.reason, {**error.facts, "remedy": error.remedy}, headers
        )

    def routed(error: HTTPException) -> Response | HTTPException:
        if error.response is not None or error.code is None or error.code < 400:
            return error
        if error.code == 500:
            return unknown(getattr(error, "original_exception", None) or error)
        headers = {name: value for name, value in error.get_headers() if name in _KEPT_HEADERS}
        code = _CODE_OF_STATUS.get(error.code, Code.INVALID_ARGUMENT)
        kind = _KIND_OF_STATUS.get(error.code, InvalidRequest)
        return _answer(error.code, code, _sentence(error), kind.reason, {"remedy": kind.remedy}, headers)

    def unframed(_: Exception) -> Response:
        # Gunicorn reads a chunked body only when it is asked for, and raises errors of its own.
        return known(
            MalformedRequest(
                "the body's chunks cannot be read: a chunk's size or end is wrong, or the last is missing",
                expected="chunks as RFC 9112 §7.1 has them",
                received="a body that breaks off or is framed otherwise",
            )
        )

    def unknown(error: BaseException) -> Response:
        report(request_id(request.environ), error)
        return _answer(500, Code.INTERNAL, "internal error", CAError.reason, {"remedy": CAError.remedy}, {})

    app.register_error_handler(CAError, known)
    app.register_error_handler(HTTPException, routed)
    app.register_error_handler(ParseException, unframed)
    app.register_error_handler(NoMoreData, unframed)
    app.register_error_handler(Exception, unknown)


def http_status(kind: type[CAError]) -> int:
    """Return the HTTP status that an error of this class is answered with."""
    if issubclass(kind, ConfigurationError):
        return 500
    if issubclass(kind, BodyTooLarge):
        return 413
    if issubclass(kind, LogFrozen):
        return 410
    return 405 if issubclass(kind, MethodNotAllowed) else _STATUS_OF_CODE[kind.code]


def _challenge(error: CAError) -> str:
    """Say how to authenticate; an error code only where a token came (RFC 6750 §3.1)."""
    invalid = ', error="invalid_token"' if error.facts.get("cause") != "token-missing" else ""
    return f'Bearer realm="{DOMAIN}"{invalid}'


def reason_of(environ: Mapping[str, object]) -> str | None:
    """Return the reason slug of the error this request was answered with, or None."""
    reason = environ.get(_REASON_KEY)
    return reason if isinstance(reason, str) else None


def reason_phrase(sentence: str) -> str:
    """Make a sentence fit for an HTTP status line: printable ASCII, at most 200 octets (RFC 9112 §4)."""
    return _NOT_PRINTABLE.sub("?", sentence).strip()[:_MAX_PHRASE].rstrip() or "error"


def _sentence(error: HTTPException) -> str:
    """Say what the router or the HTTP layer refused, in a form that depends on no library's words alone."""
    if isinstance(error, WrongMethod):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        return f"this path is not called like that, but with {allowed}"
    if error.code == 404:
        return "there is nothing at this path"
    if error.code == 413:
        return "the body is longer than this service reads"
    return f"the request cannot be served: {error.name.lower()}"


def _answer(
    status: int, code: Code, sentence: str, reason: str, facts: Mapping[str, str], headers: Mapping[str, str]
) -> Response:
    body = document(code, sentence, reason, facts, request_id(request.environ))
    reply = Response(body, f"{status} {reason_phrase(sentence)}", dict(headers), mimetype="application/json")
    reply.headers["Cache-Control"] = "no-store"
    request.environ[_REASON_KEY] = reason
    return reply


def document(code: Code, sentence: str, reason: str, facts: Mapping[str, str], name: str) -> bytes:
    """Write an error as every call answers it: google.rpc.Status with ErrorInfo.

    `name` is the request's id.
    """
    metadata = {_SNAKE.sub(lambda found: found[1].upper(), key): str(fact) for key, fact in facts.items()}
    metadata["requestId"] = name
    info = {"@type": ERROR_INFO, "reason": reason, "domain": DOMAIN, "metadata": metadata}
    text = json.dumps({"code": int(code), "message": sentence, "details": [info]}, separators=(",", ":"))
    return text.encode()
