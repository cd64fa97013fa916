"""Gets one JSON document from an issuer: bounded in time, size, redirects and in where it may lead (SSRF)."""

import ssl
from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from ca_service.errors import IssuerUnavailable
from ca_service.outbound.addresses import AddressRules
from ca_service.outbound.connection import Deadline, FetchFailed, Gate, GatedAdapter

MAX_BODY = 1024 * 1024
"""Octets of a document that are read; real ones have a few thousand."""

_MAX_REDIRECTS = 3
_REDIRECTS = (301, 302, 303, 307, 308)
_CHUNK = 16 * 1024
_RETRY_AFTER = 10


class OutboundClient:
    """Gets documents; it keeps nothing between calls, so threads and forked processes may share it."""

    def __init__(self, private_networks: Sequence[str]) -> None:
        """Take the private address ranges that may be reached; raises ConfigurationError for bad ones."""
        self._rules = AddressRules(private_networks)

    def get(self, url: str, ca_cert: str | None, timeout: float) -> bytes:
        """Get the JSON document at an https URL (http only within the private networks).

        `ca_cert` is PEM that is trusted besides the public authorities; `timeout` is in seconds, for all of
        it: name, connection, redirects and body. Raises IssuerUnavailable, which says what was wrong.
        """
        with Deadline(timeout) as deadline:
            gate = Gate(self._rules, deadline)
            try:
                return _follow(url, ca_cert, gate, deadline)
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as problem:
                failed = _failed(problem, gate, deadline)
                raise IssuerUnavailable(
                    f"{url} could not be read: {failed.why}", retry_after=_RETRY_AFTER, cause=failed.cause
                ) from None


def _follow(url: str, ca_cert: str | None, gate: Gate, deadline: Deadline) -> bytes:
    context = _context(ca_cert) if url.lower().startswith("https:") else _context(None)
    for _hop in range(_MAX_REDIRECTS + 1):
        _check_url(url)
        with requests.Session() as session:
            # No proxy, .netrc or certificate file of the environment decides where keys come from.
            session.trust_env = False
            session.mount("https://", GatedAdapter(gate, context))
            session.mount("http://", GatedAdapter(gate, context))
            headers = {
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "User-Agent": "ca-service",
            }
            response = session.get(
                url, headers=headers, timeout=deadline.left(), stream=True, allow_redirects=False
            )
            with response:
                if response.status_code in _REDIRECTS:
                    url = _redirected(url, response.headers.get("Location", ""))
                    continue
                return _body(response, deadline)
    raise FetchFailed("redirect", f"it redirects more than {_MAX_REDIRECTS} times")


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http") or not parts.hostname or "@" in parts.netloc:
        raise FetchFailed("url", "it is not an http or https URL of a host")


def _redirected(url: str, location: str) -> str:
    target = urljoin(url, location)
    if not location or urlsplit(target)[:2] != urlsplit(url)[:2]:
        raise FetchFailed("redirect", "it redirects to another host, which is not followed")
    return target


def _body(response: requests.Response, deadline: Deadline) -> bytes:
    if response.status_code != 200:
        raise FetchFailed("status", f"it answered with status {response.status_code}; expected 200")
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise FetchFailed("malformed", "it sent a compressed body, which was not asked for")
    body = bytearray()
    while chunk := response.raw.read(_CHUNK, decode_content=False):
        deadline.left()
        body += chunk
        if len(body) > MAX_BODY:
            raise FetchFailed("too-large", f"it sent more than {MAX_BODY} octets")
    # A cut connection looks like the end of a body that named no length.
    deadline.left()
    if not body.lstrip(b" \t\r\n").startswith(b"{"):
        raise FetchFailed("malformed", "it sent something else than a JSON object")
    return bytes(body)


@lru_cache(maxsize=32)
def _context(ca_cert: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=DEFAULT_CA_BUNDLE_PATH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_cert is not None:
        context.load_verify_locations(cadata=ca_cert)
    return context


def _failed(problem: Exception, gate: Gate, deadline: Deadline) -> FetchFailed:
    """Say what went wrong in our own words: a library's may hold addresses, and change."""
    if isinstance(problem, FetchFailed):
        return problem
    if gate.failed is not None:
        return gate.failed
    if deadline.passed or isinstance(problem, TimeoutError | requests.Timeout):
        return FetchFailed("timeout", "it did not answer in time")
    if isinstance(problem, requests.exceptions.SSLError | ssl.SSLError):
        return FetchFailed("tls", "its TLS certificate is not trusted, or TLS failed")
    return FetchFailed("unreachable", "the connection failed")
