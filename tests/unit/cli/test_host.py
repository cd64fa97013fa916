"""Doctor and export-trust tell the truth about a directory; wrong use ends with a sentence."""

import base64
import hashlib
import json
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from ca_service.cli.group import SECTIONS, main
from ca_service.keys.file import write_private_key
from tests.unit.cli.conftest import Host, run


def checks(host: Host) -> dict[str, str]:
    done = run("doctor", "--config", host.config, "--json", "--offline")
    report = json.loads(done.stdout)
    assert done.exit_code == (1 if report["failed"] else 0)
    return {one["check"]: one["verdict"] for one in report["checks"]}


def test_doctor_finds_a_fresh_authority_sound_and_shows_every_setting(host: Host) -> None:
    found = checks(host)
    assert "failed" not in found.values()
    assert found["log"] == "good"
    assert found["issuers"] == "warning"
    shown = run("doctor", "--config", host.config, "--offline").stdout
    assert "[log] shard" in shown
    assert "[file]" in shown
    assert "[default]" in shown


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        ("mode", "issuing key and certificate"),
        ("other key", "issuing key and certificate"),
        ("log key", "log"),
        ("database", "database"),
        ("issuers", "issuers"),
        ("dev issuer", "issuers"),
        ("root CRL", "root CRL"),
    ],
)
def test_doctor_names_what_is_broken(host: Host, broken: str, check: str) -> None:
    host.service.close()
    folder = host.folder
    (log_key,) = (folder / "private").glob("log-*.key")
    match broken:
        case "mode":
            (folder / "private/issuing.key").chmod(0o644)
        case "other key":
            (folder / "private/issuing.key").unlink()
            key = ec.generate_private_key(ec.SECP256R1())
            write_private_key(folder / "private/issuing.key", key, None)
        case "log key":
            log_key.unlink()
            write_private_key(log_key, ec.generate_private_key(ec.SECP256R1()), None)
        case "database":
            (folder / "state/ca.db").unlink()
        case "issuers":
            (folder / "issuers.yaml").write_text("oidc-issuers: [1, 2")
        case "dev issuer":
            (folder / "issuers.yaml").write_text(
                "oidc-issuers: {'http://127.0.0.1:5555/dev-idp': {issuer-url: 'http://127.0.0.1:5555/dev-idp',"
                " client-id: sigstore, type: email}}"
            )
        case "root CRL":
            (folder / "authority/root.crl").write_bytes(b"\x30\x00")
    assert checks(host)[check] == "failed"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql+psycopg://ca:hunter2@127.0.0.1:port/ca", "the port is a number"),
        ("postgresql+psycopg://ca@127.0.0.1/ca?sslmod=require", "?sslmode=verify-full"),
        ("sqlite:///nowhere.db", "nowhere.db does not exist"),
    ],
)
def test_doctor_goes_on_when_the_database_cannot_be_read(
    host: Host, monkeypatch: pytest.MonkeyPatch, url: str, said: str
) -> None:
    monkeypatch.setenv("CASVC_DATABASE__URL", url)
    done = run("doctor", "--config", host.config, "--json", "--offline")
    assert done.exit_code == 1, done.output
    assert "hunter" not in done.output
    told = {one["check"]: (one["verdict"], one["detail"]) for one in json.loads(done.stdout)["checks"]}
    assert said in told["database"][1]
    assert [told[check][0] for check in ("database", "log", "high-water mark")] == ["failed"] * 3
    assert "holds 1 log entries" in told["high-water mark"][1]
    assert "nobody can tell whether the database is behind it" in told["high-water mark"][1]
    assert [told[check][0] for check in ("issuing certificate", "administrators")] == ["good"] * 2


def test_doctor_never_shows_a_password(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASVC_REDIS__URL", "redis://:hunter2@127.0.0.1:1/0")
    monkeypatch.setenv("CASVC_KEYS__PASSPHRASE", "hunter2")
    shown = run("doctor", "--config", host.config, "--offline")
    assert "hunter2" not in shown.output
    assert "environment CASVC_REDIS__URL" in shown.stdout


def test_doctor_notes_a_redis_that_does_not_count(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "redis" not in checks(host)
    monkeypatch.setenv("CASVC_REDIS__URL", "redis://127.0.0.1:1/0")
    assert checks(host)["redis"] == "warning"


def test_export_trust_writes_what_verifiers_need_and_says_what_is_missing(host: Host, tmp_path: Path) -> None:
    out = tmp_path / "trust"
    done = run("export-trust", "--config", host.config, "--out", out)
    assert done.exit_code == 0, done.output
    assert {path.name for path in out.iterdir()} == {"trusted_root.json", "fulcio.pem", "ctlog.pub"}
    assert "--rekor" in done.stderr
    chain = x509.load_pem_x509_certificates((out / "fulcio.pem").read_bytes())
    host.leaf.verify_directly_issued_by(chain[0])
    log_key = load_pem_public_key((out / "ctlog.pub").read_bytes())
    spki = log_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert spki == host.service.log.current().public_key_der
    by_folder = run("status", host.leaf_file, "--trust", out)
    assert by_folder.exit_code == 0, by_folder.output


def test_export_trust_with_a_rekor_writes_the_signing_documents(host: Host, tmp_path: Path) -> None:
    key = tmp_path / "rekor.pub"
    public_key = ec.generate_private_key(ec.SECP256R1()).public_key()
    key.write_bytes(public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    out = tmp_path / "trust"
    done = run(
        "export-trust", "--config", host.config, "--out", out, "--rekor", f"https://rekor.example.com={key}"
    )
    assert done.exit_code == 0, done.output
    config = json.loads((out / "client_trust_config.json").read_text())
    assert config["signingConfig"]["rekorTlogUrls"][0]["url"] == "https://rekor.example.com"
    assert json.loads((out / "signing_config.json").read_text()) == config["signingConfig"]
    for wrong in (
        "rekor.example.com",
        f"https://rekor.example.com={tmp_path}/none",
        f"https://r={host.config}",
    ):
        refused = run("export-trust", "--config", host.config, "--out", out, "--rekor", wrong)
        assert refused.exit_code == 2
        assert "--rekor" in refused.stderr


def test_export_trust_with_a_timestamp_authority_or_a_rekor_2(host: Host, tmp_path: Path) -> None:
    key, chain, out = tmp_path / "rekor.pub", tmp_path / "tsa.pem", tmp_path / "trust"
    public_key = ed25519.Ed25519PrivateKey.generate().public_key()
    key.write_bytes(public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    chain.write_text("".join(host.service.trust.chains()[0]))
    rekor, tsa = f"https://rekor.example.com={key}", f"https://tsa.example.com/ts={chain}"
    export = ("export-trust", "--config", host.config, "--out", out)

    alone = run(*export, "--tsa", tsa)
    assert alone.exit_code == 0, alone.output
    assert "client_trust_config.json, which sigstore-python refuses" in alone.stderr
    assert not (out / "client_trust_config.json").exists()
    config = json.loads((out / "signing_config.json").read_text())
    assert [each["url"] for each in config["tsaUrls"]] == ["https://tsa.example.com/ts"]
    assert config["rekorTlogUrls"] == []

    without = run(*export, "--rekor-v2", rekor)
    assert without.exit_code == 2
    assert "does not tell when a signature was made" in without.stderr

    both = run(*export, "--rekor-v2", rekor, "--tsa", tsa)
    assert both.exit_code == 0, both.output
    config = json.loads((out / "client_trust_config.json").read_text())
    assert config["signingConfig"]["rekorTlogUrls"][0]["majorApiVersion"] == 2
    (log,) = config["trustedRoot"]["tlogs"]
    noted = hashlib.sha256(b"rekor.example.com\n\x01" + public_key.public_bytes_raw()).digest()
    assert log["logId"]["keyId"] == base64.b64encode(noted).decode()


def test_migrate_leaves_a_current_database_alone(host: Host) -> None:
    assert run("migrate", "--config", host.config).exit_code == 0
    assert run("find", "--config", host.config, "--serial", host.serial).exit_code == 0


@pytest.mark.parametrize("verb", [verb for verbs in SECTIONS.values() for verb in verbs])
def test_every_verb_teaches_its_use(verb: str) -> None:
    shown = run(verb, "--help")
    assert shown.exit_code == 0
    assert len(shown.stdout.splitlines()) > 5
    command = main.get_command(None, verb)  # type: ignore[arg-type]  # no verb needs the context
    assert command is not None
    assert verb in run("--help").stdout


def test_a_missing_or_broken_settings_file_is_one_sentence(tmp_path: Path) -> None:
    missing = run("find", "--config", tmp_path / "ca.toml", "--serial", "01")
    assert missing.exit_code == 2
    assert "ca-service init" in missing.stderr
    assert "Traceback" not in missing.stderr
    assert run("no-such-verb").exit_code == 2
    assert run("--version").stdout.startswith("ca-service ")
