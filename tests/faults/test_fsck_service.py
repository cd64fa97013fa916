"""Tamper with what stands beside the log and with the database itself: `fsck` names that, too."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ca_service.files.high_water_mark import MarkFile
from ca_service.settings import load_settings
from tests.support.tampered import Copy


def _mark_of(copy: Copy) -> Path:
    return load_settings(copy.folder / "ca.toml", {}).high_water_mark.path


def _other_root(copy: Copy) -> None:
    """Let the mark know of a log that went another way at its present size."""
    file = MarkFile(_mark_of(copy))
    mark = file.read()
    ((log_id, seen),) = mark.logs.items()
    file.reset(mark.with_log(log_id, replace(seen, root_hash=bytes(32))))


TAMPERINGS: dict[str, list[tuple[Callable[[Copy], object], str, str]]] = {
    "behind the mark": [
        (
            lambda copy: copy.run("DELETE FROM audit WHERE sequence = 2"),
            "high-water-mark",
            "audit trail against the high-water mark: expected at least what was seen: 2, found 1",
        ),
        (
            lambda copy: copy.run("UPDATE generations SET revocations = 0"),
            "high-water-mark",
            "revocation generation against the high-water mark: expected at least what was seen: 2, found 0",
        ),
        (
            lambda copy: copy.run(
                "UPDATE crl_shards SET crl_number = 1 "
                "WHERE name = (SELECT crl_shard FROM revocations LIMIT 1)"
            ),
            "high-water-mark",
            " against the high-water mark: expected at least what was seen: 2, found number 1",
        ),
    ],
    "shorter than the mark": [
        (
            lambda copy: copy.run("UPDATE tree_heads SET tree_size = 500"),
            "high-water-mark",
            "expected at least what was seen: 600 entries, found 500 entries: log ",
        ),
    ],
    "beside the mark": [
        (
            _other_root,
            "high-water-mark",
            " at 600 entries against the high-water mark: expected at least what was seen: " + "00" * 32,
        ),
    ],
    "files": [
        (
            lambda copy: (
                (copy.folder / "private")
                .joinpath(copy.log_key)
                .write_bytes((copy.folder / "private/issuing.key").read_bytes())
            ),
            "log-key-file",
            "which the database has, found that of ",
        ),
        (
            lambda copy: (copy.folder / "authority/root.crl").write_bytes(b"no CRL"),
            "root-crl",
            "expected a CRL signed by the root, found ",
        ),
        (
            lambda copy: _mark_of(copy).write_bytes(b"no mark"),
            "mark-file",
            "expected a file of two lines with checksums, found ",
        ),
    ],
    "files that are gone": [
        (
            lambda copy: (copy.folder / "private").joinpath(copy.log_key).unlink(),
            "log-key-file",
            "key file of log shard ",
        ),
        (
            lambda copy: _mark_of(copy).unlink(),
            "mark-file",
            "expected the highest that was seen of this service, found no such file",
        ),
    ],
    "periods": [
        (
            lambda copy: copy.run("UPDATE tree_heads SET ends = 4102444800"),
            "shard-period",
            "expected a shard whose period has no end",
        ),
    ],
    "entries outside of their period": [
        (
            lambda copy: copy.run("UPDATE tree_heads SET starts = 4102444800"),
            "entry-period",
            ", notAfter: expected within the shard's period, from 4102444800 to None, found ",
        ),
    ],
    "blocks": [
        (
            lambda copy: copy.run("INSERT INTO blocks (reason, created) VALUES ('', 1)"),
            "block",
            "block 1: expected an identity, issuer, subject or key that it concerns, found none",
        ),
        (
            lambda copy: copy.run(
                "INSERT INTO blocks (oidc_issuer, reason, created, expires) VALUES ('https://x', '', 9, 3)"
            ),
            "block",
            "block 2, expires: expected at least 9, when it was made, found 3",
        ),
    ],
    "guards": [
        (
            lambda copy: copy.triggers.pop("leaves_no_delete"),
            "trigger",
            "trigger leaves_no_delete on leaves: expected it to be in force",
        ),
        (
            lambda copy: copy.triggers.update(
                issued_no_update="CREATE TRIGGER issued_no_update BEFORE UPDATE ON issued BEGIN SELECT 1; END"
            ),
            "trigger",
            "trigger issued_no_update on issued",
        ),
        (
            lambda copy: copy.run("DROP INDEX ix_issued_key_sha256"),
            "schema",
            "ix_issued_key_sha256: expected what this program's migrations make, found `add index` is due",
        ),
    ],
    "foreign key": [
        (
            lambda copy: copy.database.executescript(
                "PRAGMA foreign_keys = OFF; UPDATE tree_heads SET log = 7; PRAGMA foreign_keys = ON"
            ),
            "foreign-key",
            "row 7 of tree_heads: expected a row of logs that it names, found none",
        ),
    ],
    "types in the log": [
        (
            lambda copy: copy.run("UPDATE leaves SET leaf = 'abc' WHERE leaf_index = 8"),
            "column-type",
            ":8, leaves, leaf: expected bytes, found str",
        ),
        (
            lambda copy: copy.run("UPDATE issued SET subject = x'00ff' WHERE leaf_index = 9"),
            "column-type",
            ":9, subject: expected str, found bytes",
        ),
        (
            lambda copy: copy.run("UPDATE issued SET not_after = 'never' WHERE leaf_index = 10"),
            "column-type",
            ":10, not_after: expected int, found str",
        ),
        (
            lambda copy: copy.run("UPDATE issued SET oidc_subject = x'00' WHERE leaf_index = 8"),
            "column-type",
            "of issued, oidc_subject: expected text, found blob",
        ),
        (
            lambda copy: copy.run("UPDATE tiles SET hashes = 'abc' WHERE tile_index = 1"),
            "column-type",
            "tile 0/1 of log ",
        ),
    ],
    "types beside the log": [
        (
            lambda copy: copy.run(
                "UPDATE crl_shards SET crl = 'abc' WHERE name = (SELECT min(name) FROM crl_shards)"
            ),
            "column-type",
            "of crl_shards, crl: expected blob, found text",
        ),
        (
            lambda copy: copy.run(
                "UPDATE revocations SET revocation_date = 'soon' "
                "WHERE serial = (SELECT min(serial) FROM revocations)"
            ),
            "column-type",
            "of revocations, revocation_date: expected integer, found text",
        ),
        (
            lambda copy: copy.run("UPDATE audit SET time = 'once' WHERE sequence = 1"),
            "column-type",
            "row 1 of audit, time: expected integer, found text",
        ),
        (
            lambda copy: copy.run("INSERT INTO blocks (oidc_issuer, reason, created) VALUES (x'01', '', 1)"),
            "column-type",
            "row 1 of blocks, oidc_issuer: expected text, found blob",
        ),
    ],
    "type of a head": [
        (
            lambda copy: copy.run("UPDATE tree_heads SET root_hash = 'abc'"),
            "column-type",
            "of tree_heads, root_hash: expected blob, found text",
        ),
    ],
    "no generations": [
        (
            lambda copy: copy.run("DELETE FROM generations"),
            "mark-file",
            "the database has no generation row",
        ),
    ],
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_each_thing_that_was_tampered_with_is_named(copy: Copy, name: str) -> None:
    for tamper, _, _ in TAMPERINGS[name]:
        tamper(copy)
    found = copy.findings()
    for _, rule, said in TAMPERINGS[name]:
        assert any(one["rule"] == rule and said in one["message"] for one in found), (said, found)
