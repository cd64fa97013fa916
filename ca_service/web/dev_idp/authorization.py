"""Authlib's authorization server, set to what the stock Sigstore clients send and no looser."""

import re
from collections.abc import Callable
from typing import Any

from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import ClientMixin, InvalidClientError, InvalidGrantError, InvalidRequestError
from authlib.oauth2.rfc6749.grants import AuthorizationCodeGrant
from authlib.oauth2.rfc6750 import BearerTokenGenerator
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oidc.core.grants import OpenIDCode
from flask import request as http_request

from ca_service.web.dev_idp.provider import CLIENT_ID, TOKEN_SECONDS, AuthorizationCode, DevIdentityProvider

OUT_OF_BAND = "urn:ietf:wg:oauth:2.0:oob"
"""The redirect URI of a client without a browser at hand: the code is shown, and the person types it over."""

# Matched as text, not parsed: parsers disagree on what "http://localhost\@example.com" names.
_LOOPBACK = re.compile(
    r"(?P<origin>http://(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]{1,5})?)"
    r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?(?:\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?"
)


def loopback_origin(redirect_uri: str) -> str | None:
    """Give scheme, host and port of a redirect URI on this machine, None for any other (RFC 8252 §7.3)."""
    matched = _LOOPBACK.fullmatch(redirect_uri)
    return matched["origin"] if matched else None


class PublicClient(ClientMixin):  # type: ignore[misc]  # Authlib ships no types
    """The client every Sigstore tool presents itself as, or that of administrators: without a secret."""

    def __init__(self, client_id: str) -> None:
        """Take the client's name."""
        self._client_id = client_id

    def get_client_id(self) -> str:
        """Give the client's name."""
        return self._client_id

    def get_default_redirect_uri(self) -> None:
        """Have none: the redirect URI must be said (RFC 8252 §8.4)."""
        return

    def get_allowed_scope(self, scope: str | None) -> str | None:
        """Keep the scopes known here; None, which refuses the request, without `openid`."""
        known = [word for word in (scope or "").split() if word in ("openid", "email")]
        return " ".join(known) if "openid" in known else None

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        """Accept loopback addresses on any port and the out-of-band URN, else raise InvalidRequestError."""
        if redirect_uri == OUT_OF_BAND or loopback_origin(redirect_uri):
            return True
        # Raised here because Authlib would quote the address, and fails on characters it may not quote.
        raise InvalidRequestError(
            "redirect_uri is not on this machine; expected http://localhost, http://127.0.0.1 or http://[::1]"
            f" with any port, or {OUT_OF_BAND}"
        )

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:  # noqa: ARG002  # Authlib's signature
        """Be public at every endpoint."""
        return method == "none"

    def check_response_type(self, response_type: str) -> bool:
        """Use codes only."""
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        """Use codes only: no refresh token is given."""
        return grant_type == "authorization_code"


def authenticate_public_client(find: Callable[[str], PublicClient | None], request: Any) -> PublicClient:
    """Recognise a public client by `client_id` in the body, or by HTTP Basic with an empty secret.

    The second is what sigstore-python sends, and what stock Authlib refuses. A secret that is not empty is
    refused: whoever sends one takes this for another provider. Raises InvalidClientError with 401 then.
    """
    named = request.form.get("client_id")
    secret = request.form.get("client_secret")
    if http_request.headers.get("Authorization"):
        basic = http_request.authorization
        if basic is None or basic.type != "basic" or (named and named != basic.username):
            raise InvalidClientError(status_code=401, description="expected HTTP Basic of this client")
        named, secret = basic.username, basic.password
    client = find(named or "")
    if client is None or secret:
        raise InvalidClientError(
            status_code=401,
            description=f"expected a public client, such as {CLIENT_ID}, with an empty secret or none",
        )
    return client


class S256Challenge(CodeChallenge):  # type: ignore[misc]  # Authlib ships no types
    """PKCE with S256, always: stock Authlib lets a request without a challenge pass, and takes `plain`."""

    SUPPORTED_CODE_CHALLENGE_METHOD = ("S256",)
    CODE_CHALLENGE_METHODS = {"S256": CodeChallenge.CODE_CHALLENGE_METHODS["S256"]}  # noqa: RUF012  # Authlib's shape

    def validate_code_challenge(self, grant: Any, redirect_uri: str) -> None:
        """Refuse a request without a challenge, or with any method but S256 (RFC 7636 §4.4.1)."""
        parameters = grant.request.payload.data
        if not parameters.get("code_challenge"):
            raise InvalidRequestError("code_challenge is missing; PKCE is required here")
        if parameters.get("code_challenge_method") != "S256":
            raise InvalidRequestError("code_challenge_method must be S256; plain is not accepted")
        super().validate_code_challenge(grant, redirect_uri)


class OneTokenForBoth(OpenIDCode):  # type: ignore[misc]  # Authlib ships no types
    """OpenID Connect where the access token is the ID token: sigstore-python reads the one as the other."""

    def encode_id_token(self, token: dict[str, Any], request: Any) -> str:  # noqa: ARG002  # Authlib's signature
        """Give the access token, which is an ID token already."""
        return str(token["access_token"])

    def exists_nonce(self, nonce: str, request: Any) -> bool:  # noqa: ARG002  # Authlib's signature
        """Accept every nonce: what must not be replayed is the code, and that is spent once."""
        return False


def authorization_server(provider: DevIdentityProvider) -> AuthorizationServer:
    """Join Authlib's parts: the public clients, the code grant with PKCE, and the provider's tokens."""
    clients = {name: PublicClient(name) for name in provider.audiences}

    class CodeGrant(AuthorizationCodeGrant):  # type: ignore[misc]  # Authlib ships no types
        TOKEN_ENDPOINT_AUTH_METHODS = ("none",)

        def generate_authorization_code(self) -> str:
            parameters = self.request.payload.data
            return provider.issue_code(
                client_id=self.request.client.get_client_id(),
                email=self.request.user,
                redirect_uri=self.request.payload.redirect_uri,
                scope=self.request.scope,
                nonce=parameters.get("nonce"),
                challenge=parameters["code_challenge"],
                method=parameters["code_challenge_method"],
            )

        def save_authorization_code(self, code: str, request: Any) -> None:
            """Store nothing: the code carries what it grants."""

        def query_authorization_code(self, code: str, client: PublicClient) -> AuthorizationCode | None:
            opened = provider.open_code(code)
            return opened if opened is not None and opened.client_id == client.get_client_id() else None

        def authenticate_user(self, authorization_code: AuthorizationCode) -> AuthorizationCode:
            # The last check before the token is made, so that a mistaken request does not spend the code.
            if not provider.redeem(authorization_code):
                raise InvalidGrantError("this code was redeemed before; a code counts once")
            return authorization_code

        def delete_authorization_code(self, authorization_code: AuthorizationCode) -> None:
            """Delete nothing: the code is spent since authenticate_user."""

    def sign(user: AuthorizationCode, **_context: object) -> str:
        return provider.sign_token(user.email, provider.audiences[user.client_id], {"nonce": user.nonce})

    server = AuthorizationServer(query_client=clients.get, save_token=lambda _token, _request: None)
    server.register_token_generator("default", BearerTokenGenerator(sign, expires_generator=TOKEN_SECONDS))
    server.register_client_auth_method("none", authenticate_public_client)
    server.register_grant(CodeGrant, [S256Challenge(required=True), OneTokenForBoth()])
    return server
