"""The description of /admin/v1."""

from collections.abc import Sequence

from ca_service.authority.administrators import Role
from ca_service.vocabulary import RevocationReason
from ca_service.web.admin.endpoints import JSON_LINES, MOST_CERTIFICATES, MOST_RECORDS
from ca_service.web.openapi.parts import (
    HEX_SHA256,
    JSON,
    RATE_LIMIT_HEADERS,
    TIME,
    closed_object,
    operation,
    path_parameter,
    problems,
    ref,
    reply,
)

_PREFIX = "/admin/v1"

_TEXT: JSON = {"type": "string"}
_OPTIONAL_TEXT: JSON = {"type": ["string", "null"]}
_OPTIONAL_TIME: JSON = {**TIME, "type": ["string", "null"]}
_COUNT: JSON = {"type": "integer", "minimum": 0}
_SERIAL: JSON = {"type": "string", "pattern": "^([0-9a-f]{2}){1,20}$", "examples": ["0a1b2c"]}
_LOG_INDEX: JSON = {"type": "string", "pattern": "^[a-z0-9-]+:[0-9]+$", "examples": ["2026:17"]}
_REASON: JSON = {"enum": [reason.label for reason in RevocationReason]}
_BY_SHARD: JSON = {
    "type": "object",
    "description": "How many of them each CRL (KEY-ID/SHARD) shows.",
    "additionalProperties": _COUNT,
}


def _array(items: JSON) -> JSON:
    return {"type": "array", "items": items}


_OPTIONAL_BLOCK: JSON = {"oneOf": [ref("Block"), {"type": "null"}]}

SCHEMAS: JSON = {
    "Selector": {
        "type": "object",
        "description": "Which certificates are meant: all members that are given must fit.",
        "properties": {
            "identity": {**_OPTIONAL_TEXT, "description": "The name in the certificate; * and ? are wild."},
            "issuer": {**_OPTIONAL_TEXT, "description": "The identity provider's URL."},
            "oidc_subject": {**_OPTIONAL_TEXT, "description": "The `sub` that the provider gave."},
            "key_sha256": {**_OPTIONAL_TEXT, "description": "Of the DER SubjectPublicKeyInfo, in hex."},
            "log_index": {**_OPTIONAL_TEXT, "description": "The log entry, SHARD:N."},
            "serial": {**_OPTIONAL_TEXT, "description": "The serial in hex."},
            "since": {**_OPTIONAL_TIME, "description": "Valid at or after this time."},
            "until": {**_OPTIONAL_TIME, "description": "Valid at or before this time."},
        },
        "additionalProperties": False,
    },
    "Certificate": closed_object(
        {
            "serial": _SERIAL,
            "identity": _TEXT,
            "identity_kind": {"enum": ["email", "uri", "username"]},
            "issuer": _TEXT,
            "oidc_subject": _TEXT,
            "not_before": TIME,
            "not_after": TIME,
            "key_sha256": HEX_SHA256,
            "log_index": _LOG_INDEX,
            "crl": _TEXT,
            "revocation": {"oneOf": [ref("Revocation"), {"type": "null"}]},
        }
    ),
    "Revocation": closed_object(
        {
            "serial": _SERIAL,
            "revocation_date": {**TIME, "description": "From when its signatures are not to be trusted."},
            "revoked_at": {**TIME, "description": "When that was decided."},
            "reason": _REASON,
            "comment": {**_TEXT, "description": "For administrators alone."},
            "crl": _TEXT,
        }
    ),
    "Block": closed_object(
        {
            "number": {**_COUNT, "description": "0: not stored yet."},
            "identity": _OPTIONAL_TEXT,
            "issuer": _OPTIONAL_TEXT,
            "oidc_subject": _OPTIONAL_TEXT,
            "key_sha256": _OPTIONAL_TEXT,
            "reason": _TEXT,
            "created": TIME,
            "expires": {**_OPTIONAL_TIME, "description": "null: never."},
        }
    ),
    "Preview": closed_object(
        {
            "matched": _COUNT,
            "already_revoked": _COUNT,
            "to_revoke": _COUNT,
            "by_shard": _BY_SHARD,
            "since": _OPTIONAL_TIME,
            "until": _OPTIONAL_TIME,
            "certificates": _array(ref("Certificate")),
            "blocks": _array(ref("Block")),
        }
    ),
    "IdentityRevocation": closed_object(
        {
            "matched": _COUNT,
            "revoked": {**_COUNT, "description": "Newly, or from an earlier date than before."},
            "unchanged": _COUNT,
            "by_shard": _BY_SHARD,
            "block": _OPTIONAL_BLOCK,
            "serials": _array(_SERIAL),
        }
    ),
    "AuditRecord": closed_object(
        {
            "sequence": _COUNT,
            "time": TIME,
            "time_ms": _COUNT,
            "actor": {**_TEXT, "description": "ISSUER#SUBJECT, or local:USER."},
            "source": _TEXT,
            "request_id": _TEXT,
            "action": _TEXT,
            "detail": {"type": "object", "description": "What was done, before and after."},
            "previous_hash": HEX_SHA256,
            "hash": HEX_SHA256,
        }
    ),
}
"""The shapes that only this API has."""

_LOGIN_OPTIONS = closed_object(
    {
        "audience": {**_TEXT, "description": "What `aud` of a token must be."},
        "client_id": {**_TEXT, "description": "The public client to ask the provider as."},
        "scopes": _array(_TEXT),
        "issuers": {**_array(_TEXT), "description": "The providers that administrators come from."},
    }
)

_WHOAMI = closed_object(
    {
        "subject": _TEXT,
        "issuer": _TEXT,
        "name": {**_OPTIONAL_TEXT, "description": "What the provider calls them."},
        "roles": _array({"enum": [role.label for role in Role]}),
        "expires": {**TIME, "description": "Until when this token is taken here."},
    }
)

_VERIFICATION: JSON = {
    "oneOf": [
        closed_object({"intact": {"const": True}, "records": _COUNT, "hash": HEX_SHA256}),
        closed_object({"intact": {"const": False}, "message": _TEXT}),
    ]
}


def _order(properties: JSON, required: Sequence[str] = ()) -> JSON:
    schema: JSON = {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _call(
    name: str,
    needed: Role,
    summary: str,
    schema: JSON,
    *statuses: int,
    body: JSON | None = None,
    **more: object,
) -> JSON:
    success = reply(f"Needs the role {needed.label}.", "application/json", schema, headers=RATE_LIMIT_HEADERS)
    if body is not None:
        more["requestBody"] = body
        statuses = (*statuses, 413)
    return operation(
        name,
        ["admin"],
        summary,
        {"200": success, **problems(401, 403, *statuses)},
        security=[{"administratorToken": []}],
        **{"x-role": needed.label},
        **more,
    )


def _number(name: str, description: str, low: int, high: int, default: int) -> JSON:
    schema = {"type": "integer", "minimum": low, "maximum": high, "default": default}
    return {"name": name, "in": "query", "description": description, "schema": schema}


_SELECTOR = ref("Selector")
_REASON_GIVEN: JSON = {**_OPTIONAL_TEXT, "description": "By its RFC 5280 name, such as keyCompromise."}
_COMMENT: JSON = {**_OPTIONAL_TEXT, "description": "For the audit record; never published."}
_EVERYBODY: JSON = {
    "type": ["boolean", "null"],
    "default": False,
    "description": "Confirms a selector that names nobody in particular.",
}
_LIMIT: JSON = {"type": ["integer", "null"], "minimum": 1, "maximum": MOST_CERTIFICATES, "default": 1000}
_DATE: JSON = {**_OPTIONAL_TIME, "description": "From when on; each one's notBefore, or since, when absent."}

PATHS: JSON = {
    f"{_PREFIX}/login-options": {
        "get": operation(
            "getLoginOptions",
            ["admin"],
            "Say where and how administrators get a token",
            {"200": reply("For anybody.", "application/json", _LOGIN_OPTIONS), **problems(403)},
        )
    },
    f"{_PREFIX}/whoami": {"get": _call("whoAmI", Role.VIEWER, "Say who calls, with which roles", _WHOAMI)},
    f"{_PREFIX}/certificates/search": {
        "post": _call(
            "searchCertificates",
            Role.VIEWER,
            "Find issued certificates, newest first",
            closed_object({"certificates": _array(ref("Certificate"))}),
            body=_order({"selector": _SELECTOR, "limit": _LIMIT}, ["selector"]),
        )
    },
    f"{_PREFIX}/certificates/{{serial}}": {
        "parameters": [path_parameter("serial", "The serial in hex.", "^[0-9a-fA-F]{1,40}$", "0a1b2c")],
        "get": _call("getCertificate", Role.VIEWER, "Get one certificate's facts", ref("Certificate"), 404),
    },
    f"{_PREFIX}/revocations/preview": {
        "post": _call(
            "previewRevocation",
            Role.VIEWER,
            "Say what a revocation by selector would do, and do nothing",
            ref("Preview"),
            body=_order(
                {
                    "selector": _SELECTOR,
                    "revocation_date": _DATE,
                    "reason": _REASON_GIVEN,
                    "limit": {
                        "type": ["integer", "null"],
                        "minimum": 0,
                        "maximum": MOST_CERTIFICATES,
                        "description": "How many certificates are listed.",
                    },
                },
                ["selector"],
            ),
        )
    },
    f"{_PREFIX}/revocations/certificate": {
        "post": _call(
            "revokeCertificate",
            Role.REVOKER,
            "Revoke one certificate",
            ref("Revocation"),
            404,
            body=_order(
                {
                    "serial": _TEXT,
                    "reason": _REASON_GIVEN,
                    "revocation_date": _DATE,
                    "comment": _COMMENT,
                },
                ["serial"],
            ),
        )
    },
    f"{_PREFIX}/revocations/identity": {
        "post": _call(
            "revokeIdentity",
            Role.REVOKER,
            "Revoke all that a selector means, and block whom it names",
            ref("IdentityRevocation"),
            404,
            body=_order(
                {
                    "selector": _SELECTOR,
                    "reason": _REASON_GIVEN,
                    "revocation_date": _DATE,
                    "comment": _COMMENT,
                    "block": {"type": ["boolean", "null"], "default": True},
                    "block_expires": _OPTIONAL_TIME,
                    "everybody": _EVERYBODY,
                },
                ["selector"],
            ),
        )
    },
    f"{_PREFIX}/revocations/withdraw": {
        "post": _call(
            "withdrawRevocation",
            Role.ADMINISTRATOR,
            "Correct a wrong revocation",
            ref("Revocation"),
            404,
            body=_order({"serial": _TEXT, "comment": _TEXT}, ["serial", "comment"]),
        )
    },
    f"{_PREFIX}/blocks": {
        "get": _call(
            "listBlocks",
            Role.VIEWER,
            "List every block, the expired ones too",
            closed_object({"blocks": _array(ref("Block"))}),
        ),
        "post": _call(
            "addBlock",
            Role.REVOKER,
            "Give whom a selector names no certificates",
            closed_object({"blocks": _array(ref("Block"))}),
            404,
            body=_order(
                {
                    "selector": _SELECTOR,
                    "reason": _OPTIONAL_TEXT,
                    "expires": _OPTIONAL_TIME,
                    "everybody": _EVERYBODY,
                },
                ["selector"],
            ),
        ),
    },
    f"{_PREFIX}/blocks/remove": {
        "post": _call(
            "removeBlocks",
            Role.ADMINISTRATOR,
            "Take blocks away, by number or by exactly what they concern",
            closed_object({"blocks": _array(ref("Block"))}),
            404,
            body=_order(
                {
                    "selector": {"oneOf": [_SELECTOR, {"type": "null"}]},
                    "number": {"type": ["integer", "null"], "minimum": 1, "maximum": 2**53 - 1},
                    "comment": _COMMENT,
                }
            ),
        )
    },
    f"{_PREFIX}/audit": {
        "get": _call(
            "listAuditRecords",
            Role.VIEWER,
            f"List audit records, oldest first; as {JSON_LINES} all to the end",
            closed_object({"records": _array(ref("AuditRecord"))}),
            parameters=[
                _number("after", "Only records above this number.", 0, 2**53 - 1, 0),
                _number("limit", "How many at most; not for JSON lines.", 1, MOST_RECORDS, 100),
            ],
        )
    },
    f"{_PREFIX}/audit/verification": {
        "get": _call("verifyAudit", Role.VIEWER, "Check the chain of audit records", _VERIFICATION)
    },
}
PATHS[f"{_PREFIX}/audit"]["get"]["responses"]["200"]["content"][JSON_LINES] = {  # type: ignore[index] # JSON
    "schema": {"type": "string", "description": "One record a line."}
}
