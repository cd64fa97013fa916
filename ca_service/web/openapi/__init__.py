"""The API's description: one OpenAPI 3.1 document of every call, built from plain dictionaries.

Each module here describes the calls of the blueprint of its name. Not here: what the calls do.
"""

import json
from collections.abc import Mapping

from flask import Blueprint, Response

from ca_service import __version__
from ca_service.web.openapi import admin, fulcio, log, site, status
from ca_service.web.openapi.parts import COMPONENTS, JSON, SCHEMAS
from ca_service.web.replies import CACHED_FOR_MINUTES, allow_any_origin, bytes_reply

PATHS: JSON = {**fulcio.PATHS, **log.PATHS, **status.PATHS, **admin.PATHS, **site.PATHS}
"""The path items of all blueprints of this room that production serves."""


def document(more_paths: Mapping[str, object] | None = None) -> JSON:
    """Build the document; `more_paths` are path items of further blueprints, which may use the components."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ca-service",
            "version": __version__,
            "summary": "An ephemeral certificate authority for code signing: Fulcio's API, with revocation.",
            "description": (
                "Every error has the shape of `Problem`; its sentence is also the HTTP reason phrase. JSON "
                "requests follow protobuf's mapping: lowerCamelCase or snake_case, either base64 alphabet, "
                "null means absent, unknown members are ignored; /admin/v1 has snake_case alone and refuses "
                "them. Every reply carries `X-Request-Id`."
            ),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [
            {"name": "fulcio", "description": "Certificates for identity tokens, as Sigstore's clients ask."},
            {"name": "log", "description": "The transparency log: RFC 6962, and static-ct files."},
            {"name": "status", "description": "Revocation: OCSP, CRLs, and the issuing certificates."},
            {"name": "trust", "description": "What verifiers must know to trust this service."},
            {"name": "admin", "description": "Administration: find, revoke, block, and the audit record."},
            {"name": "service", "description": "Health, this document, and the page for people."},
        ],
        "paths": {**PATHS, **(more_paths or {})},
        "components": {**COMPONENTS, "schemas": {**SCHEMAS, **admin.SCHEMAS}},
    }


def blueprint(described: Mapping[str, object]) -> Blueprint:
    """Serve a document made by `document` at /openapi.json."""
    calls = Blueprint("openapi", __name__)
    allow_any_origin(calls)
    body = json.dumps(described, separators=(",", ":"))

    @calls.get("/openapi.json")
    def get_openapi() -> Response:
        return bytes_reply(body, "application/json", cache=CACHED_FOR_MINUTES)

    return calls
