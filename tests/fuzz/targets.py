"""What is fuzzed: each target takes octets, and may raise a CAError and nothing else."""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp

from ca_service.errors import CAError
from ca_service.identity.issuer_file import parse_issuer_file
from ca_service.identity.policies import IssuerPolicy, restrict
from ca_service.identity.principal import principal_for
from ca_service.oidc.verifier import TokenVerifier
from ca_service.pki.keys import KINDS, read_csr, read_public_key
from ca_service.pki.ocsp import (
    MAX_CERT_IDS,
    CertStatus,
    OcspMalformed,
    SingleAnswer,
    build_response,
    parse_request,
)
from ca_service.web.status import decode_ocsp_path
from tests.support.malformed_ocsp import BODIES, PATHS, Asked
from tests.support.pki import authority, issue
from tests.support.signing import csr_pem, new_key, public_der, public_pem
from tests.unit.oidc.issuer import NOW, b64, jwk, sign

ALLOWED = frozenset(KINDS)
SMALL_KINDS = ("ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "rsa-2048", "ed25519")

OCSP_NOW = 1_790_000_000

HEADER = b'{"alg":"ES256","kid":"k"}'

TYPES = {
    "email": "",
    "uri": "subject-domain: https://uri.example.com",
    "username": "subject-domain: example.com",
    "spiffe": "spiffe-trust-domain: example.com",
    "kubernetes": "",
    "github-workflow": "",
    "chainguard-identity": "",
}


def url_of(issuer_type: str) -> str:
    return f"https://{issuer_type}.example.com"


@dataclass(frozen=True)
class Target:
    """A function to feed, inputs to begin with, and how long one may get."""

    feed: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]
    longest: int


class Tokens:
    """The first octet says what the others are: a whole token, its parts, or claims that are then signed."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        lines = "".join(
            f"  {url_of(name)}:\n    client-id: sigstore\n    type: {name}\n    {more}\n"
            for name, more in TYPES.items()
        )
        required: dict[str, tuple[str | bool | int | float, ...]] = {"groups": ("signers", 1, True)}
        directory = restrict(
            parse_issuer_file(f"oidc-issuers:\n{lines}", "fuzzed"),
            [IssuerPolicy(url_of("username"), required_claims=required)],
        )
        keys = {"keys": [jwk(self.key, "k")]}
        self.verifier = TokenVerifier(
            lambda: directory,
            self.no_fetch,
            lambda: NOW * 1000,
            built_in_keys={url_of(name): keys for name in TYPES},
        )

    def no_fetch(self, url: str, ca_cert: str | None, timeout: float) -> bytes:
        raise AssertionError("every issuer that is known has its keys here")

    def text(self, content: bytes) -> str:
        way, rest = content[:1], content[1:]
        if way == b"1":
            header, _, payload = rest.partition(b"\0")
            return f"{b64(header)}.{b64(payload)}.{b64(b'signature')}"
        if way == b"2":
            message = f"{b64(HEADER)}.{b64(rest)}"
            return f"{message}.{b64(sign(self.key, 'ES256', message.encode()))}"
        return rest.decode("latin-1")

    def feed(self, content: bytes) -> None:
        token = self.text(content)
        try:
            principal = principal_for(self.verifier.verify(token))
        except CAError as refused:
            refused.message.encode()
            return
        # What is let in must be fit for a certificate.
        assert principal.challenges
        assert principal.subject.value
        for text in (principal.subject.value, *principal.extensions.values()):
            text.encode()

    def seeds(self) -> list[bytes]:
        good = {"aud": "sigstore", "exp": NOW + 60, "iat": NOW, "sub": "1", "email": "a@example.com"}
        more: Mapping[str, Mapping[str, object]] = {
            "email": {"email_verified": True},
            "uri": {"sub": "https://uri.example.com/a"},
            "username": {"groups": ["signers"]},
            "spiffe": {"sub": "spiffe://example.com/a"},
            "kubernetes": {"kubernetes.io": {"namespace": "n", "serviceaccount": {"name": "s"}}},
            "github-workflow": {
                "job_workflow_ref": "o/r/.github/workflows/w.yml@refs/heads/main",
                "job_workflow_sha": "c0",
                "event_name": "push",
                "sha": "c0",
                "workflow": "w",
                "repository": "o/r",
                "ref": "refs/heads/main",
                "runner_environment": "github-hosted",
                "repository_id": 1,
                "repository_owner": "o",
                "repository_owner_id": "2",
                "workflow_ref": "o/r/w",
                "workflow_sha": "c0",
                "run_id": 3,
                "run_attempt": 1.0,
                "repository_visibility": "public",
            },
            "chainguard-identity": {},
        }
        claims = [json.dumps({"iss": url_of(name), **good, **more[name]}).encode() for name in TYPES]
        signed = [b"2" + each for each in claims]
        parts = [b"1" + HEADER + b"\0" + each for each in claims]
        return [*signed, *parts, b"0" + self.text(signed[0]).encode(), b"0a.b.c"]


def feed_csr(content: bytes) -> None:
    try:
        key = read_csr(content, ALLOWED)
    except CAError:
        return
    assert key.kind in KINDS
    assert key.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == key.spki


def csr_seeds() -> list[bytes]:
    from cryptography import x509

    pems = [csr_pem(new_key(kind)) for kind in SMALL_KINDS]
    return pems + [x509.load_pem_x509_csr(pem).public_bytes(Encoding.DER) for pem in pems]


def feed_public_key(content: bytes) -> None:
    try:
        key = read_public_key(content, ALLOWED)
    except CAError:
        return
    assert key.kind in KINDS
    assert len(key.key_sha256) == 64


def public_key_seeds() -> list[bytes]:
    keys = [new_key(kind) for kind in SMALL_KINDS]
    return [public_pem(key).encode() for key in keys] + [public_der(key) for key in keys]


def feed_ocsp_request(content: bytes) -> None:
    try:
        asked = parse_request(content)
    except OcspMalformed as refused:
        str(refused).encode()
        return
    # What is let in must be fit for an answer, and the answer for whoever asked.
    assert 1 <= len(asked.cert_ids) <= MAX_CERT_IDS
    # Others are never answered one by one, since no authority is named by them.
    named = [each for each in asked.cert_ids if each.hash_name in hashlib.algorithms_guaranteed]
    answers = [SingleAnswer(each, CertStatus.GOOD, OCSP_NOW, OCSP_NOW) for each in named]
    if not answers:
        return
    ours = build_response(authority(), answers, produced_at=OCSP_NOW, nonce=asked.nonce, archive_cutoff=None)
    assert all(each.der in ours for each in named)
    assert ocsp.load_der_ocsp_response(ours).response_status is ocsp.OCSPResponseStatus.SUCCESSFUL


def feed_ocsp_path(content: bytes) -> None:
    decode_ocsp_path(content.decode("latin-1"))
    feed_ocsp_request(decode_ocsp_path(content.decode("utf-8", "replace")))


def ocsp_seeds() -> list[bytes]:
    asked = Asked(issue().certificate, authority().certificate)
    made = [make(asked) for make, _ in BODIES.values()]
    return [asked.request(), *(each for each in made if 0 < len(each) <= 2048)]


def ocsp_path_seeds() -> list[bytes]:
    paths = [unquote_to_bytes(path) for path, _ in PATHS.values() if 0 < len(path) <= 2048]
    return [*paths, *(base64.b64encode(each) for each in ocsp_seeds())]


def feed_faulty(content: bytes) -> None:
    """A program with a fault, which shows that faults are found."""
    if content.startswith(b"fau") and content[3:4] == b"l":
        raise ValueError("not one of ours")


def targets() -> Mapping[str, Target]:
    """Every target by name."""
    tokens = Tokens()
    return {
        "token": Target(tokens.feed, tokens.seeds, 4096),
        "csr": Target(feed_csr, csr_seeds, 4096),
        "public-key": Target(feed_public_key, public_key_seeds, 2048),
        "ocsp-request": Target(feed_ocsp_request, ocsp_seeds, 2048),
        "ocsp-path": Target(feed_ocsp_path, ocsp_path_seeds, 3072),
        "faulty": Target(feed_faulty, lambda: [b"fau"], 16),
    }
