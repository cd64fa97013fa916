"""What a revocation means for a signature of some moment, and whose word about that moment counts."""

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ca_service.cli import revocation_check, verdicts
from ca_service.errors import StatusUnanswered
from ca_service.pki.sct import log_id_of
from tests.unit.cli.conftest import Host, run


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def rekor_entry(
    host: Host, key: ec.EllipticCurvePrivateKey, moment: datetime, *, about: bytes | None = None
) -> Mapping[str, Any]:
    """An entry of a Rekor with this key, as bundles carry it."""
    pem = host.leaf.public_bytes(Encoding.PEM) if about is None else about
    body = b64(json.dumps({"kind": "dsse", "spec": {"signatures": [{"verifier": b64(pem)}]}}).encode())
    log_id, seconds = log_id_of(key.public_key()), int(moment.timestamp())
    signed = {"body": body, "integratedTime": seconds, "logID": log_id.hex(), "logIndex": 7}
    message = json.dumps(signed, sort_keys=True, separators=(",", ":")).encode()
    return {
        "logIndex": "7",
        "logId": {"keyId": b64(log_id)},
        "integratedTime": str(seconds),
        "inclusionPromise": {"signedEntryTimestamp": b64(key.sign(message, ec.ECDSA(SHA256())))},
        "canonicalizedBody": body,
    }


def write_bundle(host: Host, folder: Path, entry: Mapping[str, Any]) -> Path:
    raw = {"rawBytes": b64(host.leaf.public_bytes(Encoding.DER))}
    bundle = {"mediaType": "x", "verificationMaterial": {"certificate": raw, "tlogEntries": [entry]}}
    (folder / "bundle.json").write_text(json.dumps(bundle))
    return folder / "bundle.json"


@pytest.fixture
def rekor() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def trust(host: Host, tmp_path: Path, rekor: ec.EllipticCurvePrivateKey) -> Path:
    """Trust files with the key of that Rekor."""
    key = tmp_path / "rekor.pub"
    key.write_bytes(rekor.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    done = run(
        *("export-trust", "--config", host.config, "--out", tmp_path / "trust"),
        *("--rekor", f"http://rekor.example={key}"),
    )
    assert done.exit_code == 0, done.output
    return tmp_path / "trust"


def revoke_from(host: Host, moment: datetime) -> None:
    done = run(
        "revoke", "certificate", host.serial, "--config", host.config, "--revocation-date", moment.isoformat()
    )
    assert done.exit_code == 0, done.output


def at(host: Host, moment: datetime | str) -> tuple[int, dict[str, Any]]:
    text = moment if isinstance(moment, str) else moment.isoformat()
    done = run("status", host.leaf_file, "--config", host.config, "--at", text, "--json")
    assert done.exit_code in (0, 1), done.output
    return done.exit_code, json.loads(done.stdout)


def test_a_signature_counts_when_it_is_older_than_the_revocation_date(host: Host) -> None:
    begins = host.leaf.not_valid_before_utc
    code, facts = at(host, begins)
    assert (code, facts["status"], facts["at"]["counts"], facts["at"]["source"]) == (0, "good", True, "given")
    date = datetime.now(UTC).replace(microsecond=0)
    revoke_from(host, date)
    code, facts = at(host, date)
    assert (code, facts["status"], facts["at"]["counts"]) == (1, "revoked", False)
    if date > begins:
        code, facts = at(host, date - timedelta(seconds=1))
        assert (code, facts["status"], facts["at"]["counts"]) == (0, "revoked", True)
        assert "openssl" in facts["at"]["meaning"]


def test_a_moment_out_of_the_certificates_life_never_counts(host: Host) -> None:
    code, facts = at(host, host.leaf.not_valid_before_utc - timedelta(seconds=1))
    assert (code, facts["status"], facts["at"]["counts"]) == (1, "good", False)
    assert "was not valid at" in facts["at"]["meaning"]


def test_of_the_future_nothing_is_said(host: Host) -> None:
    for moment in ("2099-01-01", "soon"):
        assert run("status", host.leaf_file, "--config", host.config, "--at", moment).exit_code == 2


def test_the_time_of_a_bundle_counts_when_its_rekor_signed_it(
    host: Host, tmp_path: Path, rekor: ec.EllipticCurvePrivateKey, trust: Path
) -> None:
    begins = host.leaf.not_valid_before_utc
    bundle = write_bundle(host, tmp_path, rekor_entry(host, rekor, begins))
    good = run("status", bundle, "--trust", trust)
    assert good.exit_code == 0, good.output
    assert f"a signature made at {begins:%Y-%m-%dT%H:%M:%SZ} counts" in good.stdout
    revoke_from(host, begins)
    revoked = run("status", bundle, "--trust", trust, "--json")
    assert revoked.exit_code == 1
    facts = json.loads(revoked.stdout)
    assert (facts["at"]["source"], facts["at"]["counts"]) == ("rekor", False)


@pytest.mark.parametrize(
    "doubt", ["no trust", "another key", "another time", "another certificate", "nonsense"]
)
def test_a_time_that_nobody_signed_is_shown_and_decides_nothing(
    host: Host, tmp_path: Path, rekor: ec.EllipticCurvePrivateKey, trust: Path, doubt: str
) -> None:
    begins = host.leaf.not_valid_before_utc
    entry = dict(rekor_entry(host, rekor, begins))
    believed: tuple[str | Path, ...] = ("--trust", trust)
    if doubt == "no trust":
        believed = ("--config", host.config)
    elif doubt == "another key":
        entry = dict(rekor_entry(host, ec.generate_private_key(ec.SECP256R1()), begins))
    elif doubt == "another time":
        entry["integratedTime"] = str(int(begins.timestamp()) - 1)
    elif doubt == "another certificate":
        root = host.service.authorities.issuing().root.public_bytes(Encoding.PEM)
        entry = dict(rekor_entry(host, rekor, begins, about=root))
    else:
        entry["inclusionPromise"] = ["?"]
    bundle = write_bundle(host, tmp_path, entry)
    shown = run("status", bundle, *believed, "--json")
    assert shown.exit_code == 0, shown.output
    facts = json.loads(shown.stdout)
    assert facts["at"]["source"] == "bundle"
    assert any("stolen key" in remark for remark in facts["remarks"])
    # Revoked it is revoked, however early somebody says that the signature was made.
    revoke_from(host, datetime.now(UTC).replace(microsecond=0))
    assert run("status", bundle, *believed).exit_code == 1


def test_good_is_not_believed_of_one_who_may_have_forgotten_what_expired(host: Host) -> None:
    issuing = host.service.authorities.issuing().certificate
    asked = revocation_check.question_of(host.leaf, issuing)
    long_ago = verdicts.Question(
        asked.serial, asked.issuer, asked.ocsp_url, asked.crl_url, datetime(2001, 1, 1, tzinfo=UTC)
    )
    with pytest.raises(StatusUnanswered, match="still knows"):
        revocation_check.ask(long_ago, datetime.now(UTC))
    assert revocation_check.ask(asked, datetime.now(UTC)).status == "good"
