"""Sigstore's trust material as JSON-ready dicts: trusted root, signing config, client trust config.

The shapes are protobuf-specs' JSON, narrowed to what sigstore-python, sigstore-js and sigstore-go all accept.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from ca_service.errors import ConfigurationError
from ca_service.pki.keys import spki_der
from ca_service.vocabulary import format_time

Json: TypeAlias = Mapping[str, "Json"] | Sequence["Json"] | str | int

TRUSTED_ROOT = "application/vnd.dev.sigstore.trustedroot+json;version=0.1"
SIGNING_CONFIG = "application/vnd.dev.sigstore.signingconfig.v0.2+json"
CLIENT_TRUST_CONFIG = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"

_CURVE_DETAILS = {
    "secp256r1": "PKIX_ECDSA_P256_SHA_256",
    "secp384r1": "PKIX_ECDSA_P384_SHA_384",
    "secp521r1": "PKIX_ECDSA_P521_SHA_512",
}
_RSA_DETAILS = (2048, 3072, 4096)
_NOTE_ED25519 = b"\x01"


@dataclass(frozen=True, slots=True)
class TrustedAuthority:
    """A certificate or timestamp authority: its chain (the signing certificate first, root last) and URL.

    It is trusted from the first certificate's notBefore until `valid_until`, when that is given.
    """

    chain: tuple[x509.Certificate, ...]
    url: str
    valid_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class TrustedLog:
    """A transparency log: `valid_from` is at or before its first timestamp, `valid_until` its retirement.

    `origin` is the name in the checkpoints of a log that has its id from there (Rekor 2).
    """

    url: str
    public_key: PublicKeyTypes
    valid_from: datetime
    valid_until: datetime | None = None
    origin: str = ""


@dataclass(frozen=True, slots=True)
class SigningService:
    """A service that signers call: its API version and operator, and from when to when to use it."""

    url: str
    major_api_version: int
    operator: str
    valid_from: datetime
    valid_until: datetime | None = None


def trusted_root(
    authorities: Sequence[TrustedAuthority],
    logs: Sequence[TrustedLog],
    tsas: Sequence[TrustedAuthority] = (),
    tlogs: Sequence[TrustedLog] = (),
) -> dict[str, Json]:
    """The trusted root, version 0.1: what verifiers trust. `logs` are CT logs, `tlogs` artifact logs (Rekor).

    Raises ConfigurationError for a log key of a kind that this format has no name for.
    """
    return {
        "mediaType": TRUSTED_ROOT,
        "tlogs": [_log(log) for log in tlogs],
        "certificateAuthorities": [_authority(authority) for authority in authorities],
        "ctlogs": [_log(log) for log in logs],
        "timestampAuthorities": [_authority(authority) for authority in tsas],
    }


def signing_config(
    authority: SigningService,
    rekors: Sequence[SigningService],
    tsas: Sequence[SigningService] = (),
    oidc: Sequence[SigningService] = (),
) -> dict[str, Json]:
    """The signing config, version 0.2: whom signers call. The authority's `major_api_version` must be 1.

    Raises ConfigurationError without anybody who tells when a signature was made (cosign takes a timestamp
    authority for that, the other clients want a Rekor), or for another version.
    """
    if not rekors and not tsas:
        raise ConfigurationError(
            "A signing config needs somebody who tells when a signature was made: expected a Rekor or a "
            "timestamp authority, none was given. Name one with --rekor URL=KEY or --tsa URL=CHAIN.",
        )
    if authority.major_api_version != 1:
        raise ConfigurationError(
            "Sigstore clients know certificate authorities of API version 1 only (the REST path says v2 all "
            "the "
            f"same); version {authority.major_api_version} was given.",
        )
    return {
        "mediaType": SIGNING_CONFIG,
        "caUrls": [_service(authority)],
        "oidcUrls": [_service(service) for service in oidc],
        "rekorTlogUrls": [_service(service) for service in rekors],
        **({"rekorTlogConfig": {"selector": "ANY"}} if rekors else {}),
        "tsaUrls": [_service(service) for service in tsas],
        **({"tsaConfig": {"selector": "ANY"}} if tsas else {}),
    }


def client_trust_config(root: Mapping[str, Json], config: Mapping[str, Json]) -> dict[str, Json]:
    """The client trust config, version 0.1: a trusted root and a signing config in one file.

    Raises ConfigurationError when the trusted root names no artifact log, which clients refuse.
    """
    if not root.get("tlogs"):
        raise ConfigurationError(
            "A client trust config needs the key of an artifact log: the trusted root names none, and "
            "Sigstore "
            "clients refuse that. Name one with --rekor URL=KEY.",
        )
    return {"mediaType": CLIENT_TRUST_CONFIG, "trustedRoot": root, "signingConfig": config}


def _authority(authority: TrustedAuthority) -> Json:
    first = authority.chain[0]
    return {
        "subject": {
            "organization": _attribute(first.subject, NameOID.ORGANIZATION_NAME),
            "commonName": _attribute(first.subject, NameOID.COMMON_NAME),
        },
        "uri": authority.url,
        "certChain": {
            "certificates": [
                {"rawBytes": _base64(each.public_bytes(Encoding.DER))} for each in authority.chain
            ]
        },
        "validFor": _period(first.not_valid_before_utc, authority.valid_until),
    }


def _log(log: TrustedLog) -> Json:
    spki = spki_der(log.public_key)
    return {
        "baseUrl": log.url,
        "hashAlgorithm": "SHA2_256",
        "publicKey": {
            "rawBytes": _base64(spki),
            "keyDetails": _key_details(log),
            "validFor": _period(log.valid_from, log.valid_until),
        },
        "logId": {"keyId": _base64(_log_id(log, spki))},
    }


def _log_id(log: TrustedLog, spki: bytes) -> bytes:
    """SHA-256 of the key (RFC 6962 §3.2); of an Ed25519 key with the log's name (C2SP signed-note)."""
    if log.origin and isinstance(log.public_key, ed25519.Ed25519PublicKey):
        return hashlib.sha256(
            log.origin.encode() + b"\n" + _NOTE_ED25519 + log.public_key.public_bytes_raw()
        ).digest()
    return hashlib.sha256(spki).digest()


def _key_details(log: TrustedLog) -> str:
    match log.public_key:
        case ec.EllipticCurvePublicKey() as key if key.curve.name in _CURVE_DETAILS:
            return _CURVE_DETAILS[key.curve.name]
        case rsa.RSAPublicKey() as key if key.key_size in _RSA_DETAILS:
            return f"PKIX_RSA_PKCS1V15_{key.key_size}_SHA256"
        case ed25519.Ed25519PublicKey():
            return "PKIX_ED25519"
    raise ConfigurationError(
        f"The key of the log {log.url} is of a kind that a trusted root has no name for; expected ECDSA "
        "P-256 "
        "(the only one every client accepts), P-384, P-521, RSA 2048, 3072 or 4096, or Ed25519.",
    )


def _service(service: SigningService) -> Json:
    return {
        "url": service.url,
        "majorApiVersion": service.major_api_version,
        "validFor": _period(service.valid_from, service.valid_until),
        "operator": service.operator,
    }


def _period(start: datetime, end: datetime | None) -> Json:
    return {"start": format_time(start), **({} if end is None else {"end": format_time(end)})}


def _attribute(name: x509.Name, oid: x509.ObjectIdentifier) -> str:
    return next((str(attribute.value) for attribute in name.get_attributes_for_oid(oid)), "")


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
