"""The description of the trust files, health, this document and the page for people."""

from ca_service.web.openapi.parts import JSON, closed_object, operation, problems, reply

_PEM_TEXT: JSON = {"type": "string", "pattern": "^-----BEGIN "}
_SIGSTORE_DOCUMENT: JSON = {
    "type": "object",
    "properties": {"mediaType": {"type": "string", "pattern": "^application/vnd\\.dev\\.sigstore\\."}},
    "required": ["mediaType"],
}


def _get(name: str, tag: str, summary: str, success: JSON, *statuses: int) -> JSON:
    return {"get": operation(name, [tag], summary, {"200": success, **problems(*statuses)})}


def _json(description: str, schema: JSON) -> JSON:
    return reply(description, "application/json", schema)


_NEEDS_REKOR = "There is none (404) until the service was told of a Rekor."

_READY = closed_object(
    {
        "status": {"enum": ["READY", "DEGRADED", "NOT_READY"]},
        "checks": {
            "type": "object",
            "description": "Each check by name: ok, or the slug of what is wrong and a sentence.",
            "additionalProperties": {"type": "string"},
        },
    }
)
_READINESS_RESPONSES: JSON = {
    **problems(),
    "200": _json("It can; DEGRADED when something is away that it goes on without.", _READY),
    "503": _json("It cannot; what fails is named.", _READY),
}

PATHS: JSON = {
    "/trust/trusted_root.json": _get(
        "getTrustedRoot",
        "trust",
        "Get the Sigstore trusted root of this service",
        _json("A trusted root, version 0.1.", _SIGSTORE_DOCUMENT),
    ),
    "/trust/fulcio.pem": _get(
        "getFulcioPem",
        "trust",
        "Get the issuing certificates and roots",
        reply("Issuing certificates first, roots last.", "application/pem-certificate-chain", _PEM_TEXT),
    ),
    "/trust/ctlog.pub": _get(
        "getCtlogPublicKey",
        "trust",
        "Get the log's public key",
        reply("The key as PEM.", "application/x-pem-file", _PEM_TEXT),
    ),
    "/trust/signing_config.json": _get(
        "getSigningConfig",
        "trust",
        "Get the signing configuration for Sigstore's clients",
        _json(f"A signing configuration, version 0.2. {_NEEDS_REKOR}", _SIGSTORE_DOCUMENT),
        404,
    ),
    "/trust/client_trust_config.json": _get(
        "getClientTrustConfig",
        "trust",
        "Get trusted root and signing configuration in one",
        _json(f"A client trust configuration, version 0.1. {_NEEDS_REKOR}", _SIGSTORE_DOCUMENT),
        404,
    ),
    "/healthz": _get(
        "getHealth",
        "service",
        "Is the service alive?",
        _json("It is.", closed_object({"status": {"const": "SERVING"}})),
    ),
    "/readyz": {
        "get": operation("getReadiness", ["service"], "Can the service do its work?", _READINESS_RESPONSES)
    },
    "/openapi.json": _get(
        "getOpenapi", "service", "Get this document", _json("OpenAPI 3.1.", {"type": "object"})
    ),
    "/": _get(
        "getHome",
        "service",
        "A page for people: what this is and how to use it",
        reply("HTML.", "text/html; charset=utf-8", {"type": "string"}),
    ),
}
