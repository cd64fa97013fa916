"""Stock sigstore-js signs with the service; both stock clients accept each other's bundles."""

import subprocess
from pathlib import Path

import pytest
from sigstore.models import Bundle, ClientTrustConfig
from sigstore.oidc import IdentityToken
from sigstore.sign import SigningContext
from sigstore.verify import Verifier, policy

from tests.support.processes import RunningService, environment
from tests.support.rekor import LocalRekor
from tests.support.tokens import TokenDesk

JS = Path(__file__).parent / "js"


def node(script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["node", JS / script, *arguments],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    path = tmp_path / "artifact.bin"
    path.write_bytes(bytes(range(256)))
    return path


def sign_with_js(service: RunningService, rekor: LocalRekor, token: str, artifact: Path) -> Path:
    token_file, bundle = artifact.with_suffix(".token"), artifact.with_suffix(".js.json")
    token_file.write_text(token)
    done = node("sign.mjs", service.url, rekor.url, token_file, artifact, bundle)
    assert done.returncode == 0, done.stderr
    return bundle


def verify_with_js(trust: Path, bundle: Path, artifact: Path, email: str, issuer: str) -> str:
    done = node("verify.mjs", trust / "trusted_root.json", bundle, artifact, email, issuer)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout.strip() if done.returncode == 0 else done.stderr.strip()


def test_it_signs_and_verifies_with_our_trusted_root(
    service: RunningService, rekor: LocalRekor, tokens: TokenDesk, trust: Path, artifact: Path
) -> None:
    email, issuer = "js@example.com", f"{service.url}/dev-idp"
    bundle = sign_with_js(service, rekor, tokens.token(email), artifact)
    assert verify_with_js(trust, bundle, artifact, email, issuer) == email
    assert verify_with_js(trust, bundle, artifact, "other@example.com", issuer).startswith("UNTRUSTED_SIGNER")
    assert verify_with_js(trust, bundle, artifact, email, "https://other.example").startswith(
        "UNTRUSTED_SIGNER"
    )
    artifact.write_bytes(b"changed")
    assert verify_with_js(trust, bundle, artifact, email, issuer).startswith("SIGNATURE_ERROR")


def test_python_accepts_what_js_signed(
    service: RunningService, rekor: LocalRekor, tokens: TokenDesk, trust: Path, artifact: Path
) -> None:
    email = "js-to-python@example.com"
    bundle = sign_with_js(service, rekor, tokens.token(email), artifact)
    config = ClientTrustConfig.from_json((trust / "client_trust_config.json").read_text())
    Verifier(trusted_root=config.trusted_root).verify_artifact(
        artifact.read_bytes(),
        Bundle.from_json(bundle.read_text()),
        policy.Identity(identity=email, issuer=f"{service.url}/dev-idp"),
    )


def test_js_accepts_what_python_signed(
    service: RunningService, tokens: TokenDesk, trust: Path, artifact: Path
) -> None:
    email = "python-to-js@example.com"
    config = ClientTrustConfig.from_json((trust / "client_trust_config.json").read_text())
    with SigningContext.from_trust_config(config).signer(IdentityToken(tokens.token(email))) as signer:
        bundle = artifact.with_suffix(".py.json")
        bundle.write_text(signer.sign_artifact(artifact.read_bytes()).to_json())
    assert verify_with_js(trust, bundle, artifact, email, f"{service.url}/dev-idp") == email


def test_it_shows_why_the_service_refused(
    service: RunningService, rekor: LocalRekor, tokens: TokenDesk, artifact: Path
) -> None:
    token_file = artifact.with_suffix(".token")
    token_file.write_text(tokens.mint("refused@example.com", audience="another-service"))
    done = node("sign.mjs", service.url, rekor.url, token_file, artifact, artifact.with_suffix(".json"))
    assert done.returncode != 0
    assert "another-service" in done.stderr
