"""cosign signs files and images with the service, verifies them, and says what the service says."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ca_service.cli.signature_files import read_signature_file
from tests.go_programs.conftest import Finished, Signer
from tests.support.administration import log_in_at_dev_idp
from tests.support.processes import invoke, succeed, wait_until

INSECURE = "--allow-insecure-registry"  # the registry on loopback speaks plain HTTP


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    path = tmp_path / "artifact.bin"
    path.write_bytes(os.urandom(256))
    return path


def done(finished: Finished) -> str:
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def address(signer: Signer, name: str) -> str:
    return f"{name}-{signer.generation}-{time.time_ns()}@example.com"


def signed_blob(signer: Signer, email: str, artifact: Path) -> Path:
    bundle = artifact.with_suffix(".bundle")
    done(signer.sign("sign-blob", "--bundle", bundle, artifact, token=signer.tokens.token(email)))
    return bundle


def test_a_file_is_signed_and_verified(signer: Signer, artifact: Path) -> None:
    email = address(signer, "file")
    bundle = signed_blob(signer, email, artifact)
    assert "Verified OK" in signer.verify("verify-blob", email, "--bundle", bundle, artifact).stderr
    other = signer.verify("verify-blob", "other@example.com", "--bundle", bundle, artifact)
    assert other.returncode != 0
    assert email in other.stderr
    elsewhere = signer.verify(
        "verify-blob", email, "--bundle", bundle, artifact, issuer="https://other.example"
    )
    assert elsewhere.returncode != 0
    artifact.write_bytes(b"changed")
    assert signer.verify("verify-blob", email, "--bundle", bundle, artifact).returncode != 0


def test_an_image_is_signed_and_verified_and_its_status_told(
    signer: Signer, image: Callable[[str], str], tmp_path: Path
) -> None:
    email, reference = address(signer, "image"), image(f"app{signer.generation}")
    done(signer.sign("sign", INSECURE, reference, token=signer.tokens.token(email)))
    verified = done(signer.verify("verify", email, INSECURE, reference))
    assert json.loads(verified)[0]["critical"]["image"]["docker-manifest-digest"] == reference.split("@")[1]
    assert signer.verify("verify", "other@example.com", INSECURE, reference).returncode != 0

    downloaded = tmp_path / "signature.json"
    downloaded.write_text(done(signer.run("download", "signature", INSECURE, reference)))
    told = succeed("status", downloaded, "--trust", signer.trust)
    assert ": good" in told
    assert "a signature made at " in told
    succeed("verify-inclusion", downloaded, "--trust", signer.trust)


def test_an_attestation_is_signed_and_verified(
    signer: Signer, image: Callable[[str], str], tmp_path: Path
) -> None:
    email, reference = address(signer, "attestation"), image(f"attested{signer.generation}")
    predicate = tmp_path / "predicate.json"
    predicate.write_text('{"built": "here"}')
    kind = ("--type", "custom")
    token = signer.tokens.token(email)
    done(signer.sign("attest", INSECURE, "--predicate", predicate, *kind, reference, token=token))
    done(signer.verify("verify-attestation", email, INSECURE, *kind, reference))


def test_one_signature_is_taken_back_and_the_next_one_holds(signer: Signer, tmp_path: Path) -> None:
    """cosign does not ask; `ca-service status`, beside it as the how-to says, does."""
    email = address(signer, "revoked")
    files = [tmp_path / "one", tmp_path / "two"]
    for file in files:
        file.write_text(file.name)
    one, two = [signed_blob(signer, email, file) for file in files]
    signer.service.admin("revoke", "certificate", one, "--reason", "keyCompromise")
    done(signer.verify("verify-blob", email, "--bundle", one, files[0]))
    states = [invoke("status", bundle, "--trust", signer.trust) for bundle in (one, two)]
    assert [state.returncode for state in states] == [1, 0]
    assert ": revoked" in states[0].stdout
    assert "does not count" in states[0].stdout


@pytest.mark.parametrize(
    ("claims", "audience", "expires_in", "said"),
    [
        ({}, "other", 600, 'the token\'s audience is "other"; expected "sigstore"'),
        ({}, "sigstore", -600, "the token expired at "),
        ({"email": "blocked@example.com"}, "sigstore", 600, "this identity gets no certificates: block "),
    ],
    ids=["audience", "expired", "blocked"],
)
def test_it_shows_its_user_what_the_service_says(
    signer: Signer, artifact: Path, claims: dict[str, str], audience: str, expires_in: int, said: str
) -> None:
    signer.service.admin("block", "--identity", "blocked@example.com", "--reason", "keyCompromise")
    token = signer.tokens.mint(
        address(signer, "refused"), audience=audience, claims=claims, expires_in=expires_in
    )
    refused = signer.sign("sign-blob", "--bundle", artifact.with_suffix(".no"), artifact, token=token)
    assert refused.returncode != 0
    assert said in refused.stderr.replace("\\", "")


def test_it_gets_a_token_by_the_browser(signer: Signer, artifact: Path) -> None:
    opened, folder = artifact.with_name("opened"), artifact.parent
    for name in ("xdg-open", "x-www-browser", "www-browser"):
        browser = folder / name
        browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {opened}.part && mv {opened}.part {opened}\n')
        browser.chmod(0o755)
    email, bundle = address(signer, "browser"), artifact.with_suffix(".bundle")
    environ = signer.environ()
    # The how-to's line without a token: where there is a terminal, cosign asks by the browser.
    signing = subprocess.Popen(
        [
            *(signer.program, "sign-blob", "--yes", "--fulcio-auth-flow", "normal"),
            *("--fulcio-url", signer.service.url, "--rekor-url", signer.rekor.url),
            *("--oidc-issuer", signer.issuer, "--oidc-client-id", "sigstore", "--bundle", bundle),
            *([] if signer.generation == 2 else ["--use-signing-config=false", *signer.believing()]),
            artifact,
        ],
        env=environ | {"PATH": f"{folder}:{environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with signing:
        try:
            wait_until(opened.exists, 60, "the browser")
            assert log_in_at_dev_idp(opened.read_text(), email).status_code == 200
            said, _ = signing.communicate(timeout=60)
        finally:
            signing.kill()
    assert signing.returncode == 0, said
    done(signer.verify("verify-blob", email, "--bundle", bundle, artifact))


def test_what_is_recorded_for_the_unit_tests_is_what_it_writes(
    signer: Signer, artifact: Path, image: Callable[[str], str]
) -> None:
    if signer.generation == 3:  # it writes Sigstore bundles alone
        bundle = json.loads(signed_blob(signer, address(signer, "form"), artifact).read_text())
        assert bundle["mediaType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
        return
    recorded = Path(__file__).parents[1] / "vectors" / "cosign"
    email = address(signer, "form")
    bundle_file = signed_blob(signer, email, artifact)
    written = json.loads(bundle_file.read_text())
    assert set(written) == set(json.loads((recorded / "bundle.json").read_text()))
    file = artifact.with_suffix(".cert")
    token = signer.tokens.token(email)
    done(signer.sign("sign-blob", "--output-certificate", file, artifact, token=token))
    assert file.read_bytes().startswith((recorded / "certificate.base64").read_bytes()[:32])
    assert read_signature_file(file.read_bytes()).bundle is None
    reference = image("form")
    done(signer.sign("sign", INSECURE, reference, token=signer.tokens.token(email)))
    downloaded = json.loads(done(signer.run("download", "signature", INSECURE, reference)))
    assert set(downloaded) == set(json.loads((recorded / "downloaded.json").read_text()))
