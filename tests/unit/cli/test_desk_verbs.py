"""Revoking by selector, blocking, withdrawing and the audit trail, as an administrator types them."""

import json
import os
import pwd
import sqlite3
from typing import Any

import pytest
from click.testing import Result

from ca_service.authority.audit import verify
from ca_service.authority.facts import audit_from
from ca_service.authority.issuance import CsrProof
from ca_service.errors import IdentityBlocked
from tests.support.signing import csr_pem, new_key
from tests.unit.cli.conftest import URL, Host, run

ADA = ("--identity", "ADA@example.com")


def verb(host: Host, *arguments: str) -> Result:
    return run(*arguments, "--config", host.config)


def told(host: Host, *arguments: str, code: int = 0) -> Any:
    done = verb(host, *arguments, "--json")
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


def ask_again(host: Host) -> None:
    """Ask for another certificate for the identity of the host's one."""
    assert host.service.dev is not None
    token = host.service.dev.sign_token(email="ada@example.com", audience="sigstore")
    host.service.issuance.issue(token, CsrProof(csr_pem(new_key())))


def test_a_dry_run_lists_what_would_be_taken_back_and_does_nothing(host: Host) -> None:
    preview = told(host, "revoke", "identity", *ADA, "--dry-run")
    assert (preview["matched"], preview["already_revoked"], preview["to_revoke"]) == (1, 0, 1)
    assert [one["serial"] for one in preview["certificates"]] == [host.serial]
    assert list(preview["by_shard"].values()) == [1]
    (block,) = preview["blocks"]
    assert (block["number"], block["identity"]) == (0, "ADA@example.com")
    shown = verb(host, "revoke", "identity", *ADA, "--dry-run")
    assert shown.exit_code == 0
    assert "would take back 1 of 1 certificate" in shown.stdout
    assert host.serial in shown.stdout
    assert "would block identity ADA@example.com" in shown.stdout
    assert verb(host, "revoke", "identity", "--identity", "eve@x.org", "--dry-run").exit_code == 1
    assert told(host, "blocks") == []
    assert verb(host, "audit").stdout == ""
    assert verb(host, "status", str(host.leaf_file)).exit_code == 0
    ask_again(host)


def test_an_identity_is_taken_back_and_blocked_until_it_is_unblocked(host: Host) -> None:
    done = told(host, "revoke", "identity", *ADA, "--reason", "keyCompromise", "--comment", "ticket 4711")
    assert (done["matched"], done["revoked"], done["serials"]) == (1, 1, [host.serial])
    assert verb(host, "status", str(host.leaf_file)).exit_code == 1
    with pytest.raises(IdentityBlocked, match="block 1"):
        ask_again(host)
    (block,) = told(host, "blocks")
    assert (block["identity"], block["reason"], block["expires"]) == ("ada@example.com", "ticket 4711", None)
    again = verb(host, "revoke", "identity", *ADA)
    assert again.exit_code == 0
    assert "took back 0 of 1 certificate; 1 stay" in again.stdout
    assert verb(host, "revoke", "identity", *ADA, "--dry-run").exit_code == 1
    lifted = told(host, "unblock", *ADA, "--comment", "new laptop")
    assert [one["number"] for one in lifted] == [1]
    assert verb(host, "unblock", *ADA).exit_code == 1
    ask_again(host)
    assert verb(host, "status", str(host.leaf_file)).exit_code == 1, "unblocking takes no revocation away"


def test_a_block_is_shown_with_its_end_and_reason(host: Host) -> None:
    made = told(host, "block", *ADA, "--reason", "on leave", "--expires", "2099-01-01")
    assert [one["expires"] for one in made] == ["2099-01-01T00:00:00Z"]
    told(host, "block", "--serial", host.serial)
    told(host, "block", "--key-sha256", "ab" * 32)
    shown = verb(host, "blocks").stdout
    for word in ("2099-01-01T00:00:00Z", "on leave", f"{URL}/dev-idp", "ab" * 32):
        assert word in shown
    assert json.loads(verb(host, "fsck", "--json", "--processes", "1").stdout)["findings"] == []
    assert [one["number"] for one in told(host, "unblock", "--number", "2")] == [2]
    assert verb(host, "unblock", "--number", "2").exit_code == 1


def test_a_withdrawn_revocation_answers_good_at_once_and_fsck_knows_why(host: Host) -> None:
    assert verb(host, "withdraw", host.serial, "--comment", "x").exit_code == 1
    assert verb(host, "revoke", "certificate", host.serial).exit_code == 0
    assert verb(host, "status", str(host.leaf_file)).exit_code == 1
    (before,) = [crl.number for crl in host.service.publication.index() if "root" not in crl.url]
    missing = verb(host, "withdraw", host.serial)
    assert (missing.exit_code, "--comment" in missing.stderr) == (2, True)
    withdrawn = verb(host, "withdraw", str(host.leaf_file), "--comment", "wrong serial")
    assert withdrawn.exit_code == 0
    assert "no longer revoked" in withdrawn.stdout
    checked = verb(host, "fsck", "--json", "--processes", "1")
    assert (checked.exit_code, json.loads(checked.stdout)["findings"]) == (0, [])
    assert verb(host, "status", str(host.leaf_file)).exit_code == 0
    (after,) = [crl.number for crl in host.service.publication.index() if "root" not in crl.url]
    assert after == before + 1
    assert verb(host, "withdraw", host.serial, "--comment", "again").exit_code == 1


SLIPS: list[tuple[tuple[str, ...], str]] = [
    (("revoke", "identity"), "at least one selector"),
    (("revoke", "identity", "--identity", "*"), "--all"),
    (("revoke", "identity", "--since", "2026-01-01"), "--all"),
    (("revoke", "identity", "--since", "2026-01-01", "--all"), "--no-block"),
    (("revoke", "identity", *ADA, "--no-block", "--block-expires", "2099-01-01"), "not both"),
    (("revoke", "identity", *ADA, "--block-expires", "2020-01-01"), "future"),
    (("revoke", "identity", *ADA, "--reason", "certificateHold"), "keyCompromise"),
    (("revoke", "identity", *ADA, "--reason", "removeFromCRL"), "keyCompromise"),
    (("revoke", "identity", *ADA, "--since", "2099-01-01"), "future"),
    (("block", *ADA, "--since", "2026-01-01"), "--expires"),
    (("block", "--identity", "*@*"), "--all"),
    (("block", *ADA, "--expires", "soon"), "--expires"),
    (("unblock",), "--number"),
    (("unblock", *ADA, "--number", "1"), "--number"),
    (("audit", "--verify", "--after", "3"), "--after"),
]


def test_what_may_be_a_slip_is_one_sentence_and_does_nothing(host: Host) -> None:
    for arguments, said in SLIPS:
        refused = verb(host, *arguments)
        assert refused.exit_code == 2, arguments
        assert said in refused.stderr
        assert "Traceback" not in refused.stderr
    assert told(host, "blocks") == []
    assert verb(host, "audit").stdout == ""
    assert verb(host, "status", str(host.leaf_file)).exit_code == 0


def test_the_audit_trail_says_who_and_shows_every_tampering(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setenv("USER", "somebody-else")
    verb(host, "revoke", "identity", *ADA, "--comment", "ticket 4711")
    monkeypatch.setenv("SUDO_USER", "grace")
    verb(host, "unblock", "--number", "1", "--comment", "found")
    verb(host, "withdraw", host.serial, "--comment", "wrong")
    lines = verb(host, "audit", "--json").stdout.splitlines()
    records = [audit_from(json.loads(line)) for line in lines]
    assert verify(records).sequence == 3, "the export can be verified by itself"
    user = pwd.getpwuid(os.getuid()).pw_name
    assert [(record.action, record.actor.name) for record in records] == [
        ("revoke-identity", f"local:{user}"),
        ("unblock", f"local:grace as {user}"),
        ("withdraw", f"local:grace as {user}"),
    ]
    assert all(record.actor.source and record.actor.request_id for record in records)
    assert verb(host, "audit", "--json", "--after", "2").stdout.splitlines() == lines[2:]
    shown = verb(host, "audit").stdout
    assert "ticket 4711" in shown
    assert "wrong" in shown
    assert told(host, "audit", "--verify") == {"intact": True, "records": 3, "hash": records[-1].hash}

    for tampering in (
        "UPDATE audit SET detail = replace(detail, 'found', 'never') WHERE sequence = 2",
        "UPDATE audit SET actor = 'local:mallory' WHERE sequence = 3",
        "DELETE FROM audit WHERE sequence = 2",
        "DELETE FROM audit WHERE sequence = 3",
    ):
        with sqlite3.connect(host.folder / "state/ca.db") as database:
            stored = database.execute("SELECT * FROM audit").fetchall()
            guards = database.execute(
                "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'audit'"
            ).fetchall()
            for name, _ in guards:
                database.execute(f"DROP TRIGGER {name}")
            database.execute(tampering)
        broken = verb(host, "audit", "--verify")
        assert broken.exit_code == 1, tampering
        assert "broken" in broken.stderr
        assert told(host, "audit", "--verify", code=1)["intact"] is False
        assert verb(host, "fsck", "--processes", "1").exit_code == 1, tampering
        with sqlite3.connect(host.folder / "state/ca.db") as database:
            database.execute("DELETE FROM audit")
            marks = ",".join("?" * len(stored[0]))
            database.executemany(f"INSERT INTO audit VALUES ({marks})", stored)  # noqa: S608 - only marks
            for _, guard in guards:
                database.execute(guard)
    assert verb(host, "audit", "--verify").exit_code == 0
