"""An identity provider without a network: it signs what a test wants, and counts what is fetched of it."""

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from ca_service.errors import IssuerUnavailable
from ca_service.identity.issuer_file import parse_issuer_file
from ca_service.identity.issuers import IssuerDirectory
from ca_service.oidc import discovery

URL = "https://idp.example.com"
NOW = 1_800_000_000
_HASHES = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def b64(content: bytes) -> str:
    """base64url without padding (RFC 7515 §2)."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def number(value: int, size: int | None = None) -> str:
    """An integer as JWK members have it (RFC 7518 §2)."""
    return b64(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))


def jwk(key: Key, kid: str, **members: object) -> dict[str, Any]:
    """The public half as a JWK."""
    public = key.public_key()
    described: dict[str, Any]
    if isinstance(public, rsa.RSAPublicKey):
        numbers = public.public_numbers()
        described = {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e)}
    elif isinstance(public, ec.EllipticCurvePublicKey):
        size = (public.key_size + 7) // 8
        point = public.public_numbers()
        described = {
            "kty": "EC",
            "crv": f"P-{public.key_size}",
            "x": number(point.x, size),
            "y": number(point.y, size),
        }
    else:
        described = {"kty": "OKP", "crv": "Ed25519", "x": b64(public.public_bytes_raw())}
    return {**described, "kid": kid, **members}


def sign(key: Key, algorithm: str, message: bytes) -> bytes:
    """A JWS signature (RFC 7518 §3, RFC 8037 §3.1)."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(message)
    digest = _HASHES[algorithm[2:]]
    if isinstance(key, rsa.RSAPrivateKey):
        if algorithm.startswith("PS"):
            return key.sign(message, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
        return key.sign(message, padding.PKCS1v15(), digest)
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(digest)))
    size = (key.key_size + 7) // 8
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


class Provider:
    """An issuer whose documents are handed out by `fetch`; change its members to make it misbehave."""

    def __init__(self, url: str = URL) -> None:
        self.url = url
        self.now = NOW
        self.key: Key = ec.generate_private_key(ec.SECP256R1())
        self.algorithm = "ES256"
        self.kid = "first"
        self.published: list[dict[str, Any]] = [jwk(self.key, self.kid)]
        self.discovery: dict[str, Any] = {"issuer": url, "jwks_uri": f"{url}/keys"}
        self.fetched: list[str] = []
        self.down = False
        self.before_answer: Callable[[], None] = lambda: None

    def clock(self) -> int:
        """Milliseconds since 1970; set `now` (seconds) to let time pass."""
        return self.now * 1000

    def fetch(self, url: str, ca_cert: str | None, timeout: float) -> bytes:
        """What the verifier gets instead of a network."""
        assert 0 < timeout <= discovery.FETCH_SECONDS
        self.fetched.append(url)
        self.before_answer()
        if self.down:
            raise IssuerUnavailable("the connection failed", retry_after=10, cause="unreachable")
        if url == f"{self.url}/.well-known/openid-configuration":
            return json.dumps(self.discovery).encode()
        assert url == self.discovery["jwks_uri"], url
        return json.dumps({"keys": self.published}).encode()

    def rotate(self, kid: str) -> None:
        """Sign with a new key from now on, and publish it alone."""
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.kid = kid
        self.published = [jwk(self.key, kid)]

    def claims(self, **claims: object) -> dict[str, object]:
        """The claims of a good token; None takes one out."""
        good: dict[str, object] = {
            "iss": self.url,
            "aud": "sigstore",
            "sub": "1234",
            "email": "someone@example.com",
            "email_verified": True,
            "iat": self.now,
            "exp": self.now + 600,
        }
        return {name: value for name, value in {**good, **claims}.items() if value is not None}

    def token(self, header: Mapping[str, object] | None = None, /, **claims: object) -> str:
        """A signed token; `header` members of None are left out."""
        return self.signed(json.dumps(self.claims(**claims)).encode(), header)

    def signed(self, payload: bytes, header: Mapping[str, object] | None = None) -> str:
        """A signed token over these very octets."""
        head = {"alg": self.algorithm, "kid": self.kid, "typ": "JWT", **(header or {})}
        members = {name: value for name, value in head.items() if value is not None}
        message = f"{b64(json.dumps(members).encode())}.{b64(payload)}"
        return f"{message}.{b64(sign(self.key, self.algorithm, message.encode()))}"


def directory(*lines: str, url: str = URL, type_: str = "email") -> IssuerDirectory:
    """A directory with one issuer; `lines` are further members of it."""
    members = "".join(f"\n    {line}" for line in lines)
    return parse_issuer_file(
        f"oidc-issuers:\n  {url}:\n    client-id: sigstore\n    type: {type_}{members}\n", "issuers.yaml"
    )
