"""The Flask application before any blueprint: limits, request ids, security headers, problems, access log."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

from flask import Flask, Response, request
from werkzeug.routing import BaseConverter

from ca_service.web import problems
from ca_service.web.correlation import HEADER, request_id

MAX_BODY = 65_536
"""Octets of a request body; an OCSP or signing request stays far below."""

_STARTED_KEY = "ca_service.started"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class AccessRecord:
    """One answered request, with nothing in it that names a person.

    `route` is the pattern that matched, never the path, or None when none did; `method` is OTHER for a word
    that is no HTTP method of ours; `reason` is the slug of an error answer.
    """

    method: str
    route: str | None
    status: int
    milliseconds: float
    request_id: str
    reason: str | None


class RestOfPath(BaseConverter):
    """All that follows in the path, slashes at its start and double ones inside included.

    A base64 OCSP request in a path holds any number of slashes, which the usual converters drop or redirect.
    """

    regex = r"(?s:.+)"
    part_isolating = False


def base_app(
    *,
    max_body: int = MAX_BODY,
    record: Callable[[AccessRecord], None] | None = None,
    begin: Callable[[str], None] | None = None,
    report: problems.ReportFault | None = None,
) -> Flask:
    """Make the application that blueprints are registered on.

    `max_body` is in octets and holds for bodies without a length too. `begin` hears each request's id before
    it is served, `record` what was answered, `report` the exceptions that were our fault; none may fail.
    """
    app = Flask("ca_service.web", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = max_body
    app.url_map.merge_slashes = False
    app.url_map.converters["rest"] = RestOfPath
    problems.install(app, report or _log_fault)

    @app.before_request
    def started() -> None:
        request.environ[_STARTED_KEY] = perf_counter()
        name = request_id(request)
        if begin is not None:
            begin(name)

    @app.after_request
    def finished(reply: Response) -> Response:
        name = request_id(request)
        headers = reply.headers
        headers[HEADER] = name
        headers["X-Content-Type-Options"] = "nosniff"
        headers["Referrer-Policy"] = "no-referrer"
        headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
        headers.setdefault("Cache-Control", "no-store")
        if record is not None:
            rule = request.url_rule
            record(
                AccessRecord(
                    method=request.method if request.method in _METHODS else "OTHER",
                    route=rule.rule if rule else None,
                    status=reply.status_code,
                    milliseconds=(perf_counter() - request.environ[_STARTED_KEY]) * 1000,
                    request_id=name,
                    reason=problems.reason_of(request),
                )
            )
        return reply

    return app


def _log_fault(name: str, error: BaseException) -> None:
    logging.getLogger("ca_service.web").error("request %s failed", name, exc_info=error)
