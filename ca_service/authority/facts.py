"""The JSON shapes of what administrators ask and are told: one place for the API and the command line.

`…_facts` writes a shape, `…_from` reads it back and raises ValueError with a sentence for a person. Times are
RFC 3339, serials hex, a log index is "SHARD:N", a CRL is "KEY-ID/SHARD"; members that do not apply are null.
"""

import json

from ca_service.authority.audit import AuditHead, AuditRecord, canonical_json
from ca_service.authority.desk_ports import IdentityRevocation, Preview
from ca_service.authority.fact_readers import Members, read_key_sha256, read_log_index, read_seconds
from ca_service.authority.ports import Actor
from ca_service.authority.status_ports import Block, IssuedCertificate, Revocation, Selector
from ca_service.vocabulary import (
    KeyId,
    LeafIndex,
    RevocationReason,
    SubjectKind,
    SubjectName,
    TimestampMs,
    format_seconds,
    format_serial,
    parse_serial,
)

Facts = dict[str, object]


# -- certificates and revocations ------------------------------------------------------------------


def certificate_facts(certificate: IssuedCertificate, revocation: Revocation | None) -> Facts:
    """What is told of a certificate, in the words that every command accepts."""
    return {
        "serial": format_serial(certificate.serial),
        "identity": certificate.subject.value,
        "identity_kind": certificate.subject.kind.value,
        "issuer": certificate.oidc_issuer,
        "oidc_subject": certificate.oidc_subject,
        "not_before": format_seconds(certificate.not_before),
        "not_after": format_seconds(certificate.not_after),
        "key_sha256": certificate.key_sha256,
        "log_index": f"{certificate.log_shard}:{certificate.leaf_index}",
        "crl": f"{certificate.authority_key}/{certificate.crl_shard}",
        "revocation": None if revocation is None else revocation_facts(revocation),
    }


def certificate_from(facts: object) -> tuple[IssuedCertificate, Revocation | None]:
    """Read a certificate and its revocation."""
    members = Members(facts, "a certificate")
    shard, index = members.read("log_index", read_log_index)
    authority_key, crl_shard = members.read("crl", _read_crl)
    revocation = members.get("revocation")
    return (
        IssuedCertificate(
            serial=members.read("serial", parse_serial),
            authority_key=authority_key,
            log_shard=shard,
            leaf_index=LeafIndex(index),
            subject=SubjectName(members.read("identity_kind", SubjectKind), members.text("identity")),
            oidc_issuer=members.text("issuer"),
            oidc_subject=members.text("oidc_subject"),
            key_sha256=members.text("key_sha256"),
            not_before=members.read("not_before", read_seconds),
            not_after=members.read("not_after", read_seconds),
            crl_shard=crl_shard,
        ),
        None if revocation is None else revocation_from(revocation),
    )


def revocation_facts(revocation: Revocation) -> Facts:
    """What is told of a revocation."""
    return {
        "serial": format_serial(revocation.serial),
        "revocation_date": format_seconds(revocation.revocation_date),
        "revoked_at": format_seconds(revocation.revoked_at),
        "reason": revocation.reason.label,
        "comment": revocation.comment,
        "crl": f"{revocation.authority_key}/{revocation.crl_shard}",
    }


def revocation_from(facts: object) -> Revocation:
    """Read a revocation."""
    members = Members(facts, "a revocation")
    authority_key, crl_shard = members.read("crl", _read_crl)
    return Revocation(
        serial=members.read("serial", parse_serial),
        authority_key=authority_key,
        crl_shard=crl_shard,
        revocation_date=members.read("revocation_date", read_seconds),
        revoked_at=members.read("revoked_at", read_seconds),
        reason=members.read("reason", RevocationReason.from_label),
        comment=members.text("comment"),
    )


def _read_crl(text: str) -> tuple[KeyId, str]:
    key, slash, shard = text.partition("/")
    if not (key and slash and shard):
        raise ValueError(f"expected KEY-ID/SHARD, not {text[:80]!r}")
    return KeyId(key), shard


# -- selectors and what they do --------------------------------------------------------------------

SELECTOR_MEMBERS = (
    "identity",
    "issuer",
    "oidc_subject",
    "key_sha256",
    "log_index",
    "serial",
    "since",
    "until",
)


def selector_facts(selector: Selector) -> Facts:
    """What a selector says; only the members that restrict."""
    index, serial = selector.log_index, selector.serial
    said: Facts = {
        "identity": selector.identity,
        "issuer": selector.oidc_issuer,
        "oidc_subject": selector.oidc_subject,
        "key_sha256": selector.key_sha256,
        "log_index": None if index is None else f"{index[0]}:{index[1]}",
        "serial": None if serial is None else format_serial(serial),
        "since": _time(selector.since),
        "until": _time(selector.until),
    }
    return {name: value for name, value in said.items() if value is not None}


def selector_from(facts: object) -> Selector:
    """Read a selector, as a request says it; a member that it does not know is an error."""
    members = Members(facts, "a selector", known=SELECTOR_MEMBERS)
    return Selector(
        identity=members.optional_text("identity"),
        oidc_issuer=members.optional_text("issuer"),
        oidc_subject=members.optional_text("oidc_subject"),
        key_sha256=members.optional("key_sha256", read_key_sha256),
        log_index=members.optional("log_index", read_log_index),
        serial=members.optional("serial", parse_serial),
        since=members.optional("since", read_seconds),
        until=members.optional("until", read_seconds),
    )


def preview_facts(preview: Preview) -> Facts:
    """What a revocation would do."""
    return {
        "matched": preview.matched,
        "already_revoked": preview.already_revoked,
        "to_revoke": preview.to_revoke,
        "by_shard": dict(preview.by_shard),
        "since": _time(preview.since),
        "until": _time(preview.until),
        "certificates": [certificate_facts(each, None) for each in preview.certificates],
        "blocks": [block_facts(block) for block in preview.blocks],
    }


def preview_from(facts: object) -> Preview:
    """Read what a revocation would do."""
    members = Members(facts, "a preview")
    return Preview(
        matched=members.number("matched"),
        already_revoked=members.number("already_revoked"),
        to_revoke=members.number("to_revoke"),
        by_shard=members.counts("by_shard"),
        since=members.optional("since", read_seconds),
        until=members.optional("until", read_seconds),
        certificates=[certificate_from(each)[0] for each in members.many("certificates")],
        blocks=[block_from(each) for each in members.many("blocks")],
    )


def identity_revocation_facts(done: IdentityRevocation) -> Facts:
    """What a revocation by selector did."""
    return {
        "matched": done.matched,
        "revoked": done.revoked,
        "unchanged": done.unchanged,
        "by_shard": dict(done.by_shard),
        "block": None if done.block is None else block_facts(done.block),
        "serials": [format_serial(serial) for serial in done.serials],
    }


def identity_revocation_from(facts: object) -> IdentityRevocation:
    """Read what a revocation by selector did."""
    members = Members(facts, "an identity revocation")
    block = members.get("block")
    return IdentityRevocation(
        matched=members.number("matched"),
        revoked=members.number("revoked"),
        unchanged=members.number("unchanged"),
        by_shard=members.counts("by_shard"),
        block=None if block is None else block_from(block),
        serials=[parse_serial(str(each)) for each in members.many("serials")],
    )


# -- blocks ----------------------------------------------------------------------------------------


def block_facts(block: Block) -> Facts:
    """What is told of a block; number 0: not stored yet."""
    return {
        "number": block.number,
        "identity": block.subject,
        "issuer": block.oidc_issuer,
        "oidc_subject": block.oidc_subject,
        "key_sha256": block.key_sha256,
        "reason": block.reason,
        "created": format_seconds(block.created),
        "expires": _time(block.expires),
    }


def block_from(facts: object) -> Block:
    """Read a block."""
    members = Members(facts, "a block")
    return Block(
        subject=members.optional_text("identity"),
        oidc_issuer=members.optional_text("issuer"),
        oidc_subject=members.optional_text("oidc_subject"),
        key_sha256=members.optional_text("key_sha256"),
        reason=members.text("reason"),
        created=members.read("created", read_seconds),
        expires=members.optional("expires", read_seconds),
        number=members.number("number"),
    )


# -- audit -----------------------------------------------------------------------------------------


def audit_facts(record: AuditRecord) -> Facts:
    """What an audit record says; `time` is its milliseconds too, so that its hash can be computed again."""
    return {
        "sequence": record.sequence,
        "time": format_seconds(record.time // 1000),
        "time_ms": record.time,
        "actor": record.actor.name,
        "source": record.actor.source,
        "request_id": record.actor.request_id,
        "action": record.action,
        "detail": json.loads(record.detail),
        "previous_hash": record.previous_hash,
        "hash": record.hash,
    }


def audit_from(facts: object) -> AuditRecord:
    """Read an audit record; its hash still fits."""
    members = Members(facts, "an audit record")
    return AuditRecord(
        sequence=members.number("sequence"),
        previous_hash=members.text("previous_hash"),
        hash=members.text("hash"),
        time=TimestampMs(members.number("time_ms")),
        actor=Actor(members.text("actor"), members.text("source"), members.text("request_id")),
        action=members.text("action"),
        detail=canonical_json(members.get("detail")),
    )


def audit_head_facts(head: AuditHead) -> Facts:
    """What a verified chain ends with."""
    return {"records": head.sequence, "hash": head.hash}


def audit_head_from(facts: object) -> AuditHead:
    """Read what a verified chain ends with."""
    members = Members(facts, "an audit head")
    return AuditHead(members.number("records"), members.text("hash"))


def _time(seconds: int | None) -> str | None:
    return None if seconds is None else format_seconds(seconds)
