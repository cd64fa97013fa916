"""Whom a verifier believes: the authorities and certificate logs of a trusted_root.json."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import load_der_public_key

from ca_service.errors import ConfigurationError
from ca_service.pki.sct import log_id_of
from ca_service.vocabulary import LogId, parse_time


@dataclass(frozen=True, slots=True)
class TrustedLog:
    """A log: where it is read, the name in its checkpoints, its key, and from when to when it is believed."""

    url: str
    origin: str
    public_key: PublicKeyTypes
    valid_from: datetime
    valid_until: datetime | None

    @property
    def log_id(self) -> LogId:
        """SHA-256 of its key."""
        return log_id_of(self.public_key)

    def read_at(self, url: str) -> "TrustedLog":
        """The same log, read from a mirror."""
        return replace(self, url=url.rstrip("/"))


@dataclass(frozen=True, slots=True)
class Trust:
    """Who issues, and who logs."""

    authorities: tuple[x509.Certificate, ...]
    logs: tuple[TrustedLog, ...]

    def issuer_of(self, certificate: x509.Certificate) -> x509.Certificate | None:
        """The authority that signed a certificate, or None."""
        for authority in self.authorities:
            try:
                certificate.verify_directly_issued_by(authority)
            except (ValueError, TypeError, InvalidSignature):
                continue
            return authority
        return None


def trust_of_root(document: Mapping[str, Any], source: Path) -> Trust:
    """Read a trusted root, as export-trust writes it; raises ConfigurationError that names `source`."""
    try:
        authorities = tuple(
            x509.load_der_x509_certificate(_decoded(each["certChain"]["certificates"][0]))
            for each in document["certificateAuthorities"]
        )
        return Trust(authorities, tuple(map(_log, document["ctlogs"])))
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise ConfigurationError(
            f"{source} is no trusted root with authorities and certificate logs; expected the file that "
            "export-trust writes"
        ) from error


def _log(entry: Mapping[str, Any]) -> TrustedLog:
    url, key = str(entry["baseUrl"]).rstrip("/"), entry["publicKey"]
    period = key["validFor"]
    return TrustedLog(
        url=url,
        origin=url.partition("://")[2],
        public_key=load_der_public_key(_decoded(key)),
        valid_from=parse_time(period["start"]),
        valid_until=parse_time(period["end"]) if "end" in period else None,
    )


def _decoded(entry: Mapping[str, Any]) -> bytes:
    try:
        return base64.b64decode(entry["rawBytes"], validate=True)
    except binascii.Error as error:
        raise ValueError("rawBytes is no base64") from error
