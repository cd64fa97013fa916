"""What becomes of a connection whose request could not be read, or failed unforeseen."""

import errno
import logging
import ssl

from gunicorn.http.errors import NoMoreData

from ca_service.cli.connection_keeper import SILENCE_SECONDS
from ca_service.cli.connections import Connection
from ca_service.cli.refusals import fault, refusal
from ca_service.web.correlation import new_name

_GONE = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN})
_LOG = logging.getLogger("gunicorn.error")


def answer_fault(connection: Connection, error: Exception) -> None:
    """Answer what is no request, or what failed unforeseen, and log what the operator should know of it."""
    try:
        if isinstance(error, NoMoreData | StopIteration):
            _LOG.debug("a client went away in the middle of its request")
        elif isinstance(error, ssl.SSLError):
            _LOG.debug("a connection could not be begun", exc_info=error)
        elif isinstance(error, BlockingIOError):
            _LOG.info("a client stopped in the middle of its request for %d seconds", SILENCE_SECONDS)
        elif isinstance(error, OSError):
            if error.errno not in _GONE:
                _LOG.error("a request could not be read or answered", exc_info=error)
        else:
            _refuse(connection, error)
    except OSError:
        _LOG.debug("a client went away before it was told what was wrong")


def _refuse(connection: Connection, error: Exception) -> None:
    name = new_name()
    told = refusal(error, name)
    if told is None:
        _LOG.error("request %s failed", name, exc_info=error)
    connection.sendall(told or fault(name))
