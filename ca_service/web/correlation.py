"""The request id: one short name for a request in its answer, in the log and in what callers report."""

import random
import re
from collections.abc import MutableMapping

HEADER = "X-Request-Id"

_ENVIRON_KEY = "ca_service.request_id"
_SANE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{7,63}", re.ASCII)


def request_id(environ: MutableMapping[str, object]) -> str:
    """Return the request's id: the caller's X-Request-Id when it is 8 to 64 plain characters, else a new one.

    A proxy in front may have given the id already; anything longer or stranger does not reach the log.
    """
    known = environ.get(_ENVIRON_KEY)
    if isinstance(known, str):
        return known
    sent = environ.get("HTTP_X_REQUEST_ID")
    chosen = sent if isinstance(sent, str) and _SANE.fullmatch(sent) else new_name()
    environ[_ENVIRON_KEY] = chosen
    return chosen


def new_name() -> str:
    """A request's id, for one that gave none."""
    # A name and no secret: the system's generator costs a call into the kernel.
    return f"{random.getrandbits(128):032x}"
