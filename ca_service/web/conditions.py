"""Conditional requests: a name for a reply's octets, and 304 for who has them already (RFC 9110 §13)."""

from hashlib import sha256
from http import HTTPStatus

from flask import Response, request
from werkzeug.exceptions import PreconditionFailed


def conditional(reply: Response, *, parts_of: int | None = None) -> Response:
    """Answer 304, or a part of `parts_of` octets, when the caller's conditions say so (RFC 9110 §13, §14).

    Raises PreconditionFailed when If-Match names other octets.
    """
    reply.make_conditional(request, accept_ranges=parts_of is not None, complete_length=parts_of)
    if reply.status_code == HTTPStatus.PRECONDITION_FAILED:
        raise PreconditionFailed
    return reply


def tagged(reply: Response) -> Response:
    """Name a whole reply by the hash of its body, and answer conditions on it."""
    reply.set_etag(sha256(reply.get_data()).hexdigest())
    return conditional(reply)
