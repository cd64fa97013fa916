"""Tamper with a copy of the database, past its triggers: `fsck` says precisely what is wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ca_service.cli import main
from ca_service.cli.fsck import _subject
from ca_service.cli.inspection import Inspection, Progress, read_state
from ca_service.cli.inspection.surroundings import Surroundings
from ca_service.settings import load_settings
from ca_service.store.inspection import SqlInspection
from tests.support.tampered import SIZE, Copy, flip


def test_what_nobody_touched_agrees(copy: Copy) -> None:
    code, report = copy.fsck()
    assert (code, report["findings"]) == (0, [])
    assert report["checked"]["revocations"] == 2
    assert report["checked"]["audit records"] == 2
    assert [count for what, count in report["checked"].items() if what.startswith("entries")] == [SIZE]


def test_a_changed_leaf_does_not_hash_to_what_tile_and_root_say(copy: Copy) -> None:
    leaf = copy.one("SELECT leaf FROM leaves WHERE leaf_index = 300")
    copy.run("UPDATE leaves SET leaf = ? WHERE leaf_index = 300", flip(leaf, 9))
    findings = copy.found()
    assert set(findings) >= {"leaf-hash", "tile", "tile-root", "root"}
    assert ":300, leaf hash: expected " in findings["leaf-hash"]
    assert "tile 0/1" in findings["tile"]
    assert "hash 44:" in findings["tile"]


def test_a_changed_leaf_hash_is_found_by_the_leaf_and_by_the_mark(copy: Copy) -> None:
    stored = copy.one("SELECT leaf_hash FROM leaves WHERE leaf_index = 599")
    copy.run("UPDATE leaves SET leaf_hash = ? WHERE leaf_index = 599", flip(stored, 0))
    findings = copy.found()
    assert set(findings) == {"leaf-hash", "high-water-mark"}, "the mark compares by stored leaf hashes"
    assert stored.hex() in findings["leaf-hash"]
    assert flip(stored, 0).hex() in findings["leaf-hash"]


def test_a_missing_leaf_is_named_and_the_rest_still_judged(copy: Copy) -> None:
    serial = copy.one("SELECT serial FROM issued WHERE leaf_index = 10")
    copy.run("DELETE FROM leaves WHERE leaf_index = 10")
    findings = copy.found()
    assert set(findings) == {"entry-missing", "issued-without-entry"}
    assert ":10: expected a stored leaf" in findings["entry-missing"]
    assert serial.hex() in findings["issued-without-entry"]


def _more(copy: Copy, table: str, changes: str) -> None:
    columns = ", ".join(row[1] for row in copy.rows(f"PRAGMA table_info({table})"))
    values = columns
    for column, value in (change.split("=") for change in changes.split(";")):
        values = values.replace(column, value)
    copy.run(f"INSERT INTO {table} ({columns}) SELECT {values} FROM {table} WHERE leaf_index = 5")  # noqa: S608 - the test's own words


def _changed_root(copy: Copy) -> tuple[bytes, bytes]:
    """The root with another last octet, and the fingerprint it has in the database."""
    root, print_ = copy.rows(
        "SELECT der, fingerprint FROM chain_certificates WHERE fingerprint = "
        "(SELECT substr(chain, 33) FROM leaves LIMIT 1)"
    )[0]
    return flip(root, len(root) - 1), print_


TAMPERINGS: dict[str, tuple[Callable[[Copy], object], str, str]] = {
    "precertificate": (
        lambda copy: copy.run(
            "UPDATE leaves SET signature = ? WHERE leaf_index = 7",
            flip(copy.one("SELECT signature FROM leaves WHERE leaf_index = 7"), 80),
        ),
        "precertificate",
        ":7, precertificate: expected the logged TBSCertificate with a poison, signed by the issuing key",
    ),
    "chain": (
        lambda copy: copy.run("UPDATE leaves SET chain = zeroblob(64) WHERE leaf_index = 7"),
        "chain",
        f":7, chain: expected fingerprints of stored certificates, found the unknown fingerprint {'00' * 32}",
    ),
    "kind": (
        lambda copy: copy.run("UPDATE leaves SET kind = 'x509' WHERE leaf_index = 7"),
        "entry-kind",
        ":7, kind: expected precertificate, found 'x509'",
    ),
    "hash prefix": (
        lambda copy: copy.run("UPDATE leaves SET hash_prefix = 17 WHERE leaf_index = 7"),
        "leaf-hash",
        ", found 11: no look-up finds the leaf",
    ),
    "extra leaf": (
        lambda copy: _more(copy, "leaves", "leaf_index=600;leaf_hash=randomblob(32);hash_prefix=1"),
        "stray",
        "row of entry",
    ),
    "tile hashes": (
        lambda copy: copy.run(
            "UPDATE tiles SET hashes = ? WHERE tile_index = 1",
            flip(copy.one("SELECT hashes FROM tiles WHERE tile_index = 1"), 32 * 200),
        ),
        "tile",
        "hash 200: expected ",
    ),
    "tile root": (
        lambda copy: copy.run("UPDATE tiles SET root_hash = zeroblob(32) WHERE tile_index = 0"),
        "tile-root",
        f"found {'00' * 32}",
    ),
    "missing tile": (
        lambda copy: copy.run("DELETE FROM tiles WHERE tile_index = 1"),
        "tile-missing",
        "tile 0/1 of log ",
    ),
    "extra tile": (
        lambda copy: copy.run("INSERT INTO tiles SELECT log, 1, 0, root_hash, hashes FROM tiles LIMIT 1"),
        "stray",
        "tile 1/0 of log ",
    ),
    "frontier": (
        lambda copy: copy.run(
            "UPDATE tree_heads SET frontier = ?", flip(copy.one("SELECT frontier FROM tree_heads"), 0)
        ),
        "frontier",
        "frontier at size 600: expected ",
    ),
    "head time": (
        lambda copy: copy.run("UPDATE tree_heads SET timestamp = timestamp + 1"),
        "head-signature",
        "signature: expected a signature of the log's key over its size, time and root, found the signature ",
    ),
    "log id": (
        lambda copy: copy.run("UPDATE logs SET log_id = zeroblob(32)"),
        "log-id",
        f"found {'00' * 32}",
    ),
    "chain certificate": (
        lambda copy: copy.run(
            "UPDATE chain_certificates SET der = ? WHERE fingerprint = ?",
            *_changed_root(copy),
        ),
        "chain-certificate",
        "expected a certificate with that SHA-256",
    ),
    "issued row": (
        lambda copy: copy.run("DELETE FROM issued WHERE leaf_index = 9"),
        "entry-without-issued",
        "OCSP answers `unknown`",
    ),
    "issued notAfter": (
        lambda copy: copy.run("UPDATE issued SET not_after = not_after + 1 WHERE leaf_index = 9"),
        "issued-row",
        ":9, not_after: expected ",
    ),
    "issued key": (
        lambda copy: copy.run("UPDATE issued SET key_sha256 = x'ab' WHERE leaf_index = 9"),
        "issued-row",
        ":9, key_sha256: expected ",
    ),
    "issued issuer": (
        lambda copy: copy.run("UPDATE issued SET oidc_issuer = 'https://x.example' WHERE leaf_index = 9"),
        "issued-row",
        "oidc_issuer: expected https://issuer.example (of the leaf), found https://x.example",
    ),
    "issued subject": (
        lambda copy: copy.run("UPDATE issued SET subject = 'eve@example.com' WHERE leaf_index = 9"),
        "issued-row",
        ":9, subject: expected the certificate's subject, found another text",
    ),
    "issued shard": (
        lambda copy: copy.run("UPDATE issued SET crl_shard = '1999-01-00' WHERE leaf_index = 9"),
        "issued-shard",
        "found '1999-01-00', which is no shard of its authority key",
    ),
    "revocation date": (
        lambda copy: copy.run("UPDATE revocations SET revocation_date = 5 WHERE serial = (SELECT min(serial) "
                              "FROM revocations)"),
        "revocation-date",
        "revocation_date: expected at least ",
    ),
    "revocation of nothing": (
        lambda copy: copy.run("UPDATE revocations SET serial = x'00aa' WHERE serial = (SELECT min(serial) "
                              "FROM revocations)"),
        "revocation-without-issued",
        "revocation of 00aa: expected an issued row",
    ),
    "lost revocation": (
        lambda copy: copy.run("DELETE FROM revocations WHERE serial = (SELECT min(serial) FROM revocations)"),
        "crl-extra",
        "expected a stored revocation: what a CRL has shown is taken back by `withdraw` alone, found none",
    ),
    "CRL number": (
        lambda copy: copy.run(
            "UPDATE crl_shards SET crl_number = 70 WHERE name = (SELECT crl_shard FROM revocations LIMIT 1)"
        ),
        "crl-row",
        "crl_number: expected 2 (of the signed CRL), found 70",
    ),
    "CRL bytes": (
        lambda copy: copy.run(
            "UPDATE crl_shards SET crl = ? WHERE name = (SELECT min(name) FROM crl_shards)",
            flip(copy.one("SELECT crl FROM crl_shards ORDER BY name LIMIT 1"), -2 % 300),
        ),
        "crl",
        "crl: expected a CRL of its authority for ",
    ),
    "audit detail": (
        lambda copy: copy.run("UPDATE audit SET detail = '{}' WHERE sequence = 1"),
        "audit-hash",
        "audit record 1, hash: expected ",
    ),
    "audit record": (
        lambda copy: copy.run("DELETE FROM audit WHERE sequence = 1"),
        "audit-missing",
        "audit after record 0: expected 1, found 2",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TAMPERINGS)
def test_each_kind_of_row_that_was_tampered_with_is_named(copy: Copy, name: str) -> None:
    tamper, rule, said = TAMPERINGS[name]
    tamper(copy)
    findings = copy.found()
    assert said in findings[rule], findings


def test_an_older_crl_put_back_lacks_a_revocation(copy: Copy, whole: Path) -> None:
    name = copy.one("SELECT name FROM crl_shards WHERE name NOT IN (SELECT crl_shard FROM revocations)")
    serial = copy.one("SELECT min(serial) FROM revocations")
    copy.run("UPDATE revocations SET crl_shard = ? WHERE serial = ?", name, serial)
    findings = copy.found()
    lacks = f"entry {serial.hex()}: expected an entry: the certificate is revoked, found none"
    assert lacks in findings["crl-lacks"]
    assert "the CRL that its verifiers read lacks it" in findings["revocation-shard"]


def test_it_goes_on_where_it_was_interrupted_and_keeps_what_it_found(copy: Copy, tmp_path: Path) -> None:
    copy.run("UPDATE issued SET not_after = 1 WHERE leaf_index = 3")
    copy.guard()
    state = tmp_path / "state.json"
    settings = load_settings(copy.folder / "ca.toml", {})
    subject, around = _subject(settings), Surroundings(settings)

    class Interrupted(Exception):
        pass

    def interrupt(what: str, done: int, total: int) -> None:
        if done == total == SIZE:
            raise Interrupted

    with pytest.raises(Interrupted):
        Inspection(subject, around, Progress(), interrupt, state=state, processes=1).run()
    (tree,) = read_state(state).trees.values()
    assert tree["tiles"] == SIZE // 256

    read: list[int] = []
    original = SqlInspection.portion

    def portion(self: Any, log: int, first: int, end: int) -> Any:
        read.append(first)
        return original(self, log, first, end)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SqlInspection, "portion", portion)
        code, report = copy.fsck("--resume", str(state))
    assert read == [SIZE // 256 * 256], "what was read before is not read again"
    assert code == 1
    assert [one["rule"] for one in report["findings"]] == ["issued-row"]
    assert not state.exists()


def test_several_processes_find_the_same(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ca_service.cli.inspection.portions._WORTH_PROCESSES", 1)
    copy.run("UPDATE tiles SET root_hash = zeroblob(32) WHERE tile_index = 0")
    code, report = copy.fsck("--processes", "2")
    assert code == 1
    assert {one["rule"] for one in report["findings"]} == {"tile-root", "high-water-mark"}


def test_a_database_that_cannot_be_read_is_no_finding(copy: Copy) -> None:
    (copy.folder / "state/ca.db").rename(copy.folder / "state/elsewhere.db")
    result = CliRunner().invoke(main, ["fsck", "--config", str(copy.folder)])
    assert result.exit_code == 2
    assert "does not exist" in result.stderr


def test_no_finding_names_a_person(copy: Copy) -> None:
    copy.run("UPDATE issued SET subject_normalized = 'x', subject = 'y' WHERE leaf_index = 9")
    _, report = copy.fsck()
    assert "@example.com" not in json.dumps(report)
    assert copy.one("SELECT serial FROM issued WHERE leaf_index = 9").hex() in json.dumps(report)
