"""When a signature was made, as its Sigstore bundle tells, and what a revocation means for that moment."""

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key

from ca_service.cli.timestamps import timestamps
from ca_service.cli.verdicts import Verdict
from ca_service.pki.signatures import verify_sha256

_ENDLESS = (KeyError, IndexError, TypeError, AttributeError, ValueError, RecursionError, OverflowError)


@dataclass(frozen=True, slots=True)
class SigningTime:
    """A moment, and whose word it is: `given` by the caller, `rekor` or `tsa` verified, `bundle` not."""

    moment: datetime
    source: str

    @property
    def trusted(self) -> bool:
        """Whether a verdict may depend on it: whoever holds a stolen key writes what he likes in a bundle."""
        return self.source != "bundle"


@dataclass(frozen=True, slots=True)
class Meaning:
    """Whether a signature of that moment counts, and a sentence that says why."""

    holds: bool
    sentence: str


def signing_time(
    bundle: Mapping[str, Any], certificate: x509.Certificate, trusted_root: Path | None
) -> SigningTime | None:
    """When the signature in a bundle was there, by an artifact log's entry or a timestamp authority, or None.

    It is the earliest time that `trusted_root` (trusted_root.json) verifies, else the first that the bundle
    tells. Of an entry the log's promise is verified, over time and entry, and that the entry is about this
    certificate; of a timestamp what `timestamps` says.
    """
    found = [*_logged(bundle, certificate, trusted_root)]
    found += [
        SigningTime(each.moment, "tsa" if each.verified else "bundle")
        for each in timestamps(bundle, certificate, trusted_root)
    ]
    verified = [each for each in found if each.trusted]
    return min(verified, key=lambda each: each.moment) if verified else next(iter(found), None)


def _logged(
    bundle: Mapping[str, Any], certificate: x509.Certificate, trusted_root: Path | None
) -> Iterator[SigningTime]:
    try:
        entries = list(bundle["verificationMaterial"].get("tlogEntries", ()))
    except _ENDLESS:
        return
    keys = dict(_log_keys(trusted_root)) if trusted_root is not None else {}
    for entry in entries:
        try:
            seconds = int(entry["integratedTime"])
            moment = datetime.fromtimestamp(seconds, UTC)
        except (*_ENDLESS, OSError):
            continue
        if seconds > 0:
            promised = _is_promised(entry, seconds, certificate, keys)
            yield SigningTime(moment, "rekor" if promised else "bundle")


def meaning(certificate: x509.Certificate | None, verdicts: list[Verdict], moment: datetime) -> Meaning:
    """What verdicts on a certificate and its authority mean for a signature made at a moment."""
    when = f"{moment:%Y-%m-%dT%H:%M:%SZ}"
    if certificate is not None:
        begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if not begins <= moment <= ends:
            return Meaning(
                False,
                f"the certificate was not valid at {when}, only from {begins:%Y-%m-%dT%H:%M:%SZ} to"
                f" {ends:%Y-%m-%dT%H:%M:%SZ}: a signature of that moment does not count",
            )
    if any(verdict.status == "unknown" for verdict in verdicts):
        return Meaning(False, f"a signature made at {when} does not count: its certificate is unknown")
    dates = [verdict.revocation_date for verdict in verdicts if verdict.revocation_date is not None]
    if not dates:
        return Meaning(True, f"a signature made at {when} counts")
    if moment < min(dates):
        return Meaning(
            True,
            f"a signature made at {when} counts: it is older than the revocation date (openssl and GnuTLS"
            " refuse it all the same)",
        )
    return Meaning(
        False, f"a signature made at {when} does not count: it is not older than the revocation date"
    )


def _log_keys(trusted_root: Path) -> Iterator[tuple[bytes, Any]]:
    """The keys of the artifact logs in a trusted root, by log id; none when it cannot be read."""
    try:
        logs = json.loads(trusted_root.read_bytes()).get("tlogs", ())
        for log in logs:
            key = load_der_public_key(base64.b64decode(log["publicKey"]["rawBytes"], validate=True))
            yield base64.b64decode(log["logId"]["keyId"], validate=True), key
    except (*_ENDLESS, OSError):
        return


def _is_promised(
    entry: Mapping[str, Any], seconds: int, certificate: x509.Certificate, keys: Mapping[bytes, Any]
) -> bool:
    """Whether Rekor signed this time over an entry about this certificate (its signed entry timestamp)."""
    try:
        log_id = base64.b64decode(entry["logId"]["keyId"], validate=True)
        promise = base64.b64decode(entry["inclusionPromise"]["signedEntryTimestamp"], validate=True)
        body = base64.b64decode(entry["canonicalizedBody"], validate=True)
        signed = {
            "body": entry["canonicalizedBody"],
            "integratedTime": seconds,
            "logID": log_id.hex(),
            "logIndex": int(entry["logIndex"]),
        }
        canonical = json.dumps(signed, sort_keys=True, separators=(",", ":")).encode()
        verify_sha256(keys[log_id], promise, canonical)
        der = certificate.public_bytes(Encoding.DER)
        return any(der == found for found in _certificates(json.loads(body)))
    except _ENDLESS:
        return False


def _certificates(value: object) -> Iterator[bytes]:
    """The DER of every certificate in an entry's body, whatever its kind: they are PEM in base64."""
    if isinstance(value, dict | list):
        for member in value.values() if isinstance(value, dict) else value:
            yield from _certificates(member)
    elif isinstance(value, str):
        try:
            pem = base64.b64decode(value, validate=True)
            if b"-----BEGIN CERTIFICATE-----" in pem:
                yield x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
        except (ValueError, binascii.Error):
            return
