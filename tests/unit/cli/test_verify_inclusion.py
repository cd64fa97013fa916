"""verify-inclusion proves what the log holds, online and from a bundle, and nothing that was altered."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ca_service.authority.issuance import PublicKeyProof
from ca_service.cli import fetching
from ca_service.merkle.checkpoint import checkpoint_note, tree_head_input
from ca_service.merkle.tree import leaf_hash, node_hash
from ca_service.pki.sct import digitally_sign
from ca_service.web.log import ServedLog
from tests.support.signing import new_key, prove, public_der
from tests.unit.cli.conftest import URL, Host, run

EMAIL = "ada@example.com"


@pytest.fixture
def trust(host: Host, tmp_path: Path) -> Path:
    assert run("export-trust", "--config", host.config, "--out", tmp_path / "trust").exit_code == 0
    return tmp_path / "trust"


def issue(host: Host, count: int) -> list[str]:
    """More certificates; their PEM texts."""
    assert host.service.dev is not None
    token = host.service.dev.sign_token(email=EMAIL, audience="sigstore")
    chains = []
    for _ in range(count):
        key = new_key()
        proof = PublicKeyProof(public_der(key), prove(key, EMAIL))
        chains.append(host.service.issuance.issue(token, proof).certificates[0])
    return chains


def served(host: Host) -> ServedLog:
    """The shard that logs what is issued now."""
    return host.service.log[host.service.log.current().shard]


def verdict(*arguments: str | Path) -> tuple[int, dict[str, Any]]:
    done = run("verify-inclusion", *arguments, "--json")
    return done.exit_code, json.loads(done.stdout) if done.exit_code in (0, 1) else {"message": done.stderr}


def altered(monkeypatch: pytest.MonkeyPatch, change: Callable[[str, bytes], bytes]) -> None:
    honest = fetching.fetch

    def fetch(url: str, body: bytes | None = None, content_type: str | None = None) -> bytes:
        return change(url.removeprefix(f"{URL}/ctlog/"), honest(url, body, content_type))

    monkeypatch.setattr(fetching, "fetch", fetch)


def test_a_certificate_is_proven_against_the_trust_files_alone(host: Host, trust: Path) -> None:
    code, facts = verdict(host.leaf_file, "--trust", trust)
    assert code == 0, facts
    head = served(host).reader.head()
    assert facts["included"] is True
    assert (facts["serial"], facts["leaf_index"]) == (host.serial, 0)
    assert (facts["tree_size"], facts["root_hash"]) == (1, head.root_hash.hex())
    assert facts["log_id"] == head.log_id.hex()
    assert facts["source"] == f"{URL}/ctlog/{host.service.log.current().shard}"
    said = run("verify-inclusion", host.leaf_file, "--trust", trust).stdout
    assert f"{host.serial}: in the log {host.service.log.current().origin}" in said
    assert verdict(host.leaf_file, "--config", host.config)[0] == 0


def test_any_place_in_a_tree_of_several_tiles_is_proven(host: Host, trust: Path, tmp_path: Path) -> None:
    leaves = issue(host, 300)
    for place in (0, 254, 255, 299):
        file = tmp_path / f"{place}.pem"
        file.write_text(leaves[place])
        code, facts = verdict(file, "--trust", trust)
        assert (code, facts.get("leaf_index"), facts.get("tree_size")) == (0, place + 1, 301), facts


def test_a_saved_bundle_proves_it_offline(
    host: Host, trust: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    issue(host, 5)
    bundle = tmp_path / "bundle.json"
    assert verdict(host.leaf_file, "--trust", trust, "--save", bundle)[0] == 0

    def nobody(url: str, body: bytes | None = None, content_type: str | None = None) -> bytes:
        raise AssertionError(f"{url} was asked")

    monkeypatch.setattr(fetching, "fetch", nobody)
    code, facts = verdict(host.leaf_file, "--trust", trust, "--bundle", bundle)
    assert code == 0, facts
    assert facts["tree_size"] == 6
    assert facts["source"] == str(bundle)


def test_a_bundle_that_was_altered_anywhere_proves_nothing(host: Host, trust: Path, tmp_path: Path) -> None:
    (other,) = issue(host, 1)
    bundle = tmp_path / "bundle.json"
    assert verdict(host.leaf_file, "--trust", trust, "--save", bundle)[0] == 0
    honest = json.loads(bundle.read_text())

    def flipped(text: str) -> str:
        octets = bytearray(base64.b64decode(text))
        octets[len(octets) // 2] ^= 1
        return base64.b64encode(octets).decode()

    note = honest["checkpoint"]
    head, _, line = note.partition("\n\n")
    root = head.split("\n")[2]
    signature = line.rsplit(" ", 1)[1].strip()
    for step, change in (
        ("leaf", {"leaf": flipped(honest["leaf"])}),
        ("proof", {"inclusion_proof": [flipped(node) for node in honest["inclusion_proof"]]}),
        ("proof", {"inclusion_proof": []}),
        ("proof", {"inclusion_proof": honest["inclusion_proof"] * 2}),
        ("checkpoint", {"checkpoint": note.replace(root, flipped(root))}),
        ("checkpoint", {"checkpoint": note.replace(signature, flipped(signature))}),
        ("checkpoint", {"checkpoint": note.replace("\n2\n", "\n3\n")}),
        ("checkpoint", {"checkpoint": note.replace("ctlog/", "ctlog/x")}),
        ("checkpoint", {"checkpoint": "no note"}),
    ):
        bundle.write_text(json.dumps(honest | change))
        code, facts = verdict(host.leaf_file, "--trust", trust, "--bundle", bundle)
        assert (code, facts["included"], facts["failed_step"]) == (1, False, step), facts
    bundle.write_text(json.dumps(honest))
    (tmp_path / "other.pem").write_text(other)
    code, facts = verdict(tmp_path / "other.pem", "--trust", trust, "--bundle", bundle)
    assert (code, facts["failed_step"]) == (1, "leaf"), "a bundle is for one certificate"


def test_a_log_that_answers_wrongly_proves_nothing(
    host: Host, trust: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    issue(host, 3)
    shard = host.service.log.current().shard

    def flip(path: str) -> Callable[[str, bytes], bytes]:
        def change(asked: str, content: bytes) -> bytes:
            if not asked.startswith(f"{shard}/{path}"):
                return content
            return content[:60] + bytes([content[60] ^ 1]) + content[61:]

        return change

    for path, step in (("tile/data/", "leaf"), ("tile/0/", "proof"), ("checkpoint", "")):
        with monkeypatch.context() as patched:
            altered(patched, flip(path))
            code, facts = verdict(host.leaf_file, "--trust", trust)
            assert code == 1, facts
            assert not step or facts["failed_step"] == step
    for garbage in (b"", b"\xff" * 10, b"<html>"):
        with monkeypatch.context() as patched:
            altered(patched, lambda asked, content, garbage=garbage: garbage)  # type: ignore[misc]  # a default
            assert verdict(host.leaf_file, "--trust", trust)[0] == 1


def test_a_tree_of_the_logs_own_key_without_the_entry_is_no_proof(
    host: Host, trust: Path, tmp_path: Path
) -> None:
    """The log itself lies: it signs a tree that has another leaf at the place it promised."""
    bundle = tmp_path / "bundle.json"
    assert verdict(host.leaf_file, "--trust", trust, "--save", bundle)[0] == 0
    document = json.loads(bundle.read_text())
    settings = host.service.settings
    key = load_pem_private_key(settings.log.key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    now = served(host).reader.head().timestamp

    def note(root: bytes, timestamp: int) -> str:
        log = host.service.log.current()
        return checkpoint_note(
            log.origin,
            log.log_id,
            size=2,
            root=root,
            timestamp=timestamp,
            signature=digitally_sign(key, tree_head_input(timestamp, 2, root)),
        )

    hers, theirs = leaf_hash(base64.b64decode(document["leaf"])), leaf_hash(b"another leaf")
    document["inclusion_proof"] = [base64.b64encode(theirs).decode()]
    for root, timestamp, step in (
        (node_hash(hers, theirs), now + 1, None),
        (node_hash(theirs, hers), now + 1, "proof"),
        (node_hash(hers, theirs), now - 86_400_000, "checkpoint"),
    ):
        document["checkpoint"] = note(root, timestamp)
        bundle.write_text(json.dumps(document))
        code, facts = verdict(host.leaf_file, "--trust", trust, "--bundle", bundle)
        assert (code, facts.get("failed_step")) == (0 if step is None else 1, step), facts


def test_nobody_else_is_believed(host: Host, trust: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert run("init", "--dir", other, "--url", URL).exit_code == 0
    code, facts = verdict(host.leaf_file, "--config", other)
    assert (code, facts["failed_step"]) == (1, "authority")
    root = json.loads((trust / "trusted_root.json").read_text())
    foreign = tmp_path / "foreign"
    assert run("export-trust", "--config", other, "--out", foreign).exit_code == 0
    foreign_root = json.loads((foreign / "trusted_root.json").read_text())
    (trust / "trusted_root.json").write_text(json.dumps(root | {"ctlogs": foreign_root["ctlogs"]}))
    code, facts = verdict(host.leaf_file, "--trust", trust)
    assert (code, facts["failed_step"]) == (1, "sct")
    log = root["ctlogs"][0]
    retired = {
        **log["publicKey"],
        "validFor": {"start": "2020-01-01T00:00:00Z", "end": "2021-01-01T00:00:00Z"},
    }
    (trust / "trusted_root.json").write_text(json.dumps(root | {"ctlogs": [log | {"publicKey": retired}]}))
    code, facts = verdict(host.leaf_file, "--trust", trust)
    assert (code, facts["failed_step"]) == (1, "sct")


def test_a_certificate_without_a_timestamp_is_not_in_a_log(host: Host, trust: Path, tmp_path: Path) -> None:
    precertificate = served(host).reader.entries(0, 1)[0].precertificate
    (tmp_path / "precertificate.der").write_bytes(precertificate)
    code, facts = verdict(tmp_path / "precertificate.der", "--trust", trust)
    assert (code, facts["failed_step"]) == (1, "sct")


def test_a_log_that_cannot_be_reached_is_no_verdict(
    host: Host, trust: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(url: str, body: bytes | None = None, content_type: str | None = None) -> bytes:
        raise requests.ConnectionError

    def gone(url: str, body: bytes | None = None, content_type: str | None = None) -> bytes:
        raise fetching.Refused("it answered 404", 404)

    def untrusted(url: str, body: bytes | None = None, content_type: str | None = None) -> bytes:
        raise requests.exceptions.SSLError

    for trouble, said in ((down, "ConnectionError"), (gone, "404"), (untrusted, "REQUESTS_CA_BUNDLE")):
        monkeypatch.setattr(fetching, "fetch", trouble)
        done = run("verify-inclusion", host.leaf_file, "--trust", trust)
        assert done.exit_code == 3
        assert "the log did not answer" in done.stderr
        assert said in done.stderr


def test_a_mirror_that_dropped_partial_tiles_will_do(
    host: Host, trust: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader may hold a checkpoint whose partial tiles the publisher has replaced by full ones since."""
    (second,) = issue(host, 1)
    (tmp_path / "second.pem").write_text(second)
    old = host.service.log.files[host.service.log.current().shard].checkpoint(served(host).reader.head())
    issue(host, 300)
    honest = fetching.fetch

    def fetch(url: str, body: bytes | None = None, content_type: str | None = None) -> bytes:
        assert url.startswith("https://mirror.example/ct/")
        if url.endswith("checkpoint"):
            return old
        if ".p/" in url:
            raise fetching.Refused("it answered 404", 404)
        return honest(
            url.replace("https://mirror.example/ct", f"{URL}/ctlog/{host.service.log.current().shard}")
        )

    monkeypatch.setattr(fetching, "fetch", fetch)
    code, facts = verdict(
        tmp_path / "second.pem", "--trust", trust, "--log-url", "https://mirror.example/ct/"
    )
    assert (code, facts.get("tree_size")) == (0, 2), facts


def test_wrong_use_is_told(host: Host, trust: Path, tmp_path: Path) -> None:
    (tmp_path / "no.json").write_text("[]")
    for arguments in (
        [host.leaf_file],
        [host.leaf_file, "--trust", trust, "--config", host.config],
        [host.serial, "--trust", trust],
        [host.leaf_file, "--trust", tmp_path],
        [host.leaf_file, "--trust", trust, "--bundle", tmp_path / "no.json"],
        [host.leaf_file, "--trust", trust, "--bundle", tmp_path / "no.json", "--save", tmp_path / "b.json"],
    ):
        assert run("verify-inclusion", *arguments).exit_code == 2, arguments
    for broken in ("[]", "{}", "no JSON", '{"certificateAuthorities": [], "ctlogs": [{}]}'):
        (trust / "trusted_root.json").write_text(broken)
        assert run("verify-inclusion", host.leaf_file, "--trust", trust).exit_code == 2, broken
