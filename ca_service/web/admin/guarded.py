"""Calls that only a role opens: none can be registered here without saying which."""

from collections.abc import Callable
from functools import wraps
from typing import Protocol

from flask import Blueprint, Response, request

from ca_service.authority.administrators import Role
from ca_service.authority.gate import Admitted, Approach
from ca_service.web.correlation import request_id
from ca_service.web.replies import rate_limit_headers

PREFIX = "/admin/v1"

View = Callable[..., Response]


class Admits(Protocol):
    """What lets administrators through: authority.gate.Gate."""

    def admit(self, approach: Approach, needed: Role) -> Admitted:
        """Return who calls, or raise a CAError."""
        ...

    def require_open(self) -> None:
        """Raise AdministrationOff when nobody may administer over the network."""
        ...


class GuardedCalls:
    """Registers calls on a blueprint, each behind the gate with the role it needs."""

    def __init__(self, calls: Blueprint, gate: Admits) -> None:
        """Take the blueprint and what guards it."""
        self._calls = calls
        self._gate = gate

    def get(self, rule: str, needed: Role) -> Callable[[View], View]:
        """Register a view that is called with who was admitted, then the parts of the path."""
        return self._register("GET", rule, needed)

    def post(self, rule: str, needed: Role) -> Callable[[View], View]:
        """Register a view as `get` does, for POST."""
        return self._register("POST", rule, needed)

    def _register(self, method: str, rule: str, needed: Role) -> Callable[[View], View]:
        # The pattern, never the path: it goes into the audit record.
        route = f"{method} {PREFIX}{rule}"

        def register(view: View) -> View:
            @wraps(view)
            def guarded(**parts: str) -> Response:
                admitted = self._gate.admit(_approach(route), needed)
                reply = view(admitted, **parts)
                left = admitted.allowance
                if left is not None:
                    reply.headers.extend(rate_limit_headers(left.limit, left.remaining, left.reset_after))
                return reply

            self._calls.add_url_rule(rule, f"{method} {rule}", guarded, methods=[method])
            return view

        return register


def _approach(route: str) -> Approach:
    scheme, _, token = request.headers.get("Authorization", "").strip().partition(" ")
    bearer = token.strip() if scheme.lower() == "bearer" else ""
    return Approach(
        token=bearer or None,
        route=route,
        # Behind a trusted proxy this is the address that it vouches for.
        source=request.remote_addr or "",
        request_id=request_id(request.environ),
    )
