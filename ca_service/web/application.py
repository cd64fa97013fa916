"""The Flask application before any blueprint: limits, request ids, security headers, problems, access log."""

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

from flask import Flask, Request, Response
from werkzeug.routing import BaseConverter

from ca_service.authority.waiting import about_to_wait
from ca_service.web import problems
from ca_service.web.correlation import HEADER, request_id
from ca_service.web.overload import Overload
from ca_service.web.shortcuts import Pending, QuickReply, Shortcut, Shortcuts, Unfinished

if TYPE_CHECKING:  # these types exist for checkers alone
    from _typeshed import OptExcInfo
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

MAX_BODY = 65_536
"""Octets of a request body; an OCSP or signing request stays far below."""

_DEFAULT_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Cache-Control", "no-store"),
)
_ROUTE = "ca_service.route"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class AccessRecord(NamedTuple):
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


class Hex(BaseConverter):
    """A serial as hex, so that `search` beside it in a path is none."""

    regex = "[0-9a-fA-F]{1,40}"


def base_app(
    *,
    max_body: int = MAX_BODY,
    record: Callable[[AccessRecord], None] | None = None,
    begin: Callable[[str], None] | None = None,
    report: problems.ReportFault | None = None,
    shortcuts: Sequence[Shortcut] = (),
    overload: Overload | None = None,
) -> Flask:
    """Make the application that blueprints are registered on.

    `max_body` is in octets and holds for bodies without a length too. `begin` hears each request's id before
    it is served, `record` what was answered, `report` the exceptions that were our fault; none may fail.
    `shortcuts` are asked before the views they stand for, and before both `overload`, which lets requests in.
    """
    app = Flask("ca_service.web", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = max_body
    app.url_map.merge_slashes = False
    app.url_map.converters["rest"] = RestOfPath
    app.url_map.converters["hex"] = Hex
    problems.install(app, report or _log_fault)

    inner = _with_shortcuts(app, Shortcuts(shortcuts))
    if overload is not None:
        inner = overload.around(inner, partial(_answered, app))
    app.wsgi_app = _framed(inner, record, begin)  # type: ignore[method-assign,assignment] # Flask's own way to wrap
    return app


def _with_shortcuts(app: Flask, shortcuts: Shortcuts) -> "WSGIApplication":
    usual = app.wsgi_app

    def application(environ: "WSGIEnvironment", start_response: "StartResponse") -> "Iterable[bytes]":
        shortcut = shortcuts.find(environ)
        if shortcut is None:
            about_to_wait()
            return usual(environ, start_response)
        environ[_ROUTE] = shortcut.route
        try:
            reply = shortcut.answer(environ)
        except Exception as error:  # noqa: BLE001 - Flask's handlers answer it, and report what is our fault
            return _answered(app, error, environ)(environ, start_response)
        if reply is None:
            about_to_wait()
            return usual(environ, start_response)
        if isinstance(reply, Unfinished):
            return Pending(reply, partial(finished, environ, start_response))
        return begun(start_response, reply)

    def finished(
        environ: "WSGIEnvironment", start_response: "StartResponse", outcome: QuickReply | Exception
    ) -> "Iterable[bytes]":
        if isinstance(outcome, Exception):
            return _answered(app, outcome, environ)(environ, start_response)
        return begun(start_response, outcome)

    def begun(start_response: "StartResponse", reply: QuickReply) -> "Iterable[bytes]":
        length = ("Content-Length", str(len(reply.body)))
        start_response(reply.status, [("Content-Type", reply.content_type), length, *reply.headers])
        return (reply.body,)

    return application


def _answered(app: Flask, error: Exception, environ: "WSGIEnvironment") -> Response:
    with app.request_context(environ):
        return app.finalize_request(app.handle_user_exception(error))


def _framed(
    inner: "WSGIApplication",
    record: Callable[[AccessRecord], None] | None,
    begin: Callable[[str], None] | None,
) -> "WSGIApplication":
    """Give every request its id, every reply the headers that all have, and the access log its record.

    This wraps Flask, because its own hooks cost a third of an answer from the OCSP cache.
    """

    def framed(environ: "WSGIEnvironment", start_response: "StartResponse") -> "Iterable[bytes]":
        started = perf_counter()
        name = request_id(environ)
        if begin is not None:
            begin(name)

        def start(
            status: str, headers: "list[tuple[str, str]]", exc_info: "OptExcInfo | None" = None
        ) -> "Callable[[bytes], object]":  # in quotes, since it would be made anew for each request
            given = dict(headers)
            headers += [each for each in _DEFAULT_HEADERS if each[0] not in given]
            headers.append((HEADER, name))
            if record is not None:
                record(_access_record(environ, int(status[:3]), started, name))
            return start_response(status, headers, exc_info)

        body = inner(environ, start)
        if begin is not None and isinstance(body, Pending):
            body.resume = partial(begin, name)
        return body

    return framed


def _access_record(environ: "WSGIEnvironment", status: int, started: float, name: str) -> AccessRecord:
    method, route = environ["REQUEST_METHOD"], environ.get(_ROUTE)
    if route is None:
        served = environ.get("werkzeug.request")
        rule = served.url_rule if isinstance(served, Request) else None
        route = rule.rule if rule else None
    return AccessRecord(
        method=method if method in _METHODS else "OTHER",
        route=route,
        status=status,
        milliseconds=(perf_counter() - started) * 1000,
        request_id=name,
        reason=problems.reason_of(environ),
    )


def _log_fault(name: str, error: BaseException) -> None:
    logging.getLogger("ca_service.web").error("request %s failed", name, exc_info=error)
