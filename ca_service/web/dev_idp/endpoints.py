"""The endpoints under /dev-idp, and what guards them: Host, CSRF, frames, scripts."""

import base64
import hashlib
import json
import logging
import re
import secrets
from typing import Any
from urllib.parse import parse_qs, urlsplit

from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import UnsupportedResponseTypeError
from flask import Blueprint, Response, jsonify, make_response, render_template, request

from ca_service.web.dev_idp.authorization import OUT_OF_BAND, authorization_server, loopback_origin
from ca_service.web.dev_idp.provider import CLIENT_ID, PATH, TOKEN_SECONDS, DevIdentityProvider

_MAX_BODY = 64 * 1024
_EMAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,188}[A-Za-z0-9])?")
_VISITOR = re.compile(r"[0-9a-f]{32}")
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 34rem; margin: 3rem auto; padding: 0 1rem;
  color: #1b1b1b; background: #fff }
.notice { background: #fff3cd; border: 2px solid #8a6100; padding: .75rem 1rem; font-weight: 600 }
label { display: block; margin-top: 1rem }
input, button { font: inherit; padding: .5rem; margin: .25rem .5rem .25rem 0 }
input { width: 100%; box-sizing: border-box }
.wrong { color: #a00000; font-weight: 600 }
code { overflow-wrap: anywhere }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()


def blueprint(provider: DevIdentityProvider) -> Blueprint:
    """Build the Flask blueprint that serves a provider at /dev-idp."""
    # Authlib writes issued tokens to its debug log; tokens do not belong into any log.
    logging.getLogger("authlib").setLevel(logging.INFO)
    pages = Blueprint("dev_idp", __name__, url_prefix=PATH, template_folder="templates")
    server = authorization_server(provider)
    cookie = "dev_idp_" + provider.url.rpartition(":")[2].strip("/")

    @pages.before_request
    def refuse_foreign_host() -> Response | None:
        request.max_content_length = _MAX_BODY
        if request.environ.get("HTTP_HOST", "").lower() in provider.hosts:
            return None
        expected = ", ".join(sorted(provider.hosts))
        return Response(
            "This development identity provider answers only to the names of this machine, and the Host"
            f" header names another; expected one of {expected}. Use {provider.issuer_url} instead.\n",
            421,
            content_type="text/plain; charset=utf-8",
        )

    @pages.after_request
    def guard(response: Response) -> Response:
        response.headers.setdefault("Content-Security-Policy", _policy())
        response.headers["X-Frame-Options"] = "DENY"
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        response.headers["Cache-Control"] = "no-store"
        return response

    @pages.get("/")
    def about() -> Response:
        return _page("about.html", 200, issuer_url=provider.issuer_url, client_id=CLIENT_ID)

    @pages.get("/.well-known/openid-configuration")
    def configuration() -> Response:
        return jsonify(provider.metadata())

    @pages.get("/jwks")
    def jwks() -> Response:
        return jsonify(provider.jwks())

    @pages.get("/authorize")
    def ask() -> Response:
        try:
            _asked_for_code(provider)
            server.get_consent_grant()
        except OAuth2Error as error:
            return _authorization_refused(error)
        return _login_form()

    @pages.post("/authorize")
    def answer() -> Response:
        visitor = request.cookies.get(cookie, "")
        sent = request.form.get("csrf_token", "")
        expected = provider.form_token(visitor)
        if not _VISITOR.fullmatch(visitor) or not secrets.compare_digest(sent.encode(), expected.encode()):
            return _page(
                "refused.html",
                403,
                error="csrf",
                description="The form did not come from this provider's own login page in this browser"
                " (its CSRF token or cookie is missing or wrong). Start again from your client.",
            )
        email = request.form.get("email", "").strip()
        denied = request.form.get("decision") == "deny"
        try:
            _asked_for_code(provider)
            grant = server.get_consent_grant(end_user=email)
            if not denied and not _EMAIL.fullmatch(email):
                return _login_form("That is not an e-mail address; expected one like ada@example.com.", 400)
            response: Response = server.create_authorization_response(
                request=grant.request, grant_user=None if denied else email, grant=grant
            )
        except OAuth2Error as error:
            return _authorization_refused(error)
        if request.values.get("redirect_uri") == OUT_OF_BAND:
            return _out_of_band(response)
        return response

    @pages.post("/token")
    def token() -> Response:
        response: Response = server.create_token_response()
        return response

    @pages.route("/userinfo", methods=["GET", "POST"])
    def userinfo() -> Response:
        bearer = request.authorization
        claims = provider.read_token(bearer.token or "") if bearer and bearer.type == "bearer" else None
        if claims is None:
            refused = _json_error(401, "invalid_token", "expected a valid token of this provider")
            refused.headers["WWW-Authenticate"] = 'Bearer error="invalid_token"'
            return refused
        shown = ("sub", "email", "email_verified")
        return jsonify({name: claims[name] for name in shown if name in claims})

    @pages.post("/mint")
    def mint() -> Response:
        bearer = request.authorization
        secret = (bearer.token or "") if bearer and bearer.type == "bearer" else ""
        if not provider.may_mint(secret):
            return _json_error(401, "invalid_token", "expected the secret in the directory's run/dev.json")
        wanted = _mint_order(request.get_data())
        if isinstance(wanted, str):
            return _json_error(400, "invalid_request", wanted)
        return jsonify(token=provider.sign_token(**wanted))

    def _login_form(problem: str = "", status: int = 200) -> Response:
        visitor = request.cookies.get(cookie, "")
        visitor = visitor if _VISITOR.fullmatch(visitor) else secrets.token_hex(16)
        redirect_uri = request.values.get("redirect_uri", "")
        response = _page(
            "login.html",
            status,
            csrf_token=provider.form_token(visitor),
            client_id=request.values.get("client_id", CLIENT_ID),
            destination=loopback_origin(redirect_uri),
            problem=problem,
        )
        response.headers["Content-Security-Policy"] = _policy(loopback_origin(redirect_uri))
        response.set_cookie(cookie, visitor, path=PATH, httponly=True, samesite="Strict")
        return response

    return pages


def _asked_for_code(provider: DevIdentityProvider) -> None:
    """Refuse a response type other than `code` before Authlib does, which fails on what it may not quote."""
    if request.values.get("response_type") == "code":
        return
    redirect_uri = request.values.get("redirect_uri", "")
    known = request.values.get("client_id") in provider.audiences and loopback_origin(redirect_uri)
    raise UnsupportedResponseTypeError(
        "",
        "response_type must be code",
        redirect_uri=redirect_uri if known else None,
        state=request.values.get("state"),
    )


def _authorization_refused(error: OAuth2Error) -> Response:
    """Send the refusal to the client when it is known where to, else show it (RFC 6749 §4.1.2.1)."""
    if error.redirect_uri and error.redirect_uri != OUT_OF_BAND:
        status, body, headers = error()
        return Response(body, status, headers)
    return _page("refused.html", 400, error=error.error, description=error.description)


def _out_of_band(response: Response) -> Response:
    """Show the code, or the refusal, that would have been in the redirect."""
    answer = parse_qs(urlsplit(response.headers["Location"]).query)
    if "code" in answer:
        return _page("code.html", 200, code=answer["code"][0])
    return _page("refused.html", 400, error=answer["error"][0], description=answer["error_description"][0])


def _page(name: str, status: int, **values: object) -> Response:
    return make_response(render_template("dev_idp/" + name, style=_STYLE, **values), status)


def _policy(destination: str | None = None) -> str:
    """Allow nothing but our style and our form; browsers check form-action on the redirect after it too."""
    # CSP has no way to write an IPv6 address, so the scheme has to do there.
    forms = "http:" if destination and "[" in destination else destination or ""
    return (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self' {forms};"
        " frame-ancestors 'none'; base-uri 'none'"
    ).replace(" ;", ";")


def _json_error(status: int, error: str, description: str) -> Response:
    response = jsonify(error=error, error_description=description)
    response.status_code = status
    return response


def _mint_order(body: bytes) -> dict[str, Any] | str:
    """Read what `dev-token` asks for: the arguments of sign_token, or a sentence saying what is wrong."""
    try:
        order = json.loads(body)
    except (ValueError, RecursionError):
        return "the body is not JSON"
    if not isinstance(order, dict) or not order.keys() <= {"email", "audience", "claims", "expires_in"}:
        return "expected a JSON object with email, and optionally audience, claims and expires_in"
    email, audience = order.get("email"), order.get("audience", CLIENT_ID)
    claims, expires_in = order.get("claims", {}), order.get("expires_in", TOKEN_SECONDS)
    if not isinstance(email, str) or not isinstance(audience, str):
        return "email and audience must be strings"
    if not isinstance(claims, dict):
        return "claims must be an object"
    if not isinstance(expires_in, int) or isinstance(expires_in, bool) or abs(expires_in) > 10**9:
        return "expires_in must be a whole number of seconds"
    return {"email": email, "audience": audience, "claims": claims, "expires_in": expires_in}
