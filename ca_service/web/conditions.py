"""Conditional requests: a name for a reply's octets, and 304 for who has them already (RFC 9110 §13)."""

from hashlib import sha256
from http import HTTPStatus

from flask import Response, request
from werkzeug.exceptions import PreconditionFailed

_BY_DATE = ("HTTP_IF_MODIFIED_SINCE", "HTTP_IF_UNMODIFIED_SINCE")


def conditional(reply: Response, *, parts_of: int | None = None, dated: bool = True) -> Response:
    """Answer 304, or a part of `parts_of` octets, when the caller's conditions say so (RFC 9110 §13, §14).

    With `dated` false, Last-Modified does not tell these octets from others (§8.8.2.2): conditions on a date
    are not heeded, and the whole is sent. Raises PreconditionFailed when If-Match names other octets.
    """
    environ = request.environ
    if not dated:
        environ = {name: value for name, value in environ.items() if name not in _BY_DATE}
        if request.if_range.date is not None:
            environ.pop("HTTP_RANGE", None)
    reply.make_conditional(environ, accept_ranges=parts_of is not None, complete_length=parts_of)
    if reply.status_code == HTTPStatus.PRECONDITION_FAILED:
        raise PreconditionFailed
    return reply


def tagged(reply: Response) -> Response:
    """Name a whole reply by the hash of its body, and answer conditions on it."""
    reply.set_etag(sha256(reply.get_data()).hexdigest())
    return conditional(reply)
