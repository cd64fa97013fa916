"""Identity tokens with whatever claims a test wants: of the development provider, or of an issuer."""

import json
import time
from collections.abc import Mapping
from typing import Any, Protocol

from tests.support.issuer import LocalIssuer
from tests.support.processes import RunningService, http


class Tokens(Protocol):
    """Somebody whose tokens a service takes."""

    def mint(
        self,
        email: str,
        *,
        audience: str = "sigstore",
        claims: Mapping[str, Any] | None = None,
        expires_in: int = 600,
    ) -> str:
        """A fresh token; `claims` add to the usual ones or replace them, None leaves one out."""
        ...

    def token(self, email: str) -> str:
        """A token for this verified address."""
        ...


class IssuerDesk:
    """Tokens of an issuer of its own beside the service."""

    def __init__(self, issuer: LocalIssuer) -> None:
        self.issuer = issuer

    def mint(
        self,
        email: str,
        *,
        audience: str = "sigstore",
        claims: Mapping[str, Any] | None = None,
        expires_in: int = 600,
    ) -> str:
        """See Tokens."""
        now = int(time.time())
        usual = {"iss": self.issuer.url, "sub": f"sub-of-{email}", "aud": audience, "iat": now}
        usual |= {"exp": now + expires_in, "email": email, "email_verified": True}
        asked = {**usual, **(claims or {})}
        return self.issuer.sign({name: value for name, value in asked.items() if value is not None})

    def token(self, email: str) -> str:
        """See Tokens."""
        return self.mint(email)


class TokenDesk:
    """Mints tokens as `ca-service dev-token` does, over HTTP with the secret in the folder."""

    def __init__(self, service: RunningService) -> None:
        self.service = service

    def mint(
        self,
        email: str,
        *,
        audience: str = "sigstore",
        claims: Mapping[str, Any] | None = None,
        expires_in: int = 600,
    ) -> str:
        """A fresh token; `claims` add to the usual ones or replace them, None leaves one out."""
        secret = json.loads((self.service.directory / "run" / "dev.json").read_text())["secret"]
        order = {"email": email, "audience": audience, "claims": dict(claims or {}), "expires_in": expires_in}
        with http() as session:
            reply = session.post(
                f"{self.service.url}/dev-idp/mint",
                json=order,
                headers={"Authorization": f"Bearer {secret}"},
                timeout=60,
            )
        assert reply.status_code == 200, reply.text
        return str(reply.json()["token"])

    def token(self, email: str) -> str:
        """A token for this verified address."""
        return self.mint(email)
