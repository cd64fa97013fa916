"""A provider with a clock the test moves, and a browser that logs in."""

import base64
import hashlib
import html
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from ca_service.web.dev_idp import DevIdentityProvider, blueprint

URL = "http://127.0.0.1:5555"
VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
REDIRECT = "http://localhost:43210/auth/callback"
BASIC = {"Authorization": "Basic " + base64.b64encode(b"sigstore:").decode()}


@dataclass
class Clock:
    """Seconds since 1970, moved by hand."""

    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Browser:
    """A person with a browser, and the client's half of the flow."""

    client: FlaskClient
    asked: Mapping[str, str] = field(
        default_factory=lambda: {
            "response_type": "code",
            "client_id": "sigstore",
            "client_secret": "",
            "scope": "openid email",
            "redirect_uri": REDIRECT,
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
            "state": "the state",
        }
    )

    def parameters(self, **changes: str | None) -> dict[str, str]:
        """What sigstore-python asks with; None leaves a parameter out."""
        return {name: value for name, value in {**self.asked, **changes}.items() if value is not None}

    def open(self, **changes: str | None) -> TestResponse:
        """GET the login page."""
        return self.client.get("/dev-idp/authorize", query_string=self.parameters(**changes))

    def submit(self, email: str = "ada@example.com", /, **changes: str | None) -> TestResponse:
        """Fill in the form of the login page."""
        page = self.open(**changes)
        assert page.status_code == 200, page.text
        token = re.search(r'name="csrf_token" value="([^"]+)"', page.text)
        assert token, page.text
        form = {"csrf_token": html.unescape(token[1]), "email": email, "decision": "allow"}
        return self.client.post("/dev-idp/authorize", query_string=self.parameters(**changes), data=form)

    def code(self, **changes: str) -> str:
        """Log in and take the code out of the redirect."""
        return location(self.submit(**changes))["code"]

    def redeem(self, code: str, headers: Mapping[str, str] = BASIC, /, **changes: str | None) -> TestResponse:
        """POST the code to the token endpoint as sigstore-python does."""
        form = {
            "grant_type": "authorization_code",
            "redirect_uri": REDIRECT,
            "code": code,
            "code_verifier": VERIFIER,
            **changes,
        }
        sent = {name: value for name, value in form.items() if value is not None}
        return self.client.post("/dev-idp/token", data=sent, headers=headers)


def location(response: TestResponse) -> dict[str, str]:
    """The query of the redirect."""
    assert response.status_code == 302, response.text
    query: dict[str, Any] = parse_qs(urlsplit(response.headers["Location"]).query, strict_parsing=True)
    return {name: values[0] for name, values in query.items()}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def provider(clock: Clock) -> DevIdentityProvider:
    return DevIdentityProvider(URL, clock=clock)


@pytest.fixture
def app(provider: DevIdentityProvider) -> Flask:
    application = Flask(__name__)
    application.register_blueprint(blueprint(provider))
    return application


@pytest.fixture
def browser(app: Flask) -> Browser:
    app.config["SERVER_NAME"] = "127.0.0.1:5555"
    return Browser(app.test_client())
