"""The certificate in what signing clients write, each in a form of its own."""

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs7

EXPECTED = "PEM, DER, a Sigstore bundle, or what cosign 2 or gitsign wrote"

_PEM = b"-----BEGIN CERTIFICATE-----"
_CMS = re.compile(rb"-----BEGIN (?:SIGNED MESSAGE|PKCS7|CMS)-----([^-]+)-----END")
_WRONG = (KeyError, IndexError, TypeError, AttributeError, ValueError, RecursionError, binascii.Error)


_Signature = TypeVar("_Signature")


@dataclass(frozen=True, slots=True)
class SignatureFile:
    """A certificate, and the Sigstore bundle (JSON) that it came in; of cosign 2's files what is in both."""

    certificate: x509.Certificate
    bundle: Mapping[str, Any] | None = None


def read_signature_file(content: bytes) -> SignatureFile:
    """Read the first certificate of a PEM file, a DER file, or the one that a signature was made with.

    That may be a Sigstore bundle (JSON), cosign 2's bundle, its certificate file (PEM in base64), a line of
    `cosign download signature`, or gitsign's CMS (RFC 5652), in the commit or tag that it signs or by itself.
    Raises ValueError with a sentence.
    """
    try:
        if content.lstrip().startswith(b"{"):
            return _of_json(_the_only(list(_values(content.decode()))))
        if messages := _CMS.findall(content):
            return SignatureFile(_signer_of(base64.b64decode(_the_only(messages))))
        if _PEM in content:
            return SignatureFile(x509.load_pem_x509_certificates(content)[0])
        if content.startswith(b"0"):
            return SignatureFile(x509.load_der_x509_certificate(content))
        return SignatureFile(_of_pem_in_base64(content))
    except _SeveralSignatures:
        raise
    except _WRONG:
        raise ValueError(f"the file holds no certificate; expected {EXPECTED}") from None


class _SeveralSignatures(ValueError):
    pass


def _the_only(signatures: Sequence[_Signature]) -> _Signature:
    """Refuse several: what is said about one would be taken for all, or for another."""
    if len(signatures) > 1:
        raise _SeveralSignatures(f"there are {len(signatures)} signatures here; give one at a time")
    return signatures[0]


def _values(text: str) -> Iterator[Any]:
    """The JSON values of a text, one after the other."""
    decoder, text = json.JSONDecoder(), text.strip()
    while text:
        value, end = decoder.raw_decode(text)
        yield value
        text = text[end:].lstrip()


def _of_json(written: Mapping[str, Any]) -> SignatureFile:
    if "verificationMaterial" in written:
        material = written["verificationMaterial"]
        if "certificate" in material:
            encoded = material["certificate"]["rawBytes"]
        else:
            encoded = material["x509CertificateChain"]["certificates"][0]["rawBytes"]
        der = base64.b64decode(encoded, validate=True)
        return SignatureFile(x509.load_der_x509_certificate(der), written)
    if "cert" in written:
        certificate, logged = _of_pem_in_base64(written["cert"].encode()), written.get("rekorBundle")
    else:
        raw = base64.b64decode(written["Cert"]["Raw"], validate=True)
        certificate, logged = x509.load_der_x509_certificate(raw), written.get("Bundle")
    entries = [] if logged is None else [_entry(logged)]
    return SignatureFile(certificate, {"verificationMaterial": {"tlogEntries": entries}})


def _entry(logged: Mapping[str, Any]) -> Mapping[str, Any]:
    """Rekor's entry as cosign 2 writes it, by the names that Sigstore bundles have for it."""
    payload = logged["Payload"]
    return {
        "canonicalizedBody": payload["body"],
        "inclusionPromise": {"signedEntryTimestamp": logged["SignedEntryTimestamp"]},
        "integratedTime": payload["integratedTime"],
        "logId": {"keyId": base64.b64encode(bytes.fromhex(payload["logID"])).decode()},
        "logIndex": payload["logIndex"],
    }


def _of_pem_in_base64(encoded: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificates(base64.b64decode(b"".join(encoded.split()), validate=True))[0]


def _signer_of(der: bytes) -> x509.Certificate:
    """The one certificate of a CMS message that is no authority's."""
    (certificate,) = [each for each in pkcs7.load_der_pkcs7_certificates(der) if not _is_authority(each)]
    return certificate


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False
