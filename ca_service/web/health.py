"""For whoever watches the service: is it alive, and can it do its work?"""

from collections.abc import Callable, Mapping

from flask import Blueprint, Response

from ca_service.web.replies import json_reply

Checks = Callable[[], Mapping[str, str | None]]
"""Asks each part whether it works: its name, and None or the sentence that says what is wrong."""


def blueprint(checks: Checks, extras: Checks = dict) -> Blueprint:
    """Serve liveness, which asks nothing, and readiness, which asks every check.

    The service is ready without `extras`, and says so. What a check says is shown to whoever asks.
    """
    calls = Blueprint("health", __name__)

    @calls.get("/healthz")
    def get_health() -> Response:
        return json_reply({"status": "SERVING"})

    @calls.get("/readyz")
    def get_readiness() -> Response:
        needed, further = checks(), extras()
        ready = not any(needed.values())
        degraded = any(further.values())
        reply = json_reply(
            {
                "status": ("DEGRADED" if degraded else "READY") if ready else "NOT_READY",
                "checks": {name: trouble or "ok" for name, trouble in {**needed, **further}.items()},
            },
            status=200 if ready else 503,
        )
        if not ready:
            reply.headers["Retry-After"] = "5"
        return reply

    return calls
