"""The description of Fulcio's calls."""

from ca_service.web.openapi.parts import (
    JSON,
    PEM_CERTIFICATE,
    RATE_LIMIT_HEADERS,
    closed_object,
    operation,
    problems,
    reply,
)

_TEXT: JSON = {"type": ["string", "null"]}
_OCTETS: JSON = {
    "type": ["string", "null"],
    "contentEncoding": "base64",
    "pattern": "^[A-Za-z0-9+/_\\r\\n-]*=*$",
}


def _described(schema: JSON, description: str) -> JSON:
    return {**schema, "description": description}


_CSR = _described(
    _OCTETS, "Base64 of a PEM CERTIFICATE REQUEST; its own signature is the proof of possession."
)

_REQUEST: JSON = {
    "type": "object",
    "description": "Either publicKeyRequest or certificateSigningRequest.",
    "properties": {
        "credentials": {
            "type": ["object", "null"],
            "description": "When absent, the token is taken from the header Authorization.",
            "properties": {"oidcIdentityToken": _described(_TEXT, "The ID token, a JWT.")},
        },
        "publicKeyRequest": {
            "type": ["object", "null"],
            "properties": {
                "publicKey": {
                    "type": "object",
                    "properties": {
                        "algorithm": {"description": "Ignored: the key decides."},
                        "content": {"type": "string", "description": "The public key as PEM."},
                    },
                    "required": ["content"],
                },
                "proofOfPossession": _described(
                    {**_OCTETS, "type": "string"},
                    "Base64 of the signature over the challenge: the claim that /api/v2/configuration names.",
                ),
            },
            "required": ["publicKey", "proofOfPossession"],
        },
        "certificateSigningRequest": _CSR,
    },
}

_LEGACY_REQUEST: JSON = {
    "type": "object",
    "description": "Either publicKey with signedEmailAddress, or certificateSigningRequest.",
    "properties": {
        "publicKey": {
            "type": ["object", "null"],
            "properties": {
                "content": _described(_OCTETS, "Base64 of the public key as PEM or DER."),
                "algorithm": {"description": "Ignored: the key decides."},
            },
        },
        "signedEmailAddress": _described(_OCTETS, "Base64 of the signature over the challenge."),
        "certificateSigningRequest": _CSR,
    },
}

_CERTIFICATES: JSON = {"type": "array", "items": PEM_CERTIFICATE, "minItems": 2}
_CHAIN = closed_object({"certificates": _CERTIFICATES})

_OIDC_ISSUER = closed_object(
    {
        "issuerUrl": {"type": "string", "description": "The issuer; or else wildcardIssuerUrl."},
        "wildcardIssuerUrl": {
            "type": "string",
            "description": "A pattern; each * stands for letters, digits, - and _.",
        },
        "audience": {"type": "string", "description": "What `aud` must contain."},
        "challengeClaim": {"type": "string", "description": "The claim whose value a client signs."},
        "spiffeTrustDomain": {"type": "string"},
        "issuerType": {"type": "string"},
        "subjectDomain": {"type": "string"},
        "skipEmailVerification": {"type": "boolean"},
    },
    required=["audience", "challengeClaim", "issuerType"],
)

_PEM_CHAIN = "application/pem-certificate-chain"
_PEM_TEXT: JSON = {"type": "string", "description": "PEM certificates, one after the other."}


def _body(schema: JSON) -> JSON:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


PATHS: JSON = {
    "/api/v2/signingCert": {
        "post": operation(
            "createSigningCertificate",
            ["fulcio"],
            "Get a certificate for an identity token and a key",
            {
                "200": reply(
                    "The certificate, which is in the log, and its chain: leaf first, root last.",
                    "application/json",
                    closed_object({"signedCertificateEmbeddedSct": closed_object({"chain": _CHAIN})}),
                    headers=RATE_LIMIT_HEADERS,
                ),
                **problems(413),
            },
            security=[{}, {"oidcToken": []}],
            requestBody=_body(_REQUEST),
        )
    },
    "/api/v2/trustBundle": {
        "get": operation(
            "getTrustBundle",
            ["fulcio", "trust"],
            "Get the chains of every authority still trusted",
            {
                "200": reply(
                    "One chain per issuing key, the root last.",
                    "application/json",
                    closed_object({"chains": {"type": "array", "items": _CHAIN}}),
                ),
                **problems(),
            },
        )
    },
    "/api/v2/configuration": {
        "get": operation(
            "getConfiguration",
            ["fulcio"],
            "List the identity providers whose tokens are accepted",
            {
                "200": reply(
                    "Every issuer, exact ones first.",
                    "application/json",
                    closed_object({"issuers": {"type": "array", "items": _OIDC_ISSUER}}),
                ),
                **problems(),
            },
        )
    },
    "/api/v1/signingCert": {
        "post": operation(
            "createSigningCertificateLegacy",
            ["fulcio"],
            "Get a certificate, as cosign 2 and gitsign ask",
            {
                "201": reply(
                    "The certificate and its chain, leaf first.",
                    _PEM_CHAIN,
                    _PEM_TEXT,
                    headers=RATE_LIMIT_HEADERS,
                ),
                **problems(413),
            },
            security=[{"oidcToken": []}],
            requestBody=_body(_LEGACY_REQUEST),
        )
    },
    "/api/v1/rootCert": {
        "get": operation(
            "getRootCertificate",
            ["fulcio", "trust"],
            "Get the issuing certificates and roots",
            {
                "200": reply("Issuing certificates first, roots last.", _PEM_CHAIN, _PEM_TEXT),
                **problems(),
            },
        )
    },
}
