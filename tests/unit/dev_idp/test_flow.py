"""The authorization code flow: what a login gives, and everything that gives nothing."""

import base64
from urllib.parse import quote

import pytest
from authlib.oidc.discovery import OpenIDProviderMetadata
from joserfc import jwt
from joserfc.jwk import KeySet

from ca_service.web.dev_idp import DevIdentityProvider
from tests.unit.dev_idp.conftest import BASIC, CHALLENGE, URL, VERIFIER, Browser, Clock, location

OUT_OF_BAND = "urn:ietf:wg:oauth:2.0:oob"


def test_the_discovery_document_is_one_by_authlibs_own_rules(browser: Browser) -> None:
    document = browser.client.get("/dev-idp/.well-known/openid-configuration").json
    assert document is not None
    OpenIDProviderMetadata(document).validate()
    assert document["issuer"] == URL + "/dev-idp"
    assert document["code_challenge_methods_supported"] == ["S256"]


def test_a_login_gives_one_signed_id_token_under_both_names(browser: Browser, clock: Clock) -> None:
    sent = location(browser.submit(nonce="n-1"))
    assert sent["state"] == "the state"
    reply = browser.redeem(sent["code"])
    assert reply.status_code == 200
    assert reply.headers["Cache-Control"] == "no-store"
    assert reply.json is not None
    assert reply.json["access_token"] == reply.json["id_token"]
    assert reply.json["token_type"] == "Bearer"
    keys = browser.client.get("/dev-idp/jwks").json
    assert keys is not None
    token = jwt.decode(reply.json["id_token"], KeySet.import_key_set(keys), ["RS256"])
    assert token.header["alg"] == "RS256"
    assert token.claims == {
        "iss": URL + "/dev-idp",
        "sub": "ada@example.com",
        "aud": "sigstore",
        "iat": int(clock.now),
        "exp": int(clock.now) + 600,
        "email": "ada@example.com",
        "email_verified": True,
        "nonce": "n-1",
    }


def test_administrators_have_a_client_and_an_audience_of_their_own(browser: Browser) -> None:
    admin = {"client_id": "ca-service-admin"}
    for headers in ({}, BASIC):
        # A code is for the client that asked, so that no signing client can make an administrator's token.
        stolen = browser.redeem(browser.code(**admin), headers, client_id=None if headers else "sigstore")
        assert (stolen.status_code, stolen.get_json()["error"]) == (400, "invalid_grant")
    reply = browser.redeem(browser.code(**admin), {}, **admin)
    keys = KeySet.import_key_set(browser.client.get("/dev-idp/jwks").get_json())
    assert jwt.decode(reply.get_json()["id_token"], keys, ["RS256"]).claims["aud"] == "ca-service-admin"


def test_jwks_publishes_no_private_half(browser: Browser) -> None:
    document = browser.client.get("/dev-idp/jwks").json
    assert document is not None
    assert [set(key) for key in document["keys"]] == [{"kty", "n", "e", "kid", "use", "alg"}]


def test_userinfo_believes_only_living_tokens_of_this_provider(
    browser: Browser, provider: DevIdentityProvider, clock: Clock
) -> None:
    def ask(token: str) -> tuple[int, object]:
        reply = browser.client.get("/dev-idp/userinfo", headers={"Authorization": f"Bearer {token}"})
        return reply.status_code, reply.json

    token = provider.sign_token("ada@example.com")
    shown = {"sub": "ada@example.com", "email": "ada@example.com", "email_verified": True}
    assert ask(token) == (200, shown)
    assert ask(DevIdentityProvider(URL, clock=clock).sign_token("ada@example.com"))[0] == 401
    assert ask("a.b.c")[0] == 401
    clock.now += 600
    assert ask(token)[0] == 401


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"code_challenge": None}, "PKCE is required"),
        ({"code_challenge": None, "code_challenge_method": None}, "PKCE is required"),
        ({"code_challenge_method": None}, "must be S256"),
        ({"code_challenge_method": "plain"}, "must be S256"),
        ({"code_challenge_method": "plain", "code_challenge": VERIFIER}, "must be S256"),
        ({"code_challenge": "short"}, "Invalid 'code_challenge'"),
    ],
)
def test_without_s256_nobody_logs_in(browser: Browser, changes: dict[str, str | None], says: str) -> None:
    refused = location(browser.open(**changes))
    assert refused["error"] == "invalid_request"
    assert says in refused["error_description"]
    assert refused["state"] == "the state"
    assert "code" not in refused


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": 'code" é'}, "unsupported_response_type"),
        ({"scope": "email"}, "invalid_scope"),
        ({"scope": None}, "invalid_scope"),
        ({"prompt": "none"}, "login_required"),
    ],
)
def test_other_mistakes_are_told_to_the_client(
    browser: Browser, changes: dict[str, str | None], error: str
) -> None:
    refused = location(browser.open(**changes))
    assert (refused["error"], refused["state"]) == (error, "the state")


@pytest.mark.parametrize(
    "redirect_uri",
    [
        "https://attacker.example/cb",
        "http://attacker.example:80/cb",
        "http://localhost.attacker.example/cb",
        "http://localhost@attacker.example/cb",
        "http://localhost:1@attacker.example/cb",
        "http://localhost\\@attacker.example/cb",
        "http://127.0.0.1.attacker.example/",
        "http://localhost:43210/cb#fragment",
        "http://localhost:43210/\r\nSet-Cookie: a=b",
        "http://localhost:43210/cb\n",
        "http://[::1",
        "//localhost/cb",
        "javascript:alert(1)",
        "urn:ietf:wg:oauth:2.0:oob:auto",
        'http://é"\\',
        "",
    ],
)
@pytest.mark.parametrize("response_type", ["code", "token"])
def test_no_code_and_no_error_goes_off_this_machine(
    browser: Browser, redirect_uri: str, response_type: str
) -> None:
    page = browser.open(redirect_uri=redirect_uri, response_type=response_type)
    assert page.status_code == 400
    assert "Location" not in page.headers
    assert "not for production" in page.text


@pytest.mark.parametrize(
    "redirect_uri", ["http://localhost/cb", "http://127.0.0.1:1/", "http://[::1]:65535/cb?a=b"]
)
def test_any_loopback_port_may_get_the_code(browser: Browser, redirect_uri: str) -> None:
    code = browser.code(redirect_uri=redirect_uri)
    assert browser.redeem(code, redirect_uri=redirect_uri).status_code == 200


def test_the_code_is_bound_to_its_redirect_uri(browser: Browser) -> None:
    reply = browser.redeem(browser.code(), redirect_uri="http://localhost:1/other")
    assert (reply.status_code, reply.json) == (
        400,
        {"error": "invalid_grant", "error_description": "Invalid 'redirect_uri' in request."},
    )


def test_out_of_band_shows_the_code_or_the_refusal(browser: Browser) -> None:
    page = browser.submit(redirect_uri=OUT_OF_BAND)
    assert page.status_code == 200
    code = page.text.split('<code id="code">')[1].split("</code>")[0]
    assert browser.redeem(code, redirect_uri=OUT_OF_BAND).status_code == 200
    refused = browser.open(redirect_uri=OUT_OF_BAND, code_challenge=None)
    assert refused.status_code == 400
    assert "PKCE is required" in refused.text


def test_cancelling_tells_the_client(browser: Browser) -> None:
    page = browser.open()
    token = page.text.split('name="csrf_token" value="')[1].split('"')[0]
    form = {"csrf_token": token, "decision": "deny", "email": ""}
    reply = browser.client.post("/dev-idp/authorize", query_string=browser.parameters(), data=form)
    assert location(reply)["error"] == "access_denied"


@pytest.mark.parametrize(
    "email", ["", "ada", "ada@", "@example.com", "a b@example.com", "ada@example.com\n<b>"]
)
def test_what_is_no_address_is_asked_again(browser: Browser, email: str) -> None:
    page = browser.submit(email)
    assert page.status_code == 400
    assert "That is not an e-mail address" in page.text
    assert 'name="csrf_token"' in page.text


def test_a_code_counts_once_and_a_wrong_verifier_does_not_spend_it(browser: Browser) -> None:
    code = browser.code()
    wrong = browser.redeem(code, code_verifier="w" * 43)
    assert (wrong.status_code, wrong.json["error"] if wrong.json else None) == (400, "invalid_grant")
    assert browser.redeem(code, code_verifier=None).status_code == 400
    assert browser.redeem(code, code_verifier=CHALLENGE).status_code == 400
    assert browser.redeem(code).status_code == 200
    again = browser.redeem(code)
    assert (again.status_code, again.json["error"] if again.json else None) == (400, "invalid_grant")


def test_a_code_is_good_for_a_minute(browser: Browser, clock: Clock) -> None:
    early, late = browser.code(), browser.code()
    clock.now += 60
    assert browser.redeem(early).status_code == 200
    clock.now += 1
    assert browser.redeem(late).status_code == 400


def test_only_the_public_client_gets_tokens(browser: Browser) -> None:
    def basic(text: bytes) -> dict[str, str]:
        return {"Authorization": "Basic " + base64.b64encode(text).decode()}

    code = browser.code()
    for headers, changes in [
        ({}, {}),
        (basic(b"sigstore:secret"), {}),
        (basic(b"other:"), {}),
        (basic(b"\xff\xfe:"), {}),
        (basic(b"sigstore:"), {"client_id": "other"}),
        ({"Authorization": "Basic !!"}, {"client_id": "sigstore"}),
        ({"Authorization": "Bearer x"}, {"client_id": "sigstore"}),
        ({}, {"client_id": "sigstore", "client_secret": "secret"}),
    ]:
        refused = browser.redeem(code, headers, **changes)
        assert refused.status_code == 401, (headers, changes, refused.text)
        assert refused.json is not None
        assert refused.json["error"] == "invalid_client"
    assert browser.redeem(code, {}, client_id="sigstore").status_code == 200
    assert browser.redeem(browser.code(), BASIC).status_code == 200


@pytest.mark.parametrize(
    "garbage", ["\x00", "é", '"\\', "\ud7ff", "%", "A" * 5000, "[" * 3000, "\r\nX: y", "a.b.c"]
)
def test_garbage_is_refused_and_never_an_error_of_ours(browser: Browser, garbage: str) -> None:
    names = [*browser.asked, "nonce", "prompt", "response_mode", "csrf_token", "email"]
    for name in names:
        assert browser.open(**{name: garbage}).status_code < 500, name
        reply = browser.client.post("/dev-idp/authorize", query_string=browser.parameters(**{name: garbage}))
        assert reply.status_code < 500, name
        repeated = browser.client.get(
            f"/dev-idp/authorize?{name}={quote(garbage)}&{name}=b&client_id=sigstore"
        )
        assert repeated.status_code in (302, 400), name
    for name in ("grant_type", "code", "redirect_uri", "code_verifier", "client_id", "client_secret"):
        assert 400 <= browser.redeem("code", **{name: garbage}).status_code < 500, name
    assert location(browser.submit(state=garbage, nonce=garbage))["state"] == garbage
    for path in ("token", "mint", "userinfo", "authorize"):
        assert browser.client.post(f"/dev-idp/{path}", data=garbage.encode()).status_code in (400, 401, 403)
