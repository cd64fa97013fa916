"""The page at /, for people: what this service is, whom it trusts, its keys and how to use it."""

import shlex
from base64 import b64encode
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from flask import Blueprint, Response, render_template
from markupsafe import Markup

from ca_service import __version__
from ca_service.errors import Unavailable
from ca_service.identity.issuers import IssuerDirectory
from ca_service.vocabulary import format_seconds, format_time
from ca_service.web.fulcio import Chains
from ca_service.web.log import ServedLog
from ca_service.web.replies import bytes_reply
from ca_service.web.trust import NEEDS_REKOR


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where and whose this service is; `dev_idp_url` only when the development identity provider runs."""

    url: str
    status_url: str
    organization: str
    dev_idp_url: str | None = None


@dataclass(frozen=True, slots=True)
class _Certificate:
    name: str
    key_id: str
    fingerprint: str
    not_before: str
    not_after: str


@dataclass(frozen=True, slots=True)
class _Log:
    shard: str
    origin: str
    log_id: str
    size: int | None
    starts: str | None = None
    ends: str | None = None
    closed: bool = False


def blueprint(
    addresses: Addresses,
    issuers: Callable[[], IssuerDirectory],
    trust: Chains,
    logs: Mapping[str, ServedLog],
    documents: Callable[[], Collection[str]],
) -> Blueprint:
    """Serve the page; `documents` names the trust files that can be made."""
    pages = Blueprint("home", __name__, template_folder="templates")
    pages.add_app_template_filter(shlex.quote, "shell")
    stylesheet = (files("ca_service.web") / "templates" / "home.css").read_text("utf-8")
    # The one style of the page is allowed by its hash; scripts, frames and everything else are not.
    digest = b64encode(sha256(stylesheet.encode()).digest()).decode("ascii")
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )

    @pages.get("/")
    def get_home() -> Response:
        directory, available = issuers(), documents()
        page = render_template(
            "home.html",
            url=addresses.url,
            status_url=addresses.status_url,
            organization=addresses.organization,
            dev_idp_url=addresses.dev_idp_url,
            issuers=[*directory.issuers, *directory.wildcards],
            first_issuer=directory.issuers[0] if directory.issuers else None,
            certificates=_certificates(trust),
            logs=[_log(served) for served in logs.values()],
            documents=[name for name in NEEDS_REKOR if name in available],
            stylesheet=Markup(stylesheet),  # noqa: S704 - a file of this package, hashed in the policy
            version=__version__,
        )
        reply = bytes_reply(page, "text/html; charset=utf-8", cache="no-cache")
        reply.headers["Content-Security-Policy"] = policy
        return reply

    return pages


def _certificates(trust: Chains) -> list[_Certificate]:
    pems = dict.fromkeys(pem for chain in trust.chains() for pem in chain)
    return [_certificate(x509.load_pem_x509_certificate(pem.encode("ascii"))) for pem in pems]


def _certificate(certificate: x509.Certificate) -> _Certificate:
    try:
        key_id = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest.hex()
    except x509.ExtensionNotFound:
        key_id = ""
    return _Certificate(
        name=certificate.subject.rfc4514_string(),
        key_id=key_id,
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        not_before=format_time(certificate.not_valid_before_utc),
        not_after=format_time(certificate.not_valid_after_utc),
    )


def _log(served: ServedLog) -> _Log:
    try:
        size = served.reader.head().tree_size
    except Unavailable:
        size = None  # the page says so; the rest of it needs no database
    identity, shard = served.identity, served.shard
    if shard is None:
        return _Log(identity.shard, identity.origin, identity.log_id.hex(), size)
    return _Log(
        identity.shard,
        identity.origin,
        identity.log_id.hex(),
        size,
        starts=format_seconds(shard.period.starts) if shard.period.starts else None,
        ends=None if shard.period.ends is None else format_seconds(shard.period.ends),
        closed=shard.frozen,
    )
