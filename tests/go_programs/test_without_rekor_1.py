"""Signatures whose time a timestamp authority tells: with Rekor 2, and in no log of signatures at all."""

import json
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.conformance.test_sigstore_python import sigstore
from tests.go_programs.conftest import Outside, Signer
from tests.support.processes import succeed, wait_until

EMAIL = "timestamped@example.com"


def ok(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stdout + done.stderr


def signed(cosign: Signer, artifact: Path) -> Path:
    bundle = artifact.with_suffix(".bundle")
    ok(cosign.sign("sign-blob", "--bundle", bundle, artifact, token=cosign.tokens.token(EMAIL)))
    return bundle


def test_rekor_2_with_a_timestamp_authority(
    cosign_3: Signer, rekor_2: Outside, tsa: Outside, tmp_path: Path
) -> None:
    """cosign and sigstore-python sign, and each accepts what either signed."""
    trust = tmp_path / "trust"
    cosign_3.service.admin("export-trust", "--out", trust, "--rekor-v2", str(rekor_2), "--tsa", str(tsa))
    cosign = replace(cosign_3, trust=trust)
    artifact = tmp_path / "artifact"
    artifact.write_text("first")
    signed(cosign, artifact)  # cosign leaves index 0 out of its bundle, and sigstore-python then refuses it
    artifact.write_text("an artifact")
    by_python = tmp_path / "python.json"
    token = cosign.tokens.token(EMAIL)
    ok(sigstore(trust, "sign", "--bundle", by_python, artifact, token=token))
    for bundle in (signed(cosign, artifact), by_python):
        ok(cosign.verify("verify-blob", EMAIL, "--bundle", bundle, artifact))
        named = ("--cert-identity", EMAIL, "--cert-oidc-issuer", cosign.issuer)
        ok(sigstore(trust, "verify", "identity", "--bundle", bundle, *named, artifact))


def test_a_timestamp_authority_alone(cosign_3: Signer, tsa: Outside, tmp_path: Path) -> None:
    trust = tmp_path / "trust"
    cosign_3.service.admin("export-trust", "--out", trust, "--tsa", str(tsa))
    cosign = replace(cosign_3, trust=trust)
    artifact = tmp_path / "artifact"
    artifact.write_text("an artifact in no log")
    bundle = signed(cosign, artifact)
    assert cosign.verify("verify-blob", EMAIL, "--bundle", bundle, artifact).returncode != 0
    alone = ("--insecure-ignore-tlog", "--use-signed-timestamps")
    ok(cosign.verify("verify-blob", EMAIL, *alone, "--bundle", bundle, artifact))
    date = datetime.now(UTC) + timedelta(seconds=1)
    assert "does not count" not in succeed("status", bundle, "--trust", trust)
    wait_until(lambda: datetime.now(UTC) > date, 10, "a moment after the signature")
    revoke = ("revoke", "certificate", bundle, "--reason", "keyCompromise", "--revocation-date")
    cosign.service.admin(*revoke, date.isoformat())
    told = json.loads(succeed("status", bundle, "--trust", trust, "--json"))
    assert (told["status"], told["at"]["source"], told["at"]["counts"]) == ("revoked", "tsa", True)
    artifact.write_text("another")
    assert cosign.verify("verify-blob", EMAIL, *alone, "--bundle", bundle, artifact).returncode != 0
