"""The certificate a person means: its serial, or a file that holds it."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from cryptography import x509

from ca_service.cli.signature_files import read_signature_file
from ca_service.vocabulary import Serial, parse_serial


@dataclass(frozen=True, slots=True)
class Subject:
    """A certificate by its serial, itself when a file was given, and the Sigstore bundle that this was."""

    serial: Serial
    certificate: x509.Certificate | None
    bundle: Mapping[str, Any] | None = None


class SubjectArgument(click.ParamType[Subject]):
    """SERIAL as hex, or a file that has the certificate; - is standard input."""

    name = "SERIAL|CERT.pem"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Subject:
        """Read it; a wrong one is a usage error with a sentence."""
        if isinstance(value, Subject):
            return value
        try:
            if value == "-" or Path(value).is_file():
                content = sys.stdin.buffer.read() if value == "-" else Path(value).read_bytes()
                read = read_signature_file(content)
                return Subject(Serial(read.certificate.serial_number), read.certificate, read.bundle)
            if "/" in value or "." in value:
                self.fail(f"there is no file {value}", param, ctx)
            return Subject(parse_serial(value), None)
        except (ValueError, OSError) as error:
            self.fail(str(error), param, ctx)
