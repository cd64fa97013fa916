"""PEM texts from DER bytes, without parsing what is known to be right (RFC 7468)."""

from base64 import b64encode

_LINE = 64


def certificate_pem(certificate: bytes) -> str:
    """Write a DER certificate as a CERTIFICATE block, ending with a newline."""
    return _block("CERTIFICATE", certificate)


def public_key_pem(spki: bytes) -> str:
    """Write a DER SubjectPublicKeyInfo as a PUBLIC KEY block, ending with a newline."""
    return _block("PUBLIC KEY", spki)


def _block(label: str, der: bytes) -> str:
    text = b64encode(der).decode("ascii")
    lines = "\n".join([text[start : start + _LINE] for start in range(0, len(text), _LINE)])
    return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n"
