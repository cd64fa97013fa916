"""The calls of /admin/v1."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from flask import Blueprint, Response, request

from ca_service.authority.administrators import Role
from ca_service.authority.facts import (
    audit_facts,
    audit_head_facts,
    block_facts,
    certificate_facts,
    identity_revocation_facts,
    preview_facts,
    revocation_facts,
)
from ca_service.authority.gate import Admitted
from ca_service.authority.revocation import PREVIEWED, RevocationDesk
from ca_service.authority.status_ports import Selector
from ca_service.errors import MalformedRequest, NotFound
from ca_service.vocabulary import format_seconds, format_serial
from ca_service.web.admin.guarded import PREFIX, Admits, GuardedCalls
from ca_service.web.admin.orders import read_order, read_query, serial_of
from ca_service.web.replies import json_reply

MOST_CERTIFICATES = 100_001
"""One more than the command line lists, which can so tell that there are more."""
MOST_RECORDS = 1000
JSON_LINES = "application/jsonl"


@dataclass(frozen=True, slots=True)
class LoginOptions:
    """How a login starts: the issuers that administrators come from, the client and scopes to ask with."""

    audience: str
    client_id: str
    scopes: tuple[str, ...]
    issuers: tuple[str, ...]


def blueprint(desk: RevocationDesk, gate: Admits, login: LoginOptions) -> Blueprint:
    """Serve /admin/v1; every call but login-options goes through the gate."""
    calls = Blueprint("admin", __name__, url_prefix=PREFIX)
    guarded = GuardedCalls(calls, gate)

    @calls.get("/login-options")
    def get_login_options() -> Response:
        gate.require_open()
        return json_reply(
            {
                "audience": login.audience,
                "client_id": login.client_id,
                "scopes": list(login.scopes),
                "issuers": list(login.issuers),
            }
        )

    _register_own(guarded)
    _register_certificates(guarded, desk)
    _register_revocations(guarded, desk)
    _register_blocks(guarded, desk)
    _register_audit(guarded, desk)
    return calls


def _register_own(guarded: GuardedCalls) -> None:
    @guarded.get("/whoami", Role.VIEWER)
    def whoami(admitted: Admitted) -> Response:
        who = admitted.administrator
        return json_reply(
            {
                "subject": who.subject,
                "issuer": who.issuer,
                "name": who.name or None,
                "roles": list(who.role.included) if who.role else [],
                "expires": format_seconds(who.expires),
            }
        )


def _register_certificates(guarded: GuardedCalls, desk: RevocationDesk) -> None:
    # A search names people: so it is a POST, whose body stands in no log.
    @guarded.post("/certificates/search", Role.VIEWER)
    def search_certificates(_: Admitted) -> Response:
        order = read_order("selector", "limit")
        limit = order.number("limit", high=MOST_CERTIFICATES) or 1000
        found = desk.find(order.selector(), limit)
        return json_reply({"certificates": [certificate_facts(*each) for each in found]})

    @guarded.get("/certificates/<hex:serial>", Role.VIEWER)
    def get_certificate(_: Admitted, serial: str) -> Response:
        number = serial_of(serial)
        found = desk.find(Selector(serial=number), 1)
        if not found:
            raise NotFound(f"no certificate with serial {format_serial(number)} was issued here")
        return json_reply(certificate_facts(*found[0]))


def _register_revocations(guarded: GuardedCalls, desk: RevocationDesk) -> None:
    @guarded.post("/revocations/preview", Role.VIEWER)
    def preview_revocation(_: Admitted) -> Response:
        order = read_order("selector", "revocation_date", "reason", "limit")
        limit = order.number("limit", low=0, high=MOST_CERTIFICATES)
        preview = desk.preview(
            order.selector(),
            revocation_date=order.time("revocation_date"),
            reason=order.reason(),
            limit=PREVIEWED if limit is None else limit,
        )
        return json_reply(preview_facts(preview))

    @guarded.post("/revocations/certificate", Role.REVOKER)
    def revoke_certificate(admitted: Admitted) -> Response:
        order = read_order("serial", "reason", "revocation_date", "comment")
        stands = desk.revoke_certificate(
            order.serial(),
            reason=order.reason(),
            revocation_date=order.time("revocation_date"),
            comment=order.text("comment"),
            actor=admitted.actor,
        )
        return json_reply(revocation_facts(stands))

    @guarded.post("/revocations/identity", Role.REVOKER)
    def revoke_identity(admitted: Admitted) -> Response:
        order = read_order(
            "selector", "reason", "revocation_date", "comment", "block", "block_expires", "everybody"
        )
        done = desk.revoke_identity(
            order.selector(),
            reason=order.reason(),
            revocation_date=order.time("revocation_date"),
            block=order.flag("block", default=True),
            block_expires=order.time("block_expires"),
            everybody=order.flag("everybody", default=False),
            comment=order.text("comment"),
            actor=admitted.actor,
        )
        return json_reply(identity_revocation_facts(done))

    @guarded.post("/revocations/withdraw", Role.ADMINISTRATOR)
    def withdraw_revocation(admitted: Admitted) -> Response:
        order = read_order("serial", "comment")
        taken = desk.withdraw(order.serial(), comment=order.text("comment"), actor=admitted.actor)
        return json_reply(revocation_facts(taken))


def _register_blocks(guarded: GuardedCalls, desk: RevocationDesk) -> None:
    @guarded.get("/blocks", Role.VIEWER)
    def list_blocks(_: Admitted) -> Response:
        return json_reply({"blocks": [block_facts(block) for block in desk.blocks()]})

    @guarded.post("/blocks", Role.REVOKER)
    def add_block(admitted: Admitted) -> Response:
        order = read_order("selector", "reason", "expires", "everybody")
        added = desk.block(
            order.selector(),
            reason=order.text("reason"),
            expires=order.time("expires"),
            everybody=order.flag("everybody", default=False),
            actor=admitted.actor,
        )
        return json_reply({"blocks": [block_facts(block) for block in added]})

    @guarded.post("/blocks/remove", Role.ADMINISTRATOR)
    def remove_blocks(admitted: Admitted) -> Response:
        order = read_order("selector", "number", "comment")
        selector, number = order.optional_selector(), order.number("number")
        if selector is not None and number is not None:
            raise MalformedRequest("send either selector or number, not both")
        which = selector if selector is not None else number
        if which is None:
            raise MalformedRequest("the body lacks selector or number: which block is meant")
        removed = desk.unblock(which, comment=order.text("comment"), actor=admitted.actor)
        return json_reply({"blocks": [block_facts(block) for block in removed]})


def _register_audit(guarded: GuardedCalls, desk: RevocationDesk) -> None:
    @guarded.get("/audit", Role.VIEWER)
    def list_audit_records(_: Admitted) -> Response:
        query = read_query(after=(0, 0, 2**53 - 1), limit=(1, 100, MOST_RECORDS))
        after, limit = query["after"], query["limit"]
        if request.accept_mimetypes.best_match(["application/json", JSON_LINES]) == JSON_LINES:
            # The first page at once: trouble with the database is then an answer, not a cut stream.
            first = _page(desk, after, MOST_RECORDS)
            return Response(_lines(desk, first), content_type=JSON_LINES)
        return json_reply({"records": _page(desk, after, limit)})

    @guarded.get("/audit/verification", Role.VIEWER)
    def verify_audit(_: Admitted) -> Response:
        try:
            head = desk.verify_audit()
        except ValueError as broken:
            return json_reply({"intact": False, "message": str(broken)})
        return json_reply({"intact": True, **audit_head_facts(head)})


def _page(desk: RevocationDesk, after: int, limit: int) -> list[dict[str, object]]:
    return [audit_facts(record) for record in desk.audit_records(after, limit)]


def _lines(desk: RevocationDesk, page: list[dict[str, object]]) -> Iterator[str]:
    """Everything from here to the end, a page at a time, so that a long record needs little memory."""
    while page:
        yield "".join(json.dumps(record, separators=(",", ":")) + "\n" for record in page)
        after = page[-1]["sequence"]
        page = _page(desk, after, MOST_RECORDS) if isinstance(after, int) else []
