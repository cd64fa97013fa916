"""An OIDC issuer on loopback, with discovery and keys, that signs whatever claims a test wants."""

import base64
import json
import socket
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.support import true_sockets


def b64url(content: bytes) -> str:
    """base64url without padding, as JOSE writes it."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _number(value: int) -> str:
    return b64url(value.to_bytes((value.bit_length() + 7) // 8, "big"))


class LocalIssuer:
    """Serves discovery and JWKS; use as a context manager. Tokens are RS256 with a 2048-bit key."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(65537, 2048)
        issuer = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                documents = {
                    "/.well-known/openid-configuration": issuer.discovery(),
                    "/keys": {"keys": [issuer.jwk()]},
                }
                document = documents.get(self.path)
                body = json.dumps(document).encode()
                self.send_response(404 if document is None else 200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
                pass

        class Server(ThreadingHTTPServer):
            def get_request(self) -> tuple[socket.socket, object]:
                return true_sockets.accept(self.socket)

        self.server = Server(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def discovery(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "jwks_uri": f"{self.url}/keys",
            "id_token_signing_alg_values_supported": ["RS256"],
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
        }

    def jwk(self) -> dict[str, str]:
        numbers = self.key.public_key().public_numbers()
        return {
            "kty": "RSA",
            "kid": "local-1",
            "use": "sig",
            "alg": "RS256",
            "n": _number(numbers.n),
            "e": _number(numbers.e),
        }

    def issuer_file(self) -> str:
        """An issuer file in Fulcio's format that names this issuer with type email."""
        return (
            "oidc-issuers:\n"
            f"  {self.url}:\n"
            f"    issuer-url: {self.url}\n"
            "    client-id: sigstore\n"
            "    type: email\n"
        )

    def token(self, email: str, *, lifetime: int = 3600, claims: Mapping[str, Any] | None = None) -> str:
        """A token for a verified e-mail address; `claims` add to the usual ones or replace them."""
        now = int(time.time())
        return self.sign(
            {
                "iss": self.url,
                "sub": f"sub-of-{email}",
                "aud": "sigstore",
                "iat": now,
                "exp": now + lifetime,
                "email": email,
                "email_verified": True,
                **(claims or {}),
            }
        )

    def sign(self, claims: Mapping[str, Any], header: Mapping[str, Any] | None = None) -> str:
        """The compact JWS over exactly these claims."""
        head = {"alg": "RS256", "kid": "local-1", "typ": "JWT", **(header or {})}
        message = ".".join(b64url(json.dumps(part).encode()) for part in (head, claims))
        signature = self.key.sign(message.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{message}.{b64url(signature)}"


def issuer_file_of(*issuers: LocalIssuer, more: str = "") -> str:
    """One issuer file that names all of them, and `more` entries."""
    tables = (issuer.issuer_file().removeprefix("oidc-issuers:\n") for issuer in issuers)
    return "oidc-issuers:\n" + "".join(tables) + more


POLICY = """
[[issuer_policy]]
issuer = "{issuer}"
algorithms = ["RS256", "ES256"]
required_claims = {{hd = "example.com", groups = ["signers", "release"]}}
allowed_email_domains = ["example.com"]
strict_audience = true
"""
