"""Fulcio's certificate extensions, arc 1.3.6.1.4.1.57264.1: what of a token goes into a leaf, and how."""

from collections.abc import Mapping

from ca_service.errors import ConfigurationError, TokenClaimInvalid
from ca_service.pki import der

FULCIO_ARC = "1.3.6.1.4.1.57264.1"

ISSUER_RAW = f"{FULCIO_ARC}.1"
"""The issuer as raw bytes: deprecated, and still the only form sigstore-python's command line reads."""

USERNAME_OTHER_NAME = f"{FULCIO_ARC}.7"

FULCIO_OIDS: Mapping[str, str] = {
    name: f"{FULCIO_ARC}.{arc}"
    for name, arc in {
        "github-workflow-trigger": 2,
        "github-workflow-sha": 3,
        "github-workflow-name": 4,
        "github-workflow-repository": 5,
        "github-workflow-ref": 6,
        "issuer": 8,
        "build-signer-uri": 9,
        "build-signer-digest": 10,
        "runner-environment": 11,
        "source-repository-uri": 12,
        "source-repository-digest": 13,
        "source-repository-ref": 14,
        "source-repository-identifier": 15,
        "source-repository-owner-uri": 16,
        "source-repository-owner-identifier": 17,
        "build-config-uri": 18,
        "build-config-digest": 19,
        "build-trigger": 20,
        "run-invocation-uri": 21,
        "source-repository-visibility-at-signing": 22,
        "deployment-environment": 23,
        "token-subject": 24,
    }.items()
}
"""Extension name, as Fulcio's issuer file spells it, to OID, by arc; `issuer` is also emitted as .1."""

_PLACES = {name: place for place, name in enumerate(FULCIO_OIDS)}

# Raw text without a DER type, as Fulcio has always written these (fulcio docs/oid-info.md).
_RAW = frozenset(name for name in FULCIO_OIDS if name.startswith("github-workflow-"))


def encode(extensions: Mapping[str, str]) -> list[tuple[str, bytes]]:
    """Encode extensions as (OID, extension value DER), ordered by OID; empty ones are left out.

    Raises ConfigurationError for a name Fulcio does not know, TokenClaimInvalid for text that is not Unicode.
    """
    if unknown := extensions.keys() - FULCIO_OIDS.keys():
        raise ConfigurationError(
            f"The issuer file asks for the certificate extension {min(unknown)!r}, which Fulcio does not "
            "define; "
            f"expected one of {', '.join(FULCIO_OIDS)}. Correct its name.",
        )
    encoded = []
    if issuer := extensions.get("issuer"):
        encoded.append((ISSUER_RAW, _utf8("issuer", issuer)))
    for name in sorted(extensions, key=_PLACES.__getitem__):
        if text := extensions[name]:
            octets = _utf8(name, text)
            encoded.append((FULCIO_OIDS[name], octets if name in _RAW else der.tlv(0x0C, octets)))
    return encoded


def _utf8(name: str, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise TokenClaimInvalid(
            f"The text for the certificate extension {name} holds half of a surrogate pair, which no "
            "certificate "
            "can carry; expected Unicode text. Correct the claim at the issuer.",
            extension=name,
        ) from None
