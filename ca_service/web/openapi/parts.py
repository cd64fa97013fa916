"""What the descriptions of several calls share: the error shape, headers, parameters and small schemas."""

from collections.abc import Sequence

from ca_service.web.application import MAX_BODY

JSON = dict[str, object]

BASE64: JSON = {"type": "string", "contentEncoding": "base64", "pattern": "^[A-Za-z0-9+/]*={0,2}$"}
"""Base64 as this service writes it."""

PEM_CERTIFICATE: JSON = {"type": "string", "pattern": "^-----BEGIN CERTIFICATE-----\n"}
TIME: JSON = {"type": "string", "format": "date-time", "examples": ["2026-11-23T08:00:00Z"]}
HEX_SHA256: JSON = {"type": "string", "pattern": "^[0-9a-f]{64}$"}

_PROBLEMS = {
    400: ("BadRequest", "The request cannot be served as it is; the message says why and what to do."),
    401: ("Unauthorized", "There is no administrator's token in the header Authorization, or no good one."),
    403: ("Forbidden", "The caller may not do this."),
    404: ("NotFound", "What the request names does not exist here."),
    405: ("MethodNotAllowed", "This path is called otherwise; see the header Allow."),
    410: ("Gone", "This was here once, and takes nothing any more."),
    412: ("PreconditionFailed", "If-Match names another version than the one there is."),
    413: ("BodyTooLarge", f"The body has more than {MAX_BODY} octets."),
    416: ("RangeNotSatisfiable", "The range lies outside of the document."),
    429: ("TooManyRequests", "Too many requests; wait as long as Retry-After says."),
    500: ("InternalError", "A fault of the service; the operator finds it by the request id."),
    503: ("Unavailable", "The service cannot do this right now; wait as long as Retry-After says."),
}

_REQUEST_ID = {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}}
RATE_LIMIT_HEADERS: JSON = {
    f"RateLimit-{name}": {"$ref": f"#/components/headers/RateLimit{name}"}
    for name in ("Limit", "Remaining", "Reset")
}
"""On calls that are limited by identity or issuer, while a limit is set and can be counted."""

_EXTRA_HEADERS: dict[int, JSON] = {
    401: {"WWW-Authenticate": {"$ref": "#/components/headers/Challenge"}},
    405: {"Allow": {"$ref": "#/components/headers/Allow"}},
    429: {"Retry-After": {"$ref": "#/components/headers/RetryAfter"}, **RATE_LIMIT_HEADERS},
    503: {"Retry-After": {"$ref": "#/components/headers/RetryAfter"}},
}


def reply(description: str, media_type: str, schema: JSON, *, headers: JSON | None = None) -> JSON:
    """Describe a successful answer with a body."""
    return {
        "description": description,
        "headers": {**_REQUEST_ID, **(headers or {})},
        "content": {media_type: {"schema": schema}},
    }


def problems(*statuses: int) -> JSON:
    """Describe the error answers of a call: the given ones, and those that every call can have."""
    return {
        str(status): {"$ref": f"#/components/responses/{_PROBLEMS[status][0]}"}
        for status in sorted({*statuses, 400, 405, 429, 500, 503})
    }


def operation(name: str, tags: Sequence[str], summary: str, responses: JSON, **more: object) -> JSON:
    """Describe one call; `more` are further members of the operation, such as requestBody."""
    return {"operationId": name, "tags": list(tags), "summary": summary, **more, "responses": responses}


def path_parameter(name: str, description: str, pattern: str, example: str) -> JSON:
    """Describe a part of a path."""
    schema = {"type": "string", "pattern": pattern}
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": description,
        "schema": schema,
        "example": example,
    }


def query_number(name: str, description: str, *, minimum: int = 0) -> JSON:
    """Describe a number in the query."""
    schema = {"type": "integer", "minimum": minimum, "maximum": 9_999_999_999_999_999_999}
    return {"name": name, "in": "query", "required": True, "description": description, "schema": schema}


def closed_object(properties: JSON, required: Sequence[str] | None = None) -> JSON:
    """Describe an object of a reply; all its members are required unless told otherwise."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties if required is None else required),
        "additionalProperties": False,
    }


def ref(schema: str) -> JSON:
    """Refer to a schema of the components."""
    return {"$ref": f"#/components/schemas/{schema}"}


def _problem_response(status: int, description: str) -> JSON:
    return {
        "description": description,
        "headers": {**_REQUEST_ID, **_EXTRA_HEADERS.get(status, {})},
        "content": {"application/json": {"schema": ref("Problem")}},
    }


def _header(description: str, schema: JSON) -> JSON:
    return {"description": description, "schema": schema}


_ERROR_INFO = closed_object(
    {
        "@type": {"const": "type.googleapis.com/google.rpc.ErrorInfo"},
        "reason": {
            "type": "string",
            "pattern": "^[a-z0-9-]+$",
            "description": "A stable slug of the cause.",
            "examples": ["token-expired"],
        },
        "domain": {"const": "ca-service"},
        "metadata": {
            "type": "object",
            "description": "Short facts, such as what was expected and what came; always these two.",
            "properties": {"requestId": {"type": "string"}, "remedy": {"type": "string"}},
            "required": ["requestId", "remedy"],
            "additionalProperties": {"type": "string"},
        },
    }
)

SCHEMAS: JSON = {
    "Problem": closed_object(
        {
            "code": {
                "type": "integer",
                "description": "google.rpc.Code",
                "enum": [3, 5, 7, 8, 9, 12, 13, 14, 16],
            },
            "message": {"type": "string", "description": "What failed, what was expected, what came."},
            "details": {"type": "array", "items": ref("ErrorInfo"), "minItems": 1, "maxItems": 1},
        }
    ),
    "ErrorInfo": _ERROR_INFO,
}

COMPONENTS: JSON = {
    "schemas": SCHEMAS,
    "responses": {
        name: _problem_response(status, description) for status, (name, description) in _PROBLEMS.items()
    },
    "headers": {
        "RequestId": _header("The name of this request in the service's log.", {"type": "string"}),
        "RetryAfter": _header("Seconds to wait before trying again.", {"type": "integer", "minimum": 1}),
        "RateLimitLimit": _header(
            "How many requests a minute the limit that is nearest to its end allows; absent without a limit.",
            {"type": "integer", "minimum": 1},
        ),
        "RateLimitRemaining": _header("How many of them are left.", {"type": "integer", "minimum": 0}),
        "RateLimitReset": _header(
            "Seconds until all of them are there again.", {"type": "integer", "minimum": 1}
        ),
        "Challenge": _header("How to authenticate (RFC 6750 §3).", {"type": "string"}),
        "Allow": _header("The methods this path is called with.", {"type": "string"}),
        "ETag": _header("Names these very octets; send it back as If-None-Match.", {"type": "string"}),
        "LastModified": _header("When this was signed.", {"type": "string"}),
        "Expires": _header("nextUpdate.", {"type": "string"}),
    },
    "securitySchemes": {
        "oidcToken": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "An ID token of one of the issuers that /api/v2/configuration lists.",
        },
        "administratorToken": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "An ID token of one of the issuers that /admin/v1/login-options lists, for the "
            "audience it names and no other.",
        },
    },
}

TAGGED: JSON = {"ETag": {"$ref": "#/components/headers/ETag"}}
"""On replies that are named by their octets, so that a caller who has them is answered 304."""

CACHING_HEADERS: JSON = {
    **TAGGED,
    "Last-Modified": {"$ref": "#/components/headers/LastModified"},
}

NOT_MODIFIED: JSON = {
    "description": "The caller's copy is still right.",
    "headers": {**_REQUEST_ID, "ETag": {"$ref": "#/components/headers/ETag"}},
}
