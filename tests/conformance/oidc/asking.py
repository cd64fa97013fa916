"""Asks the service for certificates with tokens that may be bad, and reads what it answers."""

from typing import Any

import requests

from tests.support.processes import RunningService, http
from tests.support.signing import Issued, bearer, key_body, new_key, read_chain

KEY = new_key()
EMAIL = "someone@example.com"
PERSON: dict[str, Any] = {"email": EMAIL, "email_verified": True}


def ask(
    service: RunningService, token: str, challenge: str = EMAIL, *, session: requests.Session | None = None
) -> requests.Response:
    """Ask for a certificate; the token goes into the header, or into the body when it is too long."""
    in_body = token if len(token) > 6000 else None
    with session or http() as used:
        return used.post(
            f"{service.url}/api/v2/signingCert",
            json=key_body(KEY, challenge, in_body),
            headers={} if in_body else bearer(token),
            timeout=60,
        )


def issued(service: RunningService, token: str, challenge: str = EMAIL) -> Issued:
    """The certificate that the service must give for this token and a proof over the challenge."""
    return Issued(read_chain(ask(service, token, challenge)), KEY)


def refused(service: RunningService, token: str, reason: str, challenge: str = EMAIL) -> dict[str, str]:
    """Demand that the service refuses the token for this reason (400); returns the facts it gives."""
    return facts(ask(service, token, challenge), 400, reason)


def unavailable(service: RunningService, token: str, cause: str) -> dict[str, str]:
    """Demand that the service cannot reach the token's issuer because of this cause (503, Retry-After)."""
    reply = ask(service, token)
    found = facts(reply, 503, "issuer-unavailable")
    assert found["cause"] == cause, found
    assert 0 < int(reply.headers["Retry-After"]) <= 60
    return found


def facts(reply: requests.Response, status: int, reason: str) -> dict[str, str]:
    """The metadata of an error answer that must have this status and reason."""
    assert reply.status_code == status, f"{reply.status_code} {reply.reason}: {reply.text[:500]}"
    [info] = reply.json()["details"]
    assert info["reason"] == reason, reply.json()["message"]
    metadata: dict[str, str] = info["metadata"]
    return metadata
