"""Stock sigstore-python gets certificates, checks SCT and chain, and completes sign and verify."""

import subprocess
import sys
from pathlib import Path

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from sigstore._internal.fulcio.client import FulcioClient, FulcioClientError
from sigstore._internal.sct import verify_sct
from sigstore._internal.trust import KeyringPurpose
from sigstore.models import Bundle, ClientTrustConfig
from sigstore.oidc import IdentityToken
from sigstore.sign import SigningContext
from sigstore.verify import Verifier, policy

from tests.support.processes import RunningService, environment
from tests.support.signing import KINDS, csr_pem, issue, new_key
from tests.support.tokens import TokenDesk

SIGSTORE = Path(sys.executable).parent / "sigstore"


@pytest.fixture(scope="module")
def trust_config(trust: Path) -> ClientTrustConfig:
    return ClientTrustConfig.from_json((trust / "client_trust_config.json").read_text())


def sigstore(trust: Path, *arguments: str | Path, token: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SIGSTORE, "--trust-config", trust / "client_trust_config.json", *arguments],
        env=environment({"SIGSTORE_IDENTITY_TOKEN": token} if token else {}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_its_fulcio_client_gets_a_certificate_whose_sct_its_own_code_accepts(
    service: RunningService, tokens: TokenDesk, trust_config: ClientTrustConfig
) -> None:
    token = IdentityToken(tokens.token("fulcio-client@example.com"))
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    client = FulcioClient(service.url)
    answer = client.signing_cert.post(request, token)
    assert answer.cert.public_key() == key.public_key()
    verify_sct(answer.cert, answer.chain, trust_config.trusted_root.ct_keyring(KeyringPurpose.SIGN))
    assert client.trust_bundle.get().trust_bundle == [answer.chain]
    assert trust_config.trusted_root.get_fulcio_certs() == answer.chain


@pytest.mark.parametrize("kind", KINDS)
def test_the_sct_of_every_listed_key_kind_is_accepted(
    service: RunningService,
    tokens: TokenDesk,
    trust_config: ClientTrustConfig,
    session: requests.Session,
    kind: str,
) -> None:
    email = "every-kind@example.com"
    issued = issue(session, service.url, tokens.token(email), email, new_key(kind))
    keyring = trust_config.trusted_root.ct_keyring(KeyringPurpose.SIGN)
    verify_sct(issued.leaf, list(issued.chain[1:]), keyring)


def test_its_library_signs_and_verifies(
    tokens: TokenDesk, service: RunningService, trust_config: ClientTrustConfig
) -> None:
    email = "library@example.com"
    with SigningContext.from_trust_config(trust_config).signer(IdentityToken(tokens.token(email))) as signer:
        bundle = signer.sign_artifact(b"an artifact")
    issuer = f"{service.url}/dev-idp"
    verifier = Verifier(trusted_root=trust_config.trusted_root)
    verifier.verify_artifact(b"an artifact", bundle, policy.Identity(identity=email, issuer=issuer))
    again = Bundle.from_json(bundle.to_json())
    with pytest.raises(Exception, match="SANs do not match"):
        verifier.verify_artifact(b"an artifact", again, policy.Identity(identity="other@example.com"))


def test_its_command_signs_and_verifies(
    trust: Path, tokens: TokenDesk, service: RunningService, tmp_path: Path
) -> None:
    email = "command@example.com"
    artifact = tmp_path / "artifact.txt"
    artifact.write_text("hello\n")
    signed = sigstore(trust, "sign", artifact, token=tokens.token(email))
    assert signed.returncode == 0, signed.stderr
    about = ("--cert-identity", email, "--cert-oidc-issuer", f"{service.url}/dev-idp")
    verified = sigstore(trust, "verify", "identity", artifact, *about)
    assert verified.returncode == 0, verified.stderr
    artifact.write_text("hello!\n")
    assert sigstore(trust, "verify", "identity", artifact, *about).returncode != 0


def test_its_refusal_shows_our_sentence_because_the_reason_phrase_carries_it(
    service: RunningService, tokens: TokenDesk
) -> None:
    wrong = tokens.mint("somebody@example.com", audience="another-service")
    request = x509.load_pem_x509_csr(csr_pem(new_key()))
    client = FulcioClient(service.url)
    with pytest.raises(FulcioClientError) as refused:
        # Its own IdentityToken would refuse the audience before asking; the wire form is what counts here.
        client.signing_cert.post(request, wrong)  # type: ignore[arg-type]
    assert "aud" in str(refused.value.__cause__)
