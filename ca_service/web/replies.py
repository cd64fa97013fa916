"""The forms of reply that several blueprints share: JSON, PEM and browser access from anywhere."""

import json
from collections.abc import Sequence

from flask import Blueprint, Response

PEM_CHAIN = "application/pem-certificate-chain"
"""The media type of concatenated PEM certificates, as Fulcio's legacy calls name it."""

Headers = Sequence[tuple[str, str]]

NEVER_CACHED = "no-store"
_EXPOSED = "ETag, X-Request-Id, Retry-After, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset"
_TAKEN = "Authorization, Content-Type, If-Match, If-None-Match, X-Request-Id"
FROM_ANYWHERE: Headers = (
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Expose-Headers", _EXPOSED),
)
"""The headers by which pages of every origin may read a reply."""
CACHED_FOR_MINUTES = "public, max-age=300"
"""For what changes only when an operator rotates keys or edits the issuer file."""


def json_reply(
    value: object, *, status: int = 200, cache: str = NEVER_CACHED, headers: Headers = ()
) -> Response:
    """Answer with a JSON document."""
    return bytes_reply(compact_json(value), "application/json", status=status, cache=cache, headers=headers)


# A new encoder for each document costs as much as a short document.
compact_json = json.JSONEncoder(separators=(",", ":")).encode
"""Write a JSON document without spaces, in ASCII."""


def bytes_reply(
    body: bytes | str, content_type: str, *, status: int = 200, cache: str, headers: Headers = ()
) -> Response:
    """Answer with a body of the named content type, which is sent as it stands."""
    # All at once: setting a header on a finished Response searches through the others each time.
    return Response(body, status, [("Cache-Control", cache), *headers], content_type=content_type)


def rate_limit_headers(limit: object, remaining: object, reset_after: object) -> Headers:
    """Say what is left of a limit: requests, and seconds (draft-ietf-httpapi-ratelimit-headers-06 §5)."""
    # The three fields of drafts up to 06: clients read them; hardly any reads the one of later drafts.
    return (
        ("RateLimit-Limit", str(limit)),
        ("RateLimit-Remaining", str(remaining)),
        ("RateLimit-Reset", str(reset_after)),
    )


def allow_any_origin(blueprint: Blueprint) -> None:
    """Let pages of every origin call this blueprint: nothing in it depends on cookies."""

    @blueprint.after_request
    def add_headers(reply: Response) -> Response:
        reply.headers.extend(FROM_ANYWHERE)
        if "Allow" in reply.headers:  # the automatic answer to OPTIONS, which is also the preflight
            reply.headers["Access-Control-Allow-Methods"] = reply.headers["Allow"]
            reply.headers["Access-Control-Allow-Headers"] = _TAKEN
            reply.headers["Access-Control-Max-Age"] = "86400"
        return reply
