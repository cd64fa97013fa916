"""Reading a request's body whole, within the limit, however its end is told."""

from flask import Request


def read_body(request: Request) -> bytes:
    """Return the body's octets; raises werkzeug's RequestEntityTooLarge beyond MAX_CONTENT_LENGTH."""
    body = request.get_data(cache=False)
    limit = request.max_content_length
    if request.content_length is None and limit is not None and len(body) >= limit:
        # A body without a length is cut at the limit without a word; asking for one octet more refuses it.
        request.stream.read(1)
    return body
