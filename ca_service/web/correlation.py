"""The request id: one short name for a request in its answer, in the log and in what callers report."""

import re
import secrets

from flask import Request

HEADER = "X-Request-Id"

_ENVIRON_KEY = "ca_service.request_id"
_SANE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{7,63}", re.ASCII)


def request_id(request: Request) -> str:
    """Return the request's id: the caller's X-Request-Id when it is 8 to 64 plain characters, else a new one.

    A proxy in front may have given the id already; anything longer or stranger does not reach the log.
    """
    known = request.environ.get(_ENVIRON_KEY)
    if isinstance(known, str):
        return known
    sent = request.headers.get(HEADER, "")
    chosen = sent if _SANE.fullmatch(sent) else secrets.token_hex(16)
    request.environ[_ENVIRON_KEY] = chosen
    return chosen
