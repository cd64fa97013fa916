"""What the API and the command line say about certificates, revocations and blocks can be read back whole."""

import json
from collections.abc import Callable

import pytest

from ca_service.authority import facts
from ca_service.authority.audit import AuditHead, AuditRecord, canonical_json, record_hash
from ca_service.authority.desk_ports import IdentityRevocation, Preview
from ca_service.authority.ports import Actor
from ca_service.authority.status_ports import Block, IssuedCertificate, Revocation, Selector
from ca_service.vocabulary import (
    KeyId,
    LeafIndex,
    RevocationReason,
    Serial,
    SubjectKind,
    SubjectName,
    TimestampMs,
)

KEY = KeyId("a1" * 20)
CERTIFICATE = IssuedCertificate(
    Serial(0xABC),
    KEY,
    "2026",
    LeafIndex(17),
    SubjectName(SubjectKind.USERNAME, "zoë!example.com"),
    "https://issuer.example",
    "sub-1",
    "0b" * 32,
    1_790_000_000,
    1_790_000_600,
    "2026-09-0a",
)
REVOCATION = Revocation(
    Serial(0xABC), KEY, "2026-09-0a", 1_790_000_000, 1_790_009_000, RevocationReason.SUPERSEDED, "why"
)
BLOCK = Block("*@example.com", "https://issuer.example", None, "0b" * 32, "lost", 1_790_000_000, None, 7)
DRAFT = AuditRecord(3, "00" * 32, "", TimestampMs(1_790_000_000_123), Actor("a", "b", "c"), "act", '{"n":1}')
RECORD = AuditRecord(**{**{n: getattr(DRAFT, n) for n in DRAFT.__slots__}, "hash": record_hash(DRAFT)})


@pytest.mark.parametrize(
    ("write", "read", "value"),
    [
        (facts.revocation_facts, facts.revocation_from, REVOCATION),
        (facts.selector_facts, facts.selector_from, Selector()),
        (
            facts.selector_facts,
            facts.selector_from,
            Selector("a*", "https://i", "s", "0b" * 32, ("2026", 4), Serial(1), 1, 2),
        ),
        (facts.block_facts, facts.block_from, BLOCK),
        (facts.block_facts, facts.block_from, Block(oidc_subject="x", expires=1_800_000_000)),
        (
            facts.preview_facts,
            facts.preview_from,
            Preview(3, 1, 2, {f"{KEY}/a": 2}, 1, 2, [CERTIFICATE], [BLOCK]),
        ),
        (facts.preview_facts, facts.preview_from, Preview(0, 0, 0, {}, None, None, [], [])),
        (
            facts.identity_revocation_facts,
            facts.identity_revocation_from,
            IdentityRevocation(2, 1, 1, {f"{KEY}/a": 1}, BLOCK, [Serial(0xABC)]),
        ),
        (
            facts.identity_revocation_facts,
            facts.identity_revocation_from,
            IdentityRevocation(0, 0, 0, {}, None, []),
        ),
        (facts.audit_facts, facts.audit_from, RECORD),
        (facts.audit_head_facts, facts.audit_head_from, AuditHead(3, "ab" * 32)),
    ],
)
def test_what_is_written_is_read_back(
    write: Callable[[object], object], read: Callable[[object], object], value: object
) -> None:
    assert read(json.loads(json.dumps(write(value)))) == value


def test_a_certificate_is_read_back_with_its_revocation() -> None:
    for revocation in (REVOCATION, None):
        said = json.loads(json.dumps(facts.certificate_facts(CERTIFICATE, revocation)))
        assert facts.certificate_from(said) == (CERTIFICATE, revocation)
    assert (said["serial"], said["log_index"]) == ("0abc", "2026:17")


def test_an_exported_record_still_fits_its_hash() -> None:
    assert record_hash(facts.audit_from(facts.audit_facts(RECORD))) == RECORD.hash
    assert canonical_json(json.loads(RECORD.detail)) == RECORD.detail


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ([], "a selector is a JSON object, not a list"),
        (None, "not nothing"),
        ({"identity": 5}, "identity of a selector is a text, not a number"),
        ({"identity": True}, "not true or false"),
        ({"email": "x"}, "no member 'email'"),
        ({"serial": "xyz"}, "serial of a selector: a serial is written as hex"),
        ({"since": "yesterday"}, "since of a selector: a time is written"),
        ({"until": 17}, "until of a selector is a text"),
        ({"key_sha256": "ab"}, "key_sha256 of a selector: expected 64 hex digits"),
        ({"log_index": "17"}, "log_index of a selector: expected SHARD:N"),
    ],
)
def test_a_wrong_selector_is_one_sentence_that_names_the_member(said: object, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        facts.selector_from(said)


def test_an_answer_that_is_not_as_described_is_an_error() -> None:
    whole = facts.preview_facts(Preview(1, 0, 1, {"k/s": 1}, 1, 2, [CERTIFICATE], [BLOCK]))
    for member, wrong in (
        ("matched", "1"),
        ("matched", None),
        ("by_shard", {"k/s": True}),
        ("by_shard", []),
        ("certificates", {}),
        ("certificates", [{}]),
        ("blocks", [7]),
        ("since", "never"),
    ):
        with pytest.raises(ValueError, match=r"."):
            facts.preview_from({**whole, member: wrong})
    with pytest.raises(ValueError, match="crl"):
        facts.revocation_from({**facts.revocation_facts(REVOCATION), "crl": "nothing"})
