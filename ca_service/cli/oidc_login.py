"""A login at an OpenID Provider by the browser: authorization code with PKCE, back to loopback (RFC 8252)."""

import base64
import hashlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlencode, urlsplit

import requests

from ca_service.cli.connection import is_private, read_bounded, session_for
from ca_service.errors import LoginFailed, ServiceUnreachable

CALLBACK = "/auth/callback"
_SECONDS = 10
_LONGEST_ANSWER = 1024 * 1024
_PAGE = (
    "<!doctype html><html lang=en><meta charset=utf-8><title>ca-service</title>"
    "<p>%s You can close this window and go back to the terminal."
)


@dataclass(frozen=True, slots=True)
class Client:
    """Where to log in, as which public client, with which scopes, and whom the token must be for."""

    issuer: str
    client_id: str
    audience: str
    scopes: tuple[str, ...]


def token_by_browser(client: Client, show: Callable[[str], None], *, deadline: float) -> str:
    """Log in and return the ID token; `show` presents an address to a person, `deadline` is monotonic.

    Raises ServiceUnreachable when the provider does not answer, LoginFailed when the browser comes back with
    a refusal, with something foreign, or not at all.
    """
    provider = _Provider(client.issuer)
    verifier, state, nonce = (secrets.token_urlsafe(48) for _ in range(3))
    with _Callback(state, client.issuer) as callback:
        asked = {
            "response_type": "code",
            "client_id": client.client_id,
            "redirect_uri": callback.url,
            "scope": " ".join(client.scopes),
            "state": state,
            "nonce": nonce,
            "code_challenge": _b64url(hashlib.sha256(verifier.encode()).digest()),
            "code_challenge_method": "S256",
        }
        separator = "&" if "?" in provider.authorization_endpoint else "?"
        show(f"{provider.authorization_endpoint}{separator}{urlencode(asked)}")
        code = callback.wait(deadline)
        token = provider.redeem(
            {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": callback.url,
                "client_id": client.client_id,
                "code_verifier": verifier,
            }
        )
    _check(token, client, nonce)
    return token


class _Provider:
    """The provider's endpoints, out of its discovery document (OpenID Connect Discovery §4)."""

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer
        document = self._ask("GET", issuer.rstrip("/") + "/.well-known/openid-configuration")
        if document.get("issuer") != issuer:
            raise ServiceUnreachable(f"the discovery document of {issuer} is that of another issuer")
        self.authorization_endpoint = self._endpoint(document, "authorization_endpoint")
        self._token_endpoint = self._endpoint(document, "token_endpoint")

    def redeem(self, form: Mapping[str, str]) -> str:
        """Exchange the code for the ID token."""
        token = self._ask("POST", self._token_endpoint, form).get("id_token")
        if not isinstance(token, str):
            raise LoginFailed(f"{self.issuer} gave no ID token; is openid among the scopes?")
        return token

    def _endpoint(self, document: Mapping[str, object], name: str) -> str:
        url = document.get(name)
        if not isinstance(url, str) or not is_private(url):
            raise ServiceUnreachable(f"the discovery document of {self.issuer} names no https {name}")
        return url

    def _ask(self, method: str, url: str, form: Mapping[str, str] | None = None) -> Mapping[str, Any]:
        if not is_private(url):
            raise ServiceUnreachable(f"{url} is plain http to another machine; nobody logs in over that")
        with session_for(url) as session:
            session.auth = lambda request: request
            try:
                with session.request(
                    method,
                    url,
                    data=form,
                    headers={"Accept": "application/json"},
                    timeout=_SECONDS,
                    allow_redirects=False,
                    stream=True,
                ) as reply:
                    status, content = reply.status_code, read_bounded(reply, _LONGEST_ANSWER)
                answer = json.loads(content)
            except requests.RequestException as error:
                raise ServiceUnreachable(f"{url} does not answer ({type(error).__name__})") from None
            except (ValueError, RecursionError):
                raise ServiceUnreachable(f"{url} does not answer with JSON (status {status})") from None
        if status != 200 or not isinstance(answer, dict):
            why = str(answer.get("error", ""))[:80] if isinstance(answer, dict) else ""
            raise LoginFailed(f"{url} refused with status {status} {why}".rstrip())
        return answer


class _Callback:
    """A server on a free loopback port that waits for the browser to come back with the state."""

    def __init__(self, state: str, issuer: str) -> None:
        self._state = state
        self._issuer = issuer
        self.came = threading.Event()
        self._answer: Mapping[str, str] = {}
        callback = self

        class Answer(BaseHTTPRequestHandler):
            timeout = 10

            def do_GET(self) -> None:
                accepted = callback.take(self.path)
                page = _PAGE % ("Done." if accepted else "This is not the login that was waited for.")
                body = page.encode()
                self.send_response(200 if accepted else 400)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Content-Security-Policy", "default-src 'none'")
                self.send_header("Referrer-Policy", "no-referrer")
                self.send_header("Cache-Control", "no-store")
                try:
                    self.end_headers()
                    self.wfile.write(body)
                finally:
                    # Only now: the process ends with the login, and the person is to read how it went.
                    if accepted:
                        callback.came.set()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
                """Write nothing: the path holds the code."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}{CALLBACK}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, name="login", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def take(self, path: str) -> bool:
        """Take what the browser brought, once and with our state; anything else is somebody else's."""
        parts = urlsplit(path)
        came = {name: values[0] for name, values in parse_qs(parts.query).items() if len(values) == 1}
        ours = hmac.compare_digest(came.get("state", "").encode(), self._state.encode())
        if parts.path != CALLBACK or not ours or self._answer:
            return False
        self._answer = came
        return True

    def wait(self, deadline: float) -> str:
        """Wait for the code; raises LoginFailed."""
        if not self.came.wait(max(deadline - time.monotonic(), 0)):
            raise LoginFailed("the browser did not come back in time")
        # RFC 9207: a provider that names itself must be the one that was asked.
        if self._answer.get("iss", self._issuer) != self._issuer:
            raise LoginFailed("the browser came back from another identity provider than it was sent to")
        if "code" not in self._answer:
            why = self._answer.get("error", "nothing")[:80]
            raise LoginFailed(f"{self._issuer} refused the login: {why}")
        return self._answer["code"]


def _check(token: str, client: Client, nonce: str) -> None:
    """Check that the token answers this login (OpenID Connect Core §3.1.3.7).

    Its signature is not ours to check: it came from the provider itself, and the service checks it anyway.
    """
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        issuer, audience, sent = claims["iss"], claims["aud"], str(claims["nonce"])
    except (IndexError, KeyError, TypeError, ValueError, RecursionError):
        raise LoginFailed(f"what {client.issuer} gave is no ID token with iss, aud and nonce") from None
    if issuer != client.issuer or not hmac.compare_digest(sent.encode(), nonce.encode()):
        raise LoginFailed("the token is of another issuer, or answers another login")
    if audience not in (client.audience, [client.audience]):
        raise LoginFailed(
            f"the token is not for {client.audience} alone, as this service demands ([admin] audience)"
        )


def _b64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
