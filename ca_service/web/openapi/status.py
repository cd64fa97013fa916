"""The description of OCSP, CRLs and issuing certificates."""

from ca_service.web.openapi.parts import (
    CACHING_HEADERS,
    HEX_SHA256,
    JSON,
    NOT_MODIFIED,
    TIME,
    closed_object,
    operation,
    path_parameter,
    problems,
    reply,
)

_BINARY: JSON = {"type": "string", "format": "binary"}
_KEY_ID = path_parameter(
    "key_id",
    "The subject key identifier of one of the authority's keys.",
    "^[0-9a-f]{40}$",
    "0123456789abcdef0123456789abcdef01234567",
)
_SHARD = path_parameter(
    "shard",
    "Month of issue and sub-shard as certificates name it, or root.",
    "^[0-9a-z][0-9a-z-]{0,63}$",
    "2026-11-0a",
)

_OCSP_HEADERS: JSON = {**CACHING_HEADERS, "Expires": {"$ref": "#/components/headers/Expires"}}
_OCSP_REPLY = reply(
    "An OCSPResponse in DER. A request that cannot be answered gets one too, with an OCSP error status; only "
    "answers about issued certificates without a nonce carry caching headers.",
    "application/ocsp-response",
    _BINARY,
    headers=_OCSP_HEADERS,
)
_OCSP_LATER = reply(
    "An OCSPResponse with the error status tryLater: this node cannot know now, another may.",
    "application/ocsp-response",
    _BINARY,
    headers={"Retry-After": {"$ref": "#/components/headers/RetryAfter"}},
)

_CRL_ENTRY = closed_object(
    {
        "url": {"type": "string", "format": "uri", "description": "As certificates name it."},
        "number": {"type": "integer", "minimum": 1, "description": "The CRL number; it only grows."},
        "sha256": HEX_SHA256,
        "thisUpdate": TIME,
        "nextUpdate": TIME,
    }
)

PATHS: JSON = {
    "/ocsp": {
        "post": operation(
            "ocspByPost",
            ["status"],
            "Ask whether certificates hold (RFC 6960)",
            {"200": _OCSP_REPLY, **problems(413), "503": _OCSP_LATER},
            requestBody={
                "description": "The DER of an OCSPRequest; the media type is not looked at.",
                "content": {
                    "application/ocsp-request": {"schema": _BINARY},
                    "application/octet-stream": {"schema": _BINARY},
                },
            },
        )
    },
    "/ocsp/{encoded}": {
        "parameters": [
            {
                "name": "encoded",
                "in": "path",
                "required": True,
                "description": "Base64 of the DER request, percent-encoded once; slashes may stay.",
                "schema": {"type": "string", "minLength": 1},
                "example": "MEYwRDBCMEAwPjAJBgUrDgMCGgUA",
            }
        ],
        "get": operation(
            "ocspByGet",
            ["status"],
            "Ask whether certificates hold, so that the answer can be cached (RFC 5019)",
            {"200": _OCSP_REPLY, "304": NOT_MODIFIED, **problems(404, 412), "503": _OCSP_LATER},
        ),
    },
    "/crl/{key_id}/{shard}.crl": {
        "parameters": [_KEY_ID, _SHARD],
        "get": operation(
            "getCrl",
            ["status"],
            "Get the CRL of a shard",
            {
                "200": reply("The CRL in DER.", "application/pkix-crl", _BINARY, headers=CACHING_HEADERS),
                "206": reply("A part of the CRL.", "application/pkix-crl", _BINARY, headers=CACHING_HEADERS),
                "304": NOT_MODIFIED,
                **problems(404, 412, 416),
            },
        ),
    },
    "/crl/index.json": {
        "get": operation(
            "getCrlIndex",
            ["status"],
            "List every CRL with its number and hash, for mirrors and verifiers without a network",
            {
                "200": reply(
                    "Every shard, and the root's CRL, as they are at this moment.",
                    "application/json",
                    closed_object({"crls": {"type": "array", "items": _CRL_ENTRY}}),
                    headers=CACHING_HEADERS,
                ),
                "304": NOT_MODIFIED,
                **problems(412),
            },
        )
    },
    "/ca/{key_id}.crt": {
        "parameters": [_KEY_ID],
        "get": operation(
            "getIssuingCertificate",
            ["status", "trust"],
            "Get a certificate of the authority, as certificates name their issuer's",
            {
                "200": reply("The certificate in DER.", "application/pkix-cert", _BINARY),
                **problems(404),
            },
        ),
    },
}
