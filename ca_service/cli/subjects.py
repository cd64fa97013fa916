"""The certificate a person means: its serial, or a file that holds it."""

import base64
import binascii
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from cryptography import x509

from ca_service.vocabulary import Serial, parse_serial


@dataclass(frozen=True, slots=True)
class Subject:
    """A certificate by its serial, itself when a file was given, and the bundle (JSON) when it was one."""

    serial: Serial
    certificate: x509.Certificate | None
    bundle: Mapping[str, Any] | None = None


class SubjectArgument(click.ParamType[Subject]):
    """SERIAL as hex, or a file: PEM (its first certificate), DER, Sigstore bundle; - is standard input."""

    name = "SERIAL|CERT.pem"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Subject:
        """Read it; a wrong one is a usage error with a sentence."""
        if isinstance(value, Subject):
            return value
        try:
            if value == "-" or Path(value).is_file():
                content = sys.stdin.buffer.read() if value == "-" else Path(value).read_bytes()
                certificate = read_certificate(content)
                bundle = json.loads(content) if content.lstrip().startswith(b"{") else None
                return Subject(Serial(certificate.serial_number), certificate, bundle)
            if "/" in value or "." in value:
                self.fail(f"there is no file {value}", param, ctx)
            return Subject(parse_serial(value), None)
        except (ValueError, OSError) as error:
            self.fail(str(error), param, ctx)


def read_certificate(content: bytes) -> x509.Certificate:
    """Read the first certificate of a PEM file, a DER file, or the one of a Sigstore bundle (JSON).

    Raises ValueError with a sentence.
    """
    try:
        if content.lstrip().startswith(b"{"):
            return x509.load_der_x509_certificate(_of_bundle(content))
        if b"-----BEGIN" in content:
            return x509.load_pem_x509_certificates(content)[0]
        return x509.load_der_x509_certificate(content)
    except ValueError:
        raise ValueError("the file holds no certificate; expected PEM, DER or a Sigstore bundle") from None


def _of_bundle(content: bytes) -> bytes:
    try:
        material = json.loads(content)["verificationMaterial"]
        if "certificate" in material:
            encoded = material["certificate"]["rawBytes"]
        else:
            encoded = material["x509CertificateChain"]["certificates"][0]["rawBytes"]
        return base64.b64decode(encoded, validate=True)
    except (KeyError, IndexError, TypeError, RecursionError, binascii.Error) as error:
        raise ValueError("not a Sigstore bundle") from error
