"""Identity tokens of the development identity provider, which signs whatever claims a test wants."""

import json
from collections.abc import Mapping
from typing import Any

from tests.support.processes import RunningService, http


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
