"""`log`: an operator sees the shards, prepares the next, and closes what is over or lost."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from ca_service.app import build_service, create_app
from ca_service.authority.issuance import PublicKeyProof
from ca_service.keys.file import read_private_key, write_private_key
from ca_service.settings import load_settings
from tests.support.signing import new_key, prove, public_der
from tests.unit.cli.conftest import URL, Host, run


def rows(host: Host) -> dict[str, dict[str, object]]:
    done = run("log", "list", "--config", host.config, "--json")
    assert done.exit_code == 0, done.stderr
    return {row["shard"]: row for row in json.loads(done.stdout)}


def rotate(host: Host, *arguments: str) -> dict[str, str]:
    done = run("log", "rotate", "--config", host.config, "--json", *arguments)
    assert done.exit_code == 0, done.stderr
    prepared: dict[str, str] = json.loads(done.stdout)
    return prepared


def seconds_from_now(text: object) -> float:
    from ca_service.vocabulary import parse_time

    return parse_time(str(text)).timestamp() - time.time()


def test_the_next_shard_starts_in_a_week_with_a_key_that_only_its_owner_reads(host: Host) -> None:
    (first,) = rows(host)
    began = time.time()
    prepared = rotate(host)
    week = seconds_from_now(prepared["starts"])
    assert week <= 7 * 86_400 <= week + (time.time() - began) + 1
    assert prepared["origin"] == f"127.0.0.1:5555/ctlog/{prepared['shard']}"
    key = Path(prepared["key"])
    assert key == host.folder / "private" / f"log-{prepared['shard']}.key"
    assert key.stat().st_mode & 0o777 == 0o600
    found = rows(host)
    assert [row["state"] for row in found.values()] == ["active", "prepared"]
    assert found[first]["ends"] == prepared["starts"]
    again = run("log", "rotate", "--config", host.config)
    assert (again.exit_code, len(rows(host))) == (1, 2)
    assert "--now to move its start" in again.stderr


def test_no_key_is_written_that_does_not_fit_the_passphrase_of_the_others(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuing = host.folder / "private" / "issuing.key"
    key = read_private_key(issuing, None)
    issuing.unlink()
    write_private_key(issuing, key, b"the passphrase")
    before = sorted(path.name for path in issuing.parent.iterdir())
    for wrong in (None, "another one"):
        if wrong is not None:
            monkeypatch.setenv("CASVC_KEYS__PASSPHRASE", wrong)
        refused = run("log", "rotate", "--config", host.config)
        assert refused.exit_code == 2, refused.output
        assert "passphrase" in refused.stderr
        assert sorted(path.name for path in issuing.parent.iterdir()) == before
    monkeypatch.setenv("CASVC_KEYS__PASSPHRASE", "the passphrase")
    assert "ENCRYPTED" in Path(rotate(host)["key"]).read_text()


def test_a_prepared_shard_is_moved_not_made_again(host: Host) -> None:
    prepared = rotate(host, "--from", "2077-01-01", "--name", "later")
    assert (prepared["shard"], prepared["starts"]) == ("later", "2077-01-01T00:00:00Z")
    moved = rotate(host, "--from", "2076-01-01")
    assert (moved["shard"], moved["log_id"]) == ("later", prepared["log_id"])
    moved = rotate(host, "--now")
    # What the host fixture issued expires in ten minutes: the first shard keeps it. A second or two after it
    # was issued, the other has begun.
    assert 0 < seconds_from_now(moved["starts"]) <= 602
    states = [row["state"] for row in rows(host).values()]
    assert states in (["active", "prepared"], ["ended", "active"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--from", "2020-01-01"), "starts now or later"),
        (("--from", "tomorrow"), "RFC 3339"),
        (("--from", "2077-01-01", "--now"), "not both"),
        (("--name", "a/../b"), "cannot be the name of a log shard"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(
    host: Host, arguments: tuple[str, ...], sentence: str
) -> None:
    keys = set((host.folder / "private").iterdir())
    done = run("log", "rotate", "--config", host.config, *arguments)
    assert done.exit_code == 2
    assert sentence in done.stderr
    assert set((host.folder / "private").iterdir()) == keys
    assert len(rows(host)) == 1


def test_an_interrupted_attempt_leaves_a_key_that_is_never_used(host: Host) -> None:
    prepared = rotate(host)
    idle = host.folder / "private" / "log-2099.key"
    idle.write_text("not even a key")
    done = run("log", "rotate", "--config", host.config, "--from", "2099-05-05", "--name", "2099")
    assert done.exit_code == 1
    assert run("log", "retire", prepared["shard"], "--reason", "test", "--config", host.config).exit_code == 0
    following = rotate(host, "--from", "2099-05-05")
    assert following["shard"] == "2099-2"
    assert idle.read_text() == "not even a key"


def test_a_shard_is_frozen_only_when_its_period_is_over(host: Host) -> None:
    (first,) = rows(host)
    done = run("log", "freeze", first, "--config", host.config)
    assert done.exit_code == 2
    assert "log rotate" in done.stderr
    done = run("log", "freeze", "2001", "--config", host.config)
    assert done.exit_code == 1
    assert first in done.stderr


def test_a_retired_shard_is_followed_by_one_that_takes_what_is_issued_now(host: Host) -> None:
    (first,) = rows(host)
    size = rows(host)[first]["tree_size"]
    done = run("log", "retire", first, "--reason", "its key leaked", "--config", host.config, "--json")
    assert done.exit_code == 0, done.stderr
    following = json.loads(done.stdout)["shard"]
    found = rows(host)
    assert [row["state"] for row in found.values()] == ["retired", "active"]
    assert (found[first]["retired_for"], found[first]["tree_size"]) == ("its key leaked", size)
    shown = run("log", "list", "--config", host.config).stdout
    assert "its key leaked" in shown
    service = build_service(load_settings(host.folder / "ca.toml", {}))
    try:
        assert service.log.current().shard == following
        client = create_app(service).test_client()
        assert client.post(f"/ctlog/{first}/ct/v1/add-chain", json={}).status_code == 410
        assert client.post(f"/ctlog/{following}/ct/v1/add-chain", json={}).status_code == 403
        assert f'"tree_size":{size},' in client.get(f"/ctlog/{first}/ct/v1/get-sth").text
        assert client.get("/ctlog/none/ct/v1/get-sth").status_code == 404
        assert str(found[first]["ends"]) in client.get("/").text
    finally:
        service.close()


def test_doctor_and_serve_name_a_shard_whose_key_is_gone(host: Host) -> None:
    prepared = rotate(host)
    Path(prepared["key"]).unlink()
    done = run("doctor", "--config", host.config, "--offline")
    assert done.exit_code == 1
    assert f"log-{prepared['shard']}.key cannot be read" in done.stdout
    served = run("serve", "--config", host.config)
    assert served.exit_code == 2
    assert "[log] keys_dir" in served.stderr


def test_a_key_of_another_shard_signs_nothing(host: Host) -> None:
    prepared = rotate(host)
    (first,) = [name for name in rows(host) if name != prepared["shard"]]
    other = host.folder / "private" / f"log-{first}.key"
    other.write_bytes(Path(prepared["key"]).read_bytes())
    served = run("serve", "--config", host.config)
    assert served.exit_code == 2
    assert "key and database are not of the same directory" in served.stderr


def described(folder: Path, shard: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / shard / "log.v3.json").read_text())
    return document


def test_every_shard_is_exported_with_its_period_and_state(host: Host, tmp_path: Path) -> None:
    (first,) = rows(host)
    prepared = rotate(host, "--from", "2077-01-01")
    second, files = prepared["shard"], tmp_path / "files"
    assert run("log", "export", "--config", host.config, "--dir", files).exit_code == 0
    usable, qualified = described(files, first), described(files, second)
    assert list(usable["state"]) == ["usable"]
    assert usable["temporal_interval"]["end_exclusive"] == prepared["starts"]
    assert list(qualified["state"]) == ["qualified"]
    assert qualified["temporal_interval"]["start_inclusive"] == prepared["starts"]
    assert qualified["monitoring_url"].endswith(f"/ctlog/{second}/")
    assert [(files / name / "checkpoint").read_text().split("\n")[:2] for name in (first, second)] == [
        [str(rows(host)[first]["origin"]), "1"],
        [prepared["origin"], "0"],
    ]
    assert run("log", "retire", first, "--reason", "test", "--config", host.config).exit_code == 0
    again = run("log", "export", "--config", host.config, "--dir", files)
    assert again.exit_code == 0
    assert described(files, first)["state"] == {"retired": {"timestamp": rows(host)[first]["ends"]}}
    client = create_app(host.service).test_client()
    host.service.log.directory.refreshed()
    for shard in rows(host):
        for path in ("log.v3.json", "checkpoint"):
            assert client.get(f"/ctlog/{shard}/{path}").data == (files / shard / path).read_bytes()
    assert client.get("/ctlog/none/log.v3.json").status_code == 404


def test_a_certificate_is_proven_by_the_shard_that_logged_it(host: Host, tmp_path: Path) -> None:
    (first,) = rows(host)
    done = run("log", "retire", first, "--reason", "test", "--config", host.config, "--json")
    assert done.exit_code == 0, done.stderr
    second = json.loads(done.stdout)["shard"]
    host.service.log.directory.refreshed()
    assert host.service.dev is not None
    token = host.service.dev.sign_token(email="ada@example.com", audience="sigstore")
    key = new_key()
    proof = PublicKeyProof(public_der(key), prove(key, "ada@example.com"))
    chain = host.service.issuance.issue(token, proof).certificates
    (tmp_path / "second.pem").write_text(chain[0])
    trust = tmp_path / "trust"
    assert run("export-trust", "--config", host.config, "--out", trust).exit_code == 0
    for file, shard in ((host.leaf_file, first), (tmp_path / "second.pem", second)):
        for whom in (("--trust", trust), ("--config", host.config)):
            proven = run("verify-inclusion", file, *whom, "--json")
            assert proven.exit_code == 0, proven.stdout
            facts = json.loads(proven.stdout)
            assert facts["log_id"] == rows(host)[shard]["log_id"]
            assert facts["source"] == f"{URL}/ctlog/{shard}"
