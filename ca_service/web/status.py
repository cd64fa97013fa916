"""What verifiers ask, over plain http: OCSP (RFC 6960, RFC 5019), the CRLs and the issuing certificates.

These are the addresses that certificates name for years, so paths here never change.
"""

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from flask import Blueprint, Response, request
from werkzeug.http import http_date

from ca_service.authority.publication import ListedCrl, PublishedCrl
from ca_service.authority.status import OcspAnswer
from ca_service.errors import NotFound
from ca_service.pki.ocsp import CertStatus
from ca_service.vocabulary import format_seconds
from ca_service.web.base64_text import decode_base64
from ca_service.web.bodies import read_body
from ca_service.web.conditions import conditional, tagged
from ca_service.web.replies import NEVER_CACHED, Headers, bytes_reply, json_reply
from ca_service.web.shortcuts import QuickReply, Shortcut

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

OCSP_RESPONSE = "application/ocsp-response"
CRL = "application/pkix-crl"
CERTIFICATE = "application/pkix-cert"

_CRL_CACHED = "public, max-age=60, no-transform, must-revalidate"
"""Short: a shard is signed anew on every revocation, and a 304 costs next to nothing."""
# nginx obeys these two and passes them to nobody. The first: keep nothing. The second: keep it, and ask each
# time whether it is still the one.
_NOT_IN_NGINX = ("X-Accel-Expires", "0")
_ASKED_FOR_ANEW = ("X-Accel-Expires", "@1")

_CERTIFICATE_CACHED = "public, max-age=86400"

_OCSP_BELOW = "/ocsp/"

_KEY_ID = re.compile(r"[0-9a-f]{40}", re.ASCII)
_SHARD = re.compile(r"[0-9a-z][0-9a-z-]{0,63}", re.ASCII)


class Responder(Protocol):
    """What answers OCSP: authority.status.StatusResponder."""

    def respond(self, request: bytes) -> OcspAnswer:
        """Answer any octets with a response, an OCSP error at worst; never raises for what a caller sends."""
        ...


class Crls(Protocol):
    """What publishes CRLs: authority.publication.Publication."""

    def crl(self, key_id: str, name: str) -> PublishedCrl | None:
        """The CRL that is right now, or None when there is no such shard; raises StoreUnavailable."""
        ...

    def index(self) -> Sequence[ListedCrl]:
        """What there is: every shard's CRL and the roots', as they are now; raises StoreUnavailable."""
        ...


class Certificates(Protocol):
    """What knows the authority's own certificates: authority.trust.TrustMaterial."""

    def certificate_der(self, key_id: str) -> bytes | None:
        """The certificate of one of the authority's keys, or None."""
        ...


def blueprint(responder: Responder, publication: Crls, trust: Certificates) -> Blueprint:
    """Serve OCSP, CRLs and issuing certificates."""
    calls = Blueprint("status", __name__)

    @calls.post("/ocsp")
    def ocsp_by_post() -> Response:
        # The media type is not looked at: what is no OCSP request is answered malformedRequest anyway.
        return _ocsp_reply(responder.respond(read_body(request)))

    @calls.get("/ocsp/<rest:encoded>")
    def ocsp_by_get(encoded: str) -> Response:
        return _ocsp_reply(responder.respond(decode_ocsp_path(encoded)))

    @calls.get("/crl/<key_id>/<shard>.crl")
    def get_crl(key_id: str, shard: str) -> Response:
        known = _KEY_ID.fullmatch(key_id) and _SHARD.fullmatch(shard)
        published = publication.crl(key_id, shard) if known else None
        if published is None:
            raise NotFound("there is no CRL of this name; /crl/index.json lists them all")
        reply = bytes_reply(published.der, CRL, cache=_CRL_CACHED, headers=(_ASKED_FOR_ANEW,))
        reply.set_etag(hashlib.sha256(published.der).hexdigest())
        reply.headers["Last-Modified"] = _http_date(published.this_update)
        # A Range that cannot be read, or asks for several parts, may be ignored (RFC 9110 §14.2).
        in_parts = request.range is None or len(request.range.ranges) == 1
        return conditional(reply, parts_of=len(published.der) if in_parts else None, dated=published.dated)

    @calls.get("/crl/index.json")
    def get_crl_index() -> Response:
        reply = json_reply({"crls": [_crl_entry(each) for each in publication.index()]}, cache=_CRL_CACHED)
        return tagged(reply)

    @calls.get("/ca/<key_id>.crt")
    def get_issuing_certificate(key_id: str) -> Response:
        der = trust.certificate_der(key_id) if _KEY_ID.fullmatch(key_id) else None
        if der is None:
            raise NotFound("there is no certificate of this key here; /trust/fulcio.pem has them all")
        return bytes_reply(der, CERTIFICATE, cache=_CERTIFICATE_CACHED)

    return calls


def shortcuts(responder: Responder) -> Sequence[Shortcut]:
    """OCSP by GET, most of what verifiers ask, past Flask."""

    def answer(environ: "WSGIEnvironment") -> QuickReply | None:
        path = environ["PATH_INFO"]
        if not path.isascii() or "HTTP_IF_NONE_MATCH" in environ or "HTTP_IF_MODIFIED_SINCE" in environ:
            return None
        given = responder.respond(decode_ocsp_path(path[len(_OCSP_BELOW) :]))
        status = "503 Service Unavailable" if given.later else "200 OK"
        return QuickReply(OCSP_RESPONSE, _ocsp_headers(given), given.der, status)

    return (Shortcut("GET", _OCSP_BELOW, "/ocsp/<rest:encoded>", answer),)


def decode_ocsp_path(encoded: str) -> bytes:
    """Read the request out of a GET path that was percent-decoded once (RFC 6960 appendix A.1).

    Clients write it in many ways: base64url, without padding, after a second slash because the URL in the
    certificate ended with one, before a closing slash. What is no base64 at all gives b"", which is no OCSP
    request either.
    """
    # A DER request starts with 0x30, hence with M: a slash in front is never part of it.
    text = encoded.lstrip("/")
    if text.endswith("=/") or (text.endswith("/") and len(text) % 4 == 1):
        text = text[:-1]
    try:
        return decode_base64(text)
    except ValueError:
        return b""


def _ocsp_reply(answer: OcspAnswer) -> Response:
    (_, cache), *headers = _ocsp_headers(answer)
    status = 503 if answer.later else 200
    reply = bytes_reply(answer.der, OCSP_RESPONSE, status=status, cache=cache, headers=headers)
    if not answer.cacheable:
        return reply
    if "HTTP_IF_NONE_MATCH" in request.environ or "HTTP_IF_MODIFIED_SINCE" in request.environ:
        return conditional(reply, dated=answer.dated)
    return reply


@lru_cache(maxsize=4096)
def _ocsp_headers(answer: OcspAnswer) -> Headers:
    if answer.later:
        # In HTTP's words too: a proxy reads no OCSP, and can then ask a node that knows.
        return (("Cache-Control", NEVER_CACHED), _NOT_IN_NGINX, ("Retry-After", "1"))
    if not answer.cacheable:
        return (("Cache-Control", NEVER_CACHED), _NOT_IN_NGINX)
    # RFC 5019 §6.2, with the directives that its successor asks for.
    return (
        ("Cache-Control", f"max-age={answer.max_age}, public, no-transform, must-revalidate"),
        ("ETag", f'"{answer.etag}"'),
        ("Last-Modified", _http_date(answer.produced_at)),
        ("Expires", _http_date(answer.next_update)),
        *((_NOT_IN_NGINX,) if CertStatus.REVOKED in answer.verdicts else ()),
    )


def _crl_entry(listed: ListedCrl) -> dict[str, object]:
    return {
        "url": listed.url,
        "number": listed.number,
        "sha256": listed.sha256,
        "thisUpdate": format_seconds(listed.this_update),
        "nextUpdate": format_seconds(listed.next_update),
    }


@lru_cache(maxsize=4096)
def _http_date(seconds: int) -> str:
    return http_date(seconds)
