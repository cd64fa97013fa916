"""A desk and a gate that keep their contracts in memory, for the blueprint of /admin/v1."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ca_service.authority.administrators import Administrator, Role
from ca_service.authority.audit import FIRST_PREVIOUS, AuditHead, AuditRecord, canonical_json, record_hash
from ca_service.authority.desk_ports import IdentityRevocation, Preview
from ca_service.authority.gate import Admitted, Approach
from ca_service.authority.ports import Actor, Allowance
from ca_service.authority.revocation_rules import block_of, require_sound
from ca_service.authority.status_ports import Block, IssuedCertificate, Revocation, Selector
from ca_service.errors import AdministrationOff, Forbidden, InvalidRequest, NotFound, Unauthenticated
from ca_service.vocabulary import (
    KeyId,
    LeafIndex,
    RevocationReason,
    Serial,
    SubjectKind,
    SubjectName,
    TimestampMs,
)

NOW = 1_795_420_800

CERTIFICATE = IssuedCertificate(
    serial=Serial(0x0A1B2C),
    authority_key=KeyId("0123456789abcdef0123456789abcdef01234567"),
    log_shard="2026",
    leaf_index=LeafIndex(17),
    subject=SubjectName(SubjectKind.EMAIL, "ada@example.com"),
    oidc_issuer="https://accounts.example.com",
    oidc_subject="17",
    key_sha256="ab" * 32,
    not_before=NOW - 300,
    not_after=NOW + 300,
    crl_shard="2026-11-0a",
)


@dataclass
class FakeDesk:
    """One certificate, and whatever blocks and records come, as a RevocationDesk keeps them."""

    revocation: Revocation | None = None
    standing: list[Block] = field(default_factory=list)
    records: list[AuditRecord] = field(default_factory=list)
    broken: str = ""
    trouble: Exception | None = None

    def find(self, selector: Selector, limit: int) -> Sequence[tuple[IssuedCertificate, Revocation | None]]:
        self._look(selector)
        meant = selector.serial in (None, CERTIFICATE.serial)
        return [(CERTIFICATE, self.revocation)][:limit] if meant else []

    def preview(
        self,
        selector: Selector,
        *,
        revocation_date: int | None,
        reason: RevocationReason,
        limit: int,
    ) -> Preview:
        self._look(selector)
        crl = f"{CERTIFICATE.authority_key}/{CERTIFICATE.crl_shard}"
        return Preview(
            1, 0, 1, {crl: 1}, NOW, NOW, [CERTIFICATE][:limit], [block_of(selector, CERTIFICATE) or Block()]
        )

    def blocks(self) -> Sequence[Block]:
        return self.standing

    def audit_records(self, after: int, limit: int) -> Sequence[AuditRecord]:
        return self.records[after : after + limit]

    def verify_audit(self) -> AuditHead:
        if self.broken:
            raise ValueError(self.broken)
        return AuditHead(len(self.records), self.records[-1].hash if self.records else FIRST_PREVIOUS)

    def revoke_certificate(
        self,
        serial: Serial,
        *,
        reason: RevocationReason,
        revocation_date: int | None,
        comment: str,
        actor: Actor,
    ) -> Revocation:
        self._known(serial)
        self._record(actor, "revoke-certificate", comment)
        date = max(revocation_date or 0, CERTIFICATE.not_before)
        self.revocation = Revocation(
            serial, CERTIFICATE.authority_key, CERTIFICATE.crl_shard, date, NOW, reason, comment
        )
        return self.revocation

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
        actor: Actor,
    ) -> IdentityRevocation:
        self._look(selector)
        self._record(actor, "revoke-identity", comment)
        blocked = block_of(selector, None) if block else None
        stored = None if blocked is None else self._store(replace(blocked, expires=block_expires))
        return IdentityRevocation(1, 1, 0, {"k/s": 1}, stored, [CERTIFICATE.serial])

    def withdraw(self, serial: Serial, *, comment: str, actor: Actor) -> Revocation:
        if not comment.strip():
            raise InvalidRequest("say why")
        self._known(serial)
        taken, self.revocation = self.revocation, None
        if taken is None:
            raise NotFound("it is not revoked")
        self._record(actor, "withdraw", comment)
        return taken

    def block(
        self, selector: Selector, *, reason: str, expires: int | None, everybody: bool, actor: Actor
    ) -> Sequence[Block]:
        self._look(selector)
        wanted = block_of(selector, CERTIFICATE if selector.serial else None)
        if wanted is None:
            raise InvalidRequest("a block takes no window")
        self._record(actor, "block", reason)
        return [self._store(replace(wanted, reason=reason, expires=expires))]

    def unblock(self, selector_or_number: Selector | int, *, comment: str, actor: Actor) -> Sequence[Block]:
        if isinstance(selector_or_number, Selector):
            self._look(selector_or_number)
            removed = list(self.standing)
        else:
            removed = [block for block in self.standing if block.number == selector_or_number]
        if not removed:
            raise NotFound("there is no such block")
        self.standing = [block for block in self.standing if block not in removed]
        self._record(actor, "unblock", comment)
        return removed

    def record(self, actor: Actor, action: str, detail: Mapping[str, object]) -> None:
        self._record(actor, action, str(detail))

    def _look(self, selector: Selector) -> None:
        if self.trouble is not None:
            raise self.trouble
        require_sound(selector)

    def _known(self, serial: Serial) -> None:
        if serial != CERTIFICATE.serial:
            raise NotFound("no certificate with this serial was issued here")

    def _store(self, block: Block) -> Block:
        stored = replace(block, created=NOW, number=len(self.standing) + 1)
        self.standing.append(stored)
        return stored

    def _record(self, actor: Actor, action: str, why: str) -> None:
        previous = self.records[-1].hash if self.records else FIRST_PREVIOUS
        draft = AuditRecord(
            len(self.records) + 1,
            previous,
            "",
            TimestampMs(NOW * 1000),
            actor,
            action,
            canonical_json({"comment": why}),
        )
        self.records.append(replace(draft, hash=record_hash(draft)))


TOKENS = {f"{role.label}.is.good": role for role in Role}
"""The tokens that the gate believes."""

ALL_POWERFUL = "administrator.is.good"


@dataclass
class FakeGate:
    """Believes TOKENS; remembers who approached."""

    open: bool = True
    approaches: list[Approach] = field(default_factory=list)

    def require_open(self) -> None:
        if not self.open:
            raise AdministrationOff("this service is not administered over the network")

    def admit(self, approach: Approach, needed: Role) -> Admitted:
        self.require_open()
        self.approaches.append(approach)
        role = TOKENS.get(approach.token or "")
        if role is None:
            raise Unauthenticated("no token, or no good one", cause="token-missing")
        if role < needed:
            raise Forbidden(f"this call needs the role {needed.label}", needed=needed.label, held=role.label)
        who = Administrator("https://staff.example.com", "7", "Ada", role, NOW + 600)
        return Admitted(
            who, Actor(who.actor_name, approach.source, approach.request_id), Allowance(True, 600, 599, 60)
        )
