"""The desk of a service elsewhere, over /admin/v1; its record names the owner of the token."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

from ca_service.authority.audit import AuditHead, AuditRecord
from ca_service.authority.desk_ports import IdentityRevocation, Preview
from ca_service.authority.facts import (
    audit_from,
    audit_head_from,
    block_from,
    certificate_from,
    identity_revocation_from,
    preview_from,
    revocation_from,
    selector_facts,
)
from ca_service.authority.status_ports import Block, IssuedCertificate, Revocation, Selector
from ca_service.cli.connection import Connection, server_url
from ca_service.cli.tokens import token_for
from ca_service.errors import ServiceUnreachable
from ca_service.vocabulary import RevocationReason, Serial, format_seconds, format_serial

_AT_ONCE = 1000

_Value = TypeVar("_Value")


class RemoteDesk:
    """The desk of a service elsewhere; each method raises what the service refused it with."""

    def __init__(self, connection: Connection) -> None:
        """Take the connection, which carries the token."""
        self._connection = connection

    def find(self, selector: Selector, limit: int) -> Sequence[tuple[IssuedCertificate, Revocation | None]]:
        """What a selector means, newest first."""
        body = {"selector": selector_facts(selector), "limit": limit}
        return self._many("POST", "/certificates/search", body, "certificates", certificate_from)

    def preview(
        self,
        selector: Selector,
        *,
        revocation_date: int | None,
        reason: RevocationReason,
        limit: int,
    ) -> Preview:
        """What `revoke_identity` would do now."""
        body = {
            "selector": selector_facts(selector),
            "revocation_date": _time(revocation_date),
            "reason": reason.label,
            "limit": limit,
        }
        return self._one("POST", "/revocations/preview", body, preview_from)

    def blocks(self) -> Sequence[Block]:
        """Every block, the expired ones too."""
        return self._many("GET", "/blocks", None, "blocks", block_from)

    def audit_records(self, after: int, limit: int) -> Sequence[AuditRecord]:
        """Audit records above a number."""
        path = f"/audit?after={after}&limit={min(limit, _AT_ONCE)}"
        return self._many("GET", path, None, "records", audit_from)

    def verify_audit(self) -> AuditHead:
        """Have the service check its audit chain; ValueError names what does not fit."""
        answer = self._connection.call("GET", "/audit/verification")
        if answer.get("intact") is not True:
            raise ValueError(str(answer.get("message")))
        return _read(audit_head_from, answer)

    def revoke_certificate(
        self, serial: Serial, *, reason: RevocationReason, revocation_date: int | None, comment: str
    ) -> Revocation:
        """Revoke one certificate."""
        body = {
            "serial": format_serial(serial),
            "reason": reason.label,
            "revocation_date": _time(revocation_date),
            "comment": comment,
        }
        return self._one("POST", "/revocations/certificate", body, revocation_from)

    def revoke_identity(
        self,
        selector: Selector,
        *,
        reason: RevocationReason,
        revocation_date: int | None,
        block: bool,
        block_expires: int | None,
        everybody: bool,
        comment: str,
    ) -> IdentityRevocation:
        """Revoke all that a selector means, and block whom it names."""
        body = {
            "selector": selector_facts(selector),
            "reason": reason.label,
            "revocation_date": _time(revocation_date),
            "block": block,
            "block_expires": _time(block_expires),
            "everybody": everybody,
            "comment": comment,
        }
        return self._one("POST", "/revocations/identity", body, identity_revocation_from)

    def withdraw(self, serial: Serial, *, comment: str) -> Revocation:
        """Take a wrong revocation away."""
        body = {"serial": format_serial(serial), "comment": comment}
        return self._one("POST", "/revocations/withdraw", body, revocation_from)

    def block(
        self, selector: Selector, *, reason: str, expires: int | None, everybody: bool
    ) -> Sequence[Block]:
        """Block whom a selector names."""
        body = {
            "selector": selector_facts(selector),
            "reason": reason,
            "expires": _time(expires),
            "everybody": everybody,
        }
        return self._many("POST", "/blocks", body, "blocks", block_from)

    def unblock(self, selector_or_number: Selector | int, *, comment: str) -> Sequence[Block]:
        """Take blocks away."""
        body: dict[str, object] = {"comment": comment}
        if isinstance(selector_or_number, int):
            body["number"] = selector_or_number
        else:
            body["selector"] = selector_facts(selector_or_number)
        return self._many("POST", "/blocks/remove", body, "blocks", block_from)

    def _one(
        self, method: str, path: str, body: Mapping[str, object], read: Callable[[object], _Value]
    ) -> _Value:
        return _read(read, self._connection.call(method, path, body))

    def _many(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None,
        member: str,
        read: Callable[[object], _Value],
    ) -> list[_Value]:
        listed = self._connection.call(method, path, body).get(member)
        if not isinstance(listed, list):
            raise ServiceUnreachable(
                f"the answer of the service has no list of {member}; is it of this version?"
            )
        return [_read(read, each) for each in listed]


@contextmanager
def remote_desk(server: str, token_file: str | None) -> Iterator[RemoteDesk]:
    """The desk of the service at an address, with the token that the command line or a login gives.

    Raises click.UsageError for an address over which no token may go, Unauthenticated without a token.
    """
    url = server_url(server)
    connection = Connection(url, token_for(url, token_file))
    try:
        yield RemoteDesk(connection)
    finally:
        connection.close()


def _read(read: Callable[[object], _Value], facts: object) -> _Value:
    try:
        return read(facts)
    except ValueError as error:
        raise ServiceUnreachable(
            f"the answer of the service is not understood ({error}); is it of this version?"
        ) from None


def _time(seconds: int | None) -> str | None:
    return None if seconds is None else format_seconds(seconds)
