"""A certified OpenID Provider, by authorization code and PKCE, as Sigstore's clients use one."""

import base64
import hashlib
import secrets
from urllib.parse import parse_qs, urljoin, urlsplit

import pytest
from cryptography import x509

from tests.conformance.oidc.asking import issued, refused
from tests.support.openid import OpenIdProvider
from tests.support.processes import RunningService, http


def log_in(provider: OpenIdProvider, email: str) -> str:
    """Go through the flow as a native client does (RFC 8252, RFC 7636); returns the ID token."""
    verifier = secrets.token_urlsafe(48)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    state, nonce = secrets.token_urlsafe(), secrets.token_urlsafe()
    with http() as browser:
        discovery = browser.get(f"{provider.url}/.well-known/openid-configuration", timeout=60).json()
        reply = browser.get(
            discovery["authorization_endpoint"],
            params={
                "client_id": "sigstore",
                "response_type": "code",
                "redirect_uri": provider.redirect_uri,
                "scope": "openid email",
                "state": state,
                "nonce": nonce,
                "code_challenge": challenge,
                "code_challenge_method": "S256",
                "login_hint": email,
            },
            allow_redirects=False,
            timeout=60,
        )
        for _ in range(10):
            assert reply.is_redirect, f"{reply.url}: {reply.status_code} {reply.text[:500]}"
            target = urljoin(reply.url, reply.headers["Location"])
            if target.startswith(provider.redirect_uri):
                break
            reply = browser.get(target, allow_redirects=False, timeout=60)
        answer = parse_qs(urlsplit(target).query)
        assert answer["state"] == [state], answer
        done = browser.post(
            discovery["token_endpoint"],
            data={
                "grant_type": "authorization_code",
                "client_id": "sigstore",
                "code": answer["code"][0],
                "redirect_uri": provider.redirect_uri,
                "code_verifier": verifier,
            },
            timeout=60,
        )
    assert done.status_code == 200, done.text
    return str(done.json()["id_token"])


@pytest.mark.parametrize("email", ["first@example.com", "second@sub.example.com"])
def test_who_logs_in_gets_a_certificate_in_their_name(
    federation: RunningService, provider: OpenIdProvider, email: str
) -> None:
    leaf = issued(federation, log_in(provider, email), email).leaf
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.RFC822Name(email)]
    issuer = leaf.extensions.get_extension_for_oid(x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.8")).value
    assert isinstance(issuer, x509.UnrecognizedExtension)
    assert issuer.value == bytes((0x0C, len(provider.url))) + provider.url.encode()


def test_an_address_that_the_provider_did_not_verify_gets_none(
    federation: RunningService, provider: OpenIdProvider
) -> None:
    email = "unverified@example.com"
    refused(federation, log_in(provider, email), "email-not-verified", email)


def test_the_token_of_one_person_signs_for_nobody_else(
    federation: RunningService, provider: OpenIdProvider
) -> None:
    refused(federation, log_in(provider, "first@example.com"), "proof-invalid", "second@example.com")


def test_one_login_serves_several_certificates(federation: RunningService, provider: OpenIdProvider) -> None:
    token = log_in(provider, "often@example.com")
    serials = {issued(federation, token, "often@example.com").serial for _ in range(3)}
    assert len(serials) == 3
