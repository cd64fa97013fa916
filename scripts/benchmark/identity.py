"""What it costs to know who asks: from a token's octets to a Principal, without the signature's own check."""

import base64
import json
import statistics
import time
from collections.abc import Callable, Sequence

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from ca_service.identity.issuer_file import parse_issuer_file
from ca_service.identity.principal import principal_for
from ca_service.oidc.verifier import TokenVerifier
from scripts.benchmark.plan import Plan, Result, Row

_TOKENS, _ROUNDS = 400, 15
_MOST = {"e-mail": 60.0, "GitHub": 120.0}
"""CPU microseconds that may be spent on each kind of token, beside its signature."""

_EMAIL, _GITHUB = "https://accounts.example.com", "https://token.actions.example.com"
_FILE = f"""
oidc-issuers:
  {_EMAIL}: {{client-id: sigstore, type: email}}
  {_GITHUB}: {{client-id: sigstore, type: github-workflow}}
"""


def _email_claims(number: int) -> dict[str, object]:
    return {
        "iss": _EMAIL,
        "sub": f"10769150350006150715{number}",
        "aud": "sigstore",
        "azp": "sigstore",
        "email": f"signer-{number}@example.com",
        "email_verified": True,
        "at_hash": "HK6E_P6Dh8Y93mRNtsDB1Q",
        "name": "Some Body",
        "picture": "https://example.com/picture",
    }


def _github_claims(number: int) -> dict[str, object]:
    """The claims that GitHub documents for a workflow's token, with values of their usual length."""
    repository, commit = f"example-organization/repository-{number}", f"{number:040x}"
    return {
        "jti": f"example-id-{number}",
        "iss": _GITHUB,
        "sub": f"repo:{repository}:environment:production",
        "aud": "sigstore",
        "environment": "production",
        "environment_node_id": "EN_kwDOB0",
        "ref": "refs/heads/main",
        "ref_protected": "true",
        "ref_type": "branch",
        "sha": commit,
        "repository": repository,
        "repository_id": str(number),
        "repository_owner": "example-organization",
        "repository_owner_id": "65",
        "repository_visibility": "private",
        "run_id": str(1_000_000 + number),
        "run_number": "10",
        "run_attempt": "2",
        "runner_environment": "github-hosted",
        "actor": "octocat",
        "actor_id": "12",
        "workflow": "release",
        "workflow_ref": f"{repository}/.github/workflows/release.yml@refs/heads/main",
        "workflow_sha": commit,
        "head_ref": "",
        "base_ref": "",
        "event_name": "workflow_dispatch",
        "job_workflow_ref": "example-organization/automation/.github/workflows/release.yml@refs/heads/main",
        "job_workflow_sha": commit,
    }


def identity(_plan: Plan) -> Result:
    """CPU from token to Principal, minus the bare RS256 check of the same tokens; no server takes part."""
    key = rsa.generate_private_key(65537, 2048)
    verifier = TokenVerifier(lambda: directory, _fetch(key), lambda: time.time_ns() // 1_000_000)
    directory = parse_issuer_file(_FILE, "bench")
    rows = []
    for kind, claims in (("e-mail", _email_claims), ("GitHub", _github_claims)):
        tokens = [_signed(key, claims(number)) for number in range(_TOKENS)]
        whole, signature = _measure(
            tokens, lambda token: principal_for(verifier.verify(token)), _bare_check(key)
        )
        most = _MOST[kind]
        rows += [
            Row(f"{kind}: token to Principal", whole, "µs CPU"),
            Row(f"{kind}: bare RS256 check", signature, "µs CPU"),
            Row(f"{kind}: all but that", whole - signature, "µs CPU", (whole - signature) / most),
            Row(f"{kind}: at most", most, "µs CPU", 1.0),
        ]
    return Result("identity: from token to Principal, without the signature's check", rows)


def _measure(
    tokens: Sequence[str], whole: Callable[[str], object], bare: Callable[[str], object]
) -> tuple[float, float]:
    """CPU microseconds for one token of each, turn by turn, so that both meet the machine at one speed."""
    taken: dict[Callable[[str], object], list[float]] = {whole: [], bare: []}
    for _ in range(_ROUNDS):
        for operation, rounds in taken.items():
            before = time.process_time()
            for token in tokens:
                operation(token)
            rounds.append((time.process_time() - before) / len(tokens) * 1e6)
    return statistics.median(taken[whole]), statistics.median(taken[bare])


def _bare_check(key: rsa.RSAPrivateKey) -> Callable[[str], object]:
    """Verify the signature of a token that was taken apart before."""
    public, apart = key.public_key(), dict[str, tuple[bytes, bytes]]()
    scheme, digest = padding.PKCS1v15(), hashes.SHA256()

    def check(token: str) -> object:
        if token not in apart:
            message, _, signature = token.rpartition(".")
            apart[token] = message.encode(), base64.urlsafe_b64decode(signature + "==")
        message_octets, signature_octets = apart[token]
        return public.verify(signature_octets, message_octets, scheme, digest)

    return check


def _fetch(key: rsa.RSAPrivateKey) -> Callable[[str, str | None, float], bytes]:
    numbers = key.public_key().public_numbers()
    n, e = (_b64(value.to_bytes((value.bit_length() + 7) // 8, "big")) for value in (numbers.n, numbers.e))
    jwk = {"kty": "RSA", "kid": "bench", "use": "sig", "alg": "RS256", "n": n, "e": e}

    def fetch(url: str, _ca_cert: str | None, _timeout: float) -> bytes:
        issuer = url.removesuffix("/.well-known/openid-configuration")
        return json.dumps(
            {"keys": [jwk]} if issuer == url else {"issuer": issuer, "jwks_uri": f"{issuer}/keys"}
        ).encode()

    return fetch


def _signed(key: rsa.RSAPrivateKey, claims: dict[str, object]) -> str:
    now = int(time.time())
    header = {"typ": "JWT", "alg": "RS256", "kid": "bench"}
    payload = {**claims, "nbf": now - 300, "iat": now, "exp": now + 3600}
    message = ".".join(_b64(json.dumps(part, separators=(",", ":")).encode()) for part in (header, payload))
    return f"{message}.{_b64(key.sign(message.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def _b64(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
