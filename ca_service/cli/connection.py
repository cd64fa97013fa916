"""Speaking to a service over HTTP as one of its administrators, with its errors raised as they were there."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import click
import requests

from ca_service.errors import CAError, ServiceUnreachable, Unauthenticated
from ca_service.settings.forms import is_loopback, origin_url

PREFIX = "/admin/v1"
_SECONDS = (10, 120)
"""To connect, and between two pieces of an answer: a large revocation takes its time."""
_LONGEST_ANSWER = 256 * 1024 * 1024
_CHUNK = 65_536


def server_url(text: str) -> str:
    """Check the address of a service; raises click.UsageError for one that would show a token to others."""
    url = text.rstrip("/")
    try:
        origin_url(url)
    except ValueError as error:
        raise click.UsageError(f"--server: expected {error}, not {text!r}") from None
    if not is_private(url):
        raise click.UsageError(
            f"--server: expected https, or http on this machine alone, not {text!r}: the token would travel "
            "in plain text"
        )
    return url


def is_private(url: str) -> bool:
    """Say whether nobody on the way can read what is sent to a URL: https, or this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and _on_this_machine(url))


def session_for(url: str) -> requests.Session:
    """A session for requests to a URL; what stays on this machine passes no proxy of the environment."""
    session = requests.Session()
    if _on_this_machine(url):
        session.trust_env = False
        session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
    return session


def read_bounded(reply: requests.Response, longest: int) -> bytes:
    """Read the body of a streamed answer; raises ServiceUnreachable when it is longer than `longest`."""
    content = bytearray()
    for chunk in reply.iter_content(_CHUNK):
        content += chunk
        if len(content) > longest:
            raise ServiceUnreachable("the answer is longer than any honest one")
    return bytes(content)


class Connection:
    """Calls of one service's /admin/v1 with one token."""

    def __init__(self, server: str, token: str | None) -> None:
        """Take a URL that `server_url` has checked, and the token; without one only login-options answers."""
        self.server = server
        self._session = session_for(server)
        # Or requests would replace our header by a password out of ~/.netrc.
        self._session.auth = lambda request: request
        self._session.headers["Accept"] = "application/json"
        if token is not None:
            self._session.headers["Authorization"] = f"Bearer {token}"

    def call(self, method: str, path: str, body: Mapping[str, object] | None = None) -> dict[str, object]:
        """Make one call and return its answer; raises the CAError that it was refused with."""
        try:
            with self._session.request(
                method,
                f"{self.server}{PREFIX}{path}",
                json=body,
                timeout=_SECONDS,
                allow_redirects=False,
                stream=True,
            ) as reply:
                content = read_bounded(reply, _LONGEST_ANSWER)
                status, request_id = reply.status_code, reply.headers.get("X-Request-Id", "")
        except requests.exceptions.SSLError:
            raise ServiceUnreachable(f"the TLS certificate of {self.server} is not trusted here") from None
        except requests.RequestException as error:
            raise ServiceUnreachable(f"{self.server} does not answer ({type(error).__name__})") from None
        with suppress(ValueError, RecursionError):
            answer = json.loads(content)
            if isinstance(answer, dict):
                if status == 200:
                    return answer
                self._raise_refusal(answer, request_id)
        raise ServiceUnreachable(
            f"what answers at {self.server} is no ca-service with {PREFIX} (status {status})"
        )

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def _raise_refusal(self, answer: Mapping[str, Any], request_id: str) -> None:
        """Raise the error that an answer tells of; return when it tells of none."""
        try:
            message, (info,) = str(answer["message"]), answer["details"]
            reason, metadata = str(info["reason"]), info["metadata"]
            facts = {str(name): str(value) for name, value in metadata.items()}
        except (KeyError, TypeError, ValueError, AttributeError):
            return
        kind = _KINDS.get(reason, CAError)
        if kind is CAError:
            message = f"{self.server}: {message} (request id {request_id})"
        elif kind is Unauthenticated and facts.get("cause") == "token-expired":
            message += f"; run `ca-service login --server {self.server}` again"
        raise kind(message)


def _kinds(kind: type[CAError] = CAError) -> Iterator[tuple[str, type[CAError]]]:
    for below in kind.__subclasses__():
        if "reason" in vars(below):
            yield below.reason, below
        yield from _kinds(below)


_KINDS: Mapping[str, type[CAError]] = dict(_kinds())


def _on_this_machine(url: str) -> bool:
    return is_loopback(f"{urlsplit(url).hostname}:0")
