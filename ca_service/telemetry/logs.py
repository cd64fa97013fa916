"""The log: one JSON object a line on standard error, for our own records and those of the libraries.

Whatever is logged passes a last gate that blanks tokens, e-mail addresses and private keys, wherever in
the record they are, tracebacks included.
"""

import json
import logging
import re
import sys
from collections.abc import MutableMapping
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TextIO

import structlog

from ca_service.telemetry.tracebacks import format_exception

_SECRETS = re.compile(
    r"(?P<token>eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?)"
    r"|(?P<key>-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z))"
    r"|(?P<address>[^\s@\"'<>()\[\]{},;:=/\\]{1,64}@[A-Za-z0-9][A-Za-z0-9.-]{0,252})"
    r"|(?P<password>(?<=://)[^\s/@:]*:[^\s/@]*(?=@))",
    re.DOTALL,
)

Record = MutableMapping[str, Any]

_ACCESS = logging.getLogger("ca_service.access")
_request: ContextVar[str | None] = ContextVar("request_id", default=None)


def configure_logs(level: str, stream: TextIO | None = None) -> None:
    """Send every record, structlog's and the standard library's, as JSON to `stream` (standard error).

    `level` is debug, info, warning or error. Calling it again replaces what was set before.
    """
    shared: list[structlog.typing.Processor] = [
        _with_request_id,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _with_traceback,
                structlog.processors.EventRenamer("message"),
                blank_secrets,
                _in_order,
                structlog.processors.JSONRenderer(sort_keys=False, ensure_ascii=False),
            ],
        )
    )
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    # These speak of every connection at info and debug.
    for chatty in ("urllib3", "alembic", "authlib"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _with_traceback(_logger: object, _method: str, record: Record) -> Record:
    raised = record.pop("exc_info", None)
    if raised is True:
        raised = sys.exc_info()
    error = raised[1] if isinstance(raised, tuple) else raised
    if isinstance(error, BaseException):
        record["exception"] = format_exception(error)
    return record


def _with_request_id(_logger: object, _method: str, record: Record) -> Record:
    name = _request.get()
    if name is not None:
        record.setdefault("request_id", name)
    return record


def blank_secrets(_logger: object, _method: str, record: Record) -> Record:
    """Blank tokens, e-mail addresses, private keys and passwords in URLs in every text of a record."""
    return {key: _blank(value) for key, value in record.items()}


def _in_order(_logger: object, _method: str, record: Record) -> Record:
    """Put what a person looks for first at the start of the line."""
    first = {key: record[key] for key in ("time", "level", "message") if key in record}
    return first | {key: value for key, value in record.items() if key not in first}


def begin_request(request_id: str) -> None:
    """Bind the request's id to every record that this thread writes from here on."""
    _request.set(request_id)


def record_access(
    *, method: str, route: str | None, status: int, milliseconds: float, request_id: str, reason: str | None
) -> None:
    """Write one answered request: the route's pattern rather than its path, and the slug of an error."""
    if not _ACCESS.isEnabledFor(logging.INFO):
        return
    # As the formatter would write it: this is most of the log, and took a tenth of a request.
    time = datetime.now(UTC).isoformat().removesuffix("+00:00")
    said = f', "reason": {_quoted(reason)}' if reason is not None else ""
    line = (
        f'{{"time": "{time}Z", "level": "info", "message": "request", "method": {_quoted(method)}, '
        f'"route": {_quoted(route or "(none)")}, "status": {status}, "ms": {milliseconds:.2f}, '
        f'"request_id": {_name(request_id)}{said}, "logger": "ca_service.access"}}\n'
    )
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.acquire()
            try:
                handler.stream.write(line)
                handler.flush()
            except (OSError, ValueError):
                handler.handleError(_ACCESS.makeRecord(_ACCESS.name, logging.INFO, "", 0, line, (), None))
            finally:
                handler.release()


def record_fault(request_id: str, error: BaseException) -> None:
    """Write an exception that was our fault, with its traceback; callers are told the request id alone."""
    structlog.get_logger("ca_service.fault").error("internal error", request_id=request_id, exc_info=error)


def _name(request_id: str) -> str:
    # Letters and digits alone are no secret's form, and need no escapes.
    return (
        f'"{request_id}"' if request_id.isalnum() and request_id.isascii() else json.dumps(_blank(request_id))
    )


@lru_cache(maxsize=512)
def _quoted(text: str) -> str:
    """A text of a small, fixed set as JSON: methods, patterns of routes, slugs of errors."""
    return json.dumps(_blank(text), ensure_ascii=False)


def _blank(value: object) -> object:
    if isinstance(value, str):
        return _SECRETS.sub(lambda found: f"[{found.lastgroup} removed]", value)
    if isinstance(value, dict):
        return {key: _blank(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_blank(inner) for inner in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return _blank(str(value))
