"""What a verifier does: follow the URLs in a certificate, and let openssl judge what it finds there."""

import base64
import re
import subprocess
import urllib.parse
from dataclasses import dataclass
from pathlib import Path

import requests
from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID

from tests.support.processes import environment


def _access_url(certificate: x509.Certificate, method: x509.ObjectIdentifier) -> str:
    access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    (url,) = [one.access_location.value for one in access if one.access_method == method]
    return str(url)


def ocsp_url(certificate: x509.Certificate) -> str:
    """Where the certificate says its OCSP responder is."""
    return _access_url(certificate, AuthorityInformationAccessOID.OCSP)


def ca_issuers_url(certificate: x509.Certificate) -> str:
    """Where the certificate says its issuer's certificate is."""
    return _access_url(certificate, AuthorityInformationAccessOID.CA_ISSUERS)


def crl_url(certificate: x509.Certificate) -> str:
    """The one place where the certificate says its CRL is."""
    (point,) = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    assert point.full_name is not None
    (name,) = point.full_name
    return str(name.value)


def fetch_crl(session: requests.Session, certificate: x509.Certificate) -> bytes:
    """The DER of the CRL that the certificate names."""
    reply = session.get(crl_url(certificate), timeout=60)
    assert reply.status_code == 200, f"{crl_url(certificate)}: {reply.status_code} {reply.reason}"
    assert reply.headers["Content-Type"] == "application/pkix-crl"
    return reply.content


def ocsp_get_url(certificate: x509.Certificate, request: bytes) -> str:
    """The GET form of an OCSP request (RFC 6960 appendix A.1), percent-encoded as it must be."""
    encoded = urllib.parse.quote(base64.b64encode(request).decode(), safe="")
    return f"{ocsp_url(certificate)}/{encoded}"


def openssl(*arguments: str | Path, folder: Path, code: int | None = 0) -> str:
    """Run openssl in `folder` and return what it printed on both streams; `code` None takes any exit code."""
    done = subprocess.run(
        ["openssl", *map(str, arguments)],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    assert code is None or done.returncode == code, f"openssl {arguments}: {done.returncode}\n{done.stdout}"
    return done.stdout


@dataclass(frozen=True)
class OcspAnswer:
    """What `openssl ocsp` printed: the status, and for revoked the date and reason in its words."""

    status: str
    date: str | None
    reason: str | None
    text: str


def read_ocsp_answer(text: str, name: str) -> OcspAnswer:
    """Read openssl's words; AssertionError when it did not accept the signature."""
    assert "Response verify OK" in text, text
    status = re.search(rf"^{re.escape(name)}: (good|revoked|unknown)$", text, re.MULTILINE)
    assert status, text
    date = re.search(r"Revocation Time: (.+)$", text, re.MULTILINE)
    reason = re.search(r"Reason: (.+)$", text, re.MULTILINE)
    return OcspAnswer(status.group(1), date and date.group(1), reason and reason.group(1), text)


def ask_ocsp(folder: Path, url: str, *, serial: str | None = None, digest: str = "sha256") -> OcspAnswer:
    """`openssl ocsp` by POST about leaf.pem, or about a serial of the same issuer, in `folder`.

    `folder` holds leaf.pem, issuing.pem, root.pem and chain.pem. openssl sends a nonce and checks it.
    """
    subject = ("-serial", f"0x{serial}") if serial else ("-cert", "leaf.pem")
    text = openssl(
        *("ocsp", "-issuer", "issuing.pem", f"-{digest}", *subject, "-url", url),
        *("-CAfile", "root.pem", "-verify_other", "chain.pem", "-nonce"),
        folder=folder,
    )
    return read_ocsp_answer(text, f"0x{serial}" if serial else "leaf.pem")
