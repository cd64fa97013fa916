"""The provider itself: its signing key, its sealed codes and the tokens it signs."""

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

from cryptography.fernet import Fernet, InvalidToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from ca_service.identity.issuers import Issuer, IssuerType
from ca_service.web.dev_idp.single_use import SingleUseRegister

PATH = "/dev-idp"
"""Where the provider lives below the service's URL; `serve` refuses an issuer file that names such a URL."""

CLIENT_ID = "sigstore"
"""The client of signers: public, as the stock Sigstore clients present themselves."""

ADMIN_CLIENT_ID = "ca-service-admin"
"""The client of administrators, unless the settings say otherwise: public too, for `ca-service login`."""

CODE_SECONDS = 60
TOKEN_SECONDS = 600
_ALGORITHM = "RS256"
_KEY_BITS = 2048


@dataclass(frozen=True, slots=True)
class AuthorizationCode:
    """What one login granted, sealed into the code itself so that every worker can read it."""

    identifier: str
    client_id: str
    redirect_uri: str
    scope: str
    nonce: str | None
    code_challenge: str
    code_challenge_method: str
    email: str
    expires: int

    def get_redirect_uri(self) -> str:
        """Give Authlib the address the code was sent to (RFC 6749 §4.1.3)."""
        return self.redirect_uri

    def get_scope(self) -> str:
        """Give Authlib the scope the login was for."""
        return self.scope


class DevIdentityProvider:
    """An identity provider for development; its keys exist only in this process and its forks.

    Made before the workers are forked, so that all of them share the key, the secrets and the register of
    redeemed codes. Nothing of it is ever written to a configuration file.
    """

    def __init__(
        self,
        url: str,
        *,
        admin_client: str = ADMIN_CLIENT_ID,
        admin_audience: str = ADMIN_CLIENT_ID,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take the service's URL (scheme, host and port) and a clock in seconds since 1970.

        `admin_client` is the client by which administrators log in; their tokens are for `admin_audience`.
        """
        self.audiences = {admin_client: admin_audience, CLIENT_ID: CLIENT_ID}
        """Whom a token is for, by the client that a login gave it to."""
        self.url = url.rstrip("/")
        self.issuer_url = self.url + PATH
        self.mint_secret = secrets.token_urlsafe(32)
        self._clock = clock
        self._key = RSAKey.generate_key(_KEY_BITS, private=True)
        self._kid = self._key.thumbprint()
        self._seal = Fernet(Fernet.generate_key())
        self._form_secret = secrets.token_bytes(32)
        self._redeemed = SingleUseRegister()
        address = urlsplit(self.url)
        port = address.port or (443 if address.scheme == "https" else 80)
        names = {address.netloc.rpartition(":")[0] if address.port else address.netloc}
        names |= {"127.0.0.1", "localhost", "[::1]"}
        self.hosts = frozenset(f"{name.lower()}:{port}" for name in names) | (
            frozenset(name.lower() for name in names) if port == 80 else frozenset()
        )
        """The Host headers this provider answers to; any other comes from a rebound DNS name."""

    def issuer(self) -> Issuer:
        """Describe this provider as the issuer file would, so that its tokens are believed."""
        return Issuer(
            issuer_url=self.issuer_url,
            client_id=CLIENT_ID,
            type=IssuerType.EMAIL,
            description="Development identity provider: not for production",
            algorithms=(_ALGORITHM,),
        )

    def jwks(self) -> dict[str, Any]:
        """Give the public half of the signing key as a JWK Set (RFC 7517 §5)."""
        public = self._key.as_dict(private=False)
        return {"keys": [{**public, "kid": self._kid, "use": "sig", "alg": _ALGORITHM}]}

    def metadata(self) -> dict[str, Any]:
        """Give the discovery document (OpenID Connect Discovery 1.0 §3)."""
        return {
            "issuer": self.issuer_url,
            "authorization_endpoint": self.issuer_url + "/authorize",
            "token_endpoint": self.issuer_url + "/token",
            "userinfo_endpoint": self.issuer_url + "/userinfo",
            "jwks_uri": self.issuer_url + "/jwks",
            "scopes_supported": ["openid", "email"],
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [_ALGORITHM],
            "token_endpoint_auth_methods_supported": ["none"],
            "code_challenge_methods_supported": ["S256"],
            "claims_supported": ["iss", "sub", "aud", "exp", "iat", "nonce", "email", "email_verified"],
            "claims_parameter_supported": False,
            "request_parameter_supported": False,
            "request_uri_parameter_supported": False,
        }

    def sign_token(
        self,
        email: str,
        audience: str = CLIENT_ID,
        claims: Mapping[str, Any] | None = None,
        expires_in: int = TOKEN_SECONDS,
    ) -> str:
        """Sign an ID token (compact JWS) for an address, good for `expires_in` seconds; negative: stale.

        `claims` are added and win over the standard ones; a claim given as None is left out. So tests can
        make every token a real provider should not.
        """
        now = int(self._clock())
        merged: dict[str, Any] = {
            "iss": self.issuer_url,
            "sub": email,
            "aud": audience,
            "iat": now,
            "exp": now + expires_in,
            "email": email,
            "email_verified": True,
        } | dict(claims or {})
        present = {name: value for name, value in merged.items() if value is not None}
        header = {"alg": _ALGORITHM, "typ": "JWT", "kid": self._kid}
        return jwt.encode(header, present, self._key, [_ALGORITHM])

    def read_token(self, token: str) -> Mapping[str, Any] | None:
        """Give the claims of a token this provider signed that is still good, else None."""
        try:
            claims: dict[str, Any] = jwt.decode(token, self._key, [_ALGORITHM]).claims
        except (JoseError, ValueError, RecursionError):
            return None
        expires = claims.get("exp")
        return claims if isinstance(expires, int) and expires > self._clock() else None

    def issue_code(
        self,
        *,
        client_id: str,
        email: str,
        redirect_uri: str,
        scope: str,
        nonce: str | None,
        challenge: str,
        method: str,
    ) -> str:
        """Seal what a login granted into an authorization code, good for 60 seconds (RFC 6749 §4.1.2)."""
        now = int(self._clock())
        code = AuthorizationCode(
            identifier=secrets.token_hex(16),
            client_id=client_id,
            redirect_uri=redirect_uri,
            scope=scope,
            nonce=nonce,
            code_challenge=challenge,
            code_challenge_method=method,
            email=email,
            expires=now + CODE_SECONDS,
        )
        return self._seal.encrypt_at_time(json.dumps(asdict(code)).encode(), now).decode()

    def open_code(self, code: str) -> AuthorizationCode | None:
        """Read a code of ours; None when it is foreign, altered or older than 60 seconds."""
        try:
            plain = self._seal.decrypt_at_time(code.encode(), CODE_SECONDS, int(self._clock()))
        except InvalidToken:
            return None
        return AuthorizationCode(**json.loads(plain))

    def redeem(self, code: AuthorizationCode) -> bool:
        """Spend a code; False when any worker spent it before (RFC 6749 §10.5)."""
        now = int(self._clock())
        # One second longer than the seal accepts, so that no rounding leaves a gap between the two.
        return self._redeemed.redeem(bytes.fromhex(code.identifier), now=now, expires=code.expires + 1)

    def form_token(self, visitor: str) -> str:
        """Make the login form's CSRF token for the browser that holds the cookie value `visitor`."""
        return hmac.new(self._form_secret, visitor.encode(), hashlib.sha256).hexdigest()

    def may_mint(self, secret: str) -> bool:
        """Say, in constant time, whether this is the secret of the process that started the provider."""
        return hmac.compare_digest(secret.encode(), self.mint_secret.encode())
