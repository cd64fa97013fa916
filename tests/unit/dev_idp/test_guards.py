"""What keeps other pages, other names and other processes out."""

import json
import multiprocessing
import re
import secrets

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from ca_service.errors import Unavailable
from ca_service.web.dev_idp import DevIdentityProvider
from ca_service.web.dev_idp.single_use import SingleUseRegister
from tests.unit.dev_idp.conftest import Browser, Clock

PATHS = ["/dev-idp/", "/dev-idp/authorize", "/dev-idp/jwks", "/dev-idp/.well-known/openid-configuration"]


@pytest.mark.parametrize(
    "host",
    ["attacker.example", "attacker.example:5555", "127.0.0.1", "127.0.0.1:80", "localhost:5556", "", "é\x00"],
)
@pytest.mark.parametrize("path", [*PATHS, "/dev-idp/token", "/dev-idp/mint"])
def test_a_rebound_name_gets_nothing(browser: Browser, host: str, path: str) -> None:
    method = "POST" if path.endswith(("token", "mint")) else "GET"
    reply = browser.client.open(path, method=method, environ_overrides={"HTTP_HOST": host})
    assert reply.status_code == 421
    assert "127.0.0.1:5555" in reply.text


@pytest.mark.parametrize("host", ["127.0.0.1:5555", "localhost:5555", "LOCALHOST:5555", "[::1]:5555"])
def test_the_names_of_this_machine_are_answered(browser: Browser, host: str) -> None:
    reply = browser.client.get("/dev-idp/jwks", environ_overrides={"HTTP_HOST": host})
    assert reply.status_code == 200


def test_the_default_port_may_be_left_out() -> None:
    provider = DevIdentityProvider("http://localhost")
    assert {"localhost", "localhost:80", "127.0.0.1"} <= provider.hosts
    assert provider.issuer_url == "http://localhost/dev-idp"


@pytest.mark.parametrize("path", PATHS)
def test_no_other_origin_may_read_or_frame_it(browser: Browser, path: str) -> None:
    for method in ("GET", "OPTIONS"):
        reply = browser.client.open(
            path,
            method=method,
            query_string=browser.parameters(),
            headers={"Origin": "https://attacker.example", "Access-Control-Request-Method": "POST"},
        )
        assert not [name for name, _ in reply.headers if name.lower().startswith("access-control")]
        assert reply.headers["X-Frame-Options"] == "DENY"
        assert "frame-ancestors 'none'" in reply.headers["Content-Security-Policy"]


def test_every_page_says_what_it_is_and_runs_no_script(browser: Browser) -> None:
    pages = [
        browser.client.get("/dev-idp/"),
        browser.open(),
        browser.open(redirect_uri="https://attacker.example/"),
        browser.submit("not an address"),
        browser.submit(redirect_uri="urn:ietf:wg:oauth:2.0:oob"),
        browser.client.post("/dev-idp/authorize"),
    ]
    for page in pages:
        assert "Development identity provider: not for production" in page.text
        assert page.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'sha256-")
        assert "<script" not in page.text
        assert page.headers["Cache-Control"] == "no-store"


def test_the_form_may_lead_to_the_client_and_nowhere_else(browser: Browser) -> None:
    def allowed(redirect_uri: str) -> str:
        policy = browser.open(redirect_uri=redirect_uri).headers["Content-Security-Policy"]
        found = re.search(r"form-action ([^;]+)", policy)
        assert found
        return found[1]

    assert allowed("http://localhost:43210/auth/callback") == "'self' http://localhost:43210"
    assert allowed("urn:ietf:wg:oauth:2.0:oob") == "'self'"
    assert allowed("http://[::1]:43210/") == "'self' http:"


def test_a_form_of_another_page_logs_nobody_in(browser: Browser, provider: DevIdentityProvider) -> None:
    browser.open()
    cookie = browser.client.get_cookie("dev_idp_5555", path="/dev-idp", domain="127.0.0.1")
    assert cookie is not None
    assert (cookie.http_only, cookie.same_site) == (True, "Strict")
    other = DevIdentityProvider(provider.url)
    visitor = secrets.token_hex(16)
    for token in (None, "", "x", "é", provider.form_token(visitor), other.form_token(cookie.value)):
        form = {"email": "ada@example.com", "decision": "allow", "csrf_token": token}
        sent = {name: value for name, value in form.items() if value is not None}
        reply = browser.client.post("/dev-idp/authorize", query_string=browser.parameters(), data=sent)
        assert reply.status_code == 403
        assert "Location" not in reply.headers
    # A token without its cookie is worth nothing either: not even the one for an empty cookie.
    for stale in ("", "x"):
        browser.client.set_cookie("dev_idp_5555", stale, path="/dev-idp", domain="127.0.0.1")
        form = {"email": "ada@example.com", "csrf_token": provider.form_token(stale)}
        reply = browser.client.post("/dev-idp/authorize", query_string=browser.parameters(), data=form)
        assert reply.status_code == 403


def test_minting_needs_the_secret_and_makes_any_token(
    browser: Browser, provider: DevIdentityProvider, clock: Clock
) -> None:
    def ask(order: object, secret: str = provider.mint_secret) -> tuple[int, dict[str, str]]:
        body = order if isinstance(order, bytes) else json.dumps(order).encode()
        reply = browser.client.post("/dev-idp/mint", data=body, headers={"Authorization": f"Bearer {secret}"})
        assert isinstance(reply.json, dict)
        return reply.status_code, reply.json

    order = {
        "email": "ada@example.com",
        "audience": "other",
        "expires_in": -5,
        "claims": {"email_verified": False, "sub": None, "groups": ["a"], "nbf": 1},
    }
    status, reply = ask(order)
    assert status == 200
    claims = jwt.decode(reply["token"], KeySet.import_key_set(provider.jwks()), ["RS256"]).claims  # type: ignore[arg-type]  # its TypedDict
    assert claims == {
        "iss": provider.issuer_url,
        "aud": "other",
        "iat": int(clock.now),
        "exp": int(clock.now) - 5,
        "email": "ada@example.com",
        "email_verified": False,
        "groups": ["a"],
        "nbf": 1,
    }
    for secret in ("", "x", provider.mint_secret[:-1], "\xe9"):
        assert ask(order, secret)[0] == 401
    refused: list[object] = [
        b"",
        b"\xff",
        b"[" * 50_000,
        [],
        {},
        {"email": 1},
        {"email": "a@b.example", "extra": 1},
        {"email": "a@b.example", "audience": []},
        {"email": "a@b.example", "claims": []},
        {"email": "a@b.example", "expires_in": "1"},
        {"email": "a@b.example", "expires_in": True},
        {"email": "a@b.example", "expires_in": 10**12},
    ]
    for wrong in refused:
        assert ask(wrong)[0] == 400, wrong


def test_two_providers_share_no_key_and_no_code(browser: Browser, provider: DevIdentityProvider) -> None:
    other = DevIdentityProvider(provider.url)
    assert provider.jwks() != other.jwks()
    assert other.open_code(browser.code()) is None
    assert provider.mint_secret != other.mint_secret


def _race(register: SingleUseRegister, identifiers: list[bytes], won: "multiprocessing.Queue[int]") -> None:
    won.put(sum(register.redeem(identifier, now=0, expires=60) for identifier in identifiers))


def test_each_code_is_redeemed_by_one_of_the_racing_processes() -> None:
    register = SingleUseRegister()
    identifiers = [secrets.token_bytes(16) for _ in range(100)]
    fork = multiprocessing.get_context("fork")
    won = fork.SimpleQueue()
    racers = [fork.Process(target=_race, args=(register, identifiers, won)) for _ in range(4)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert sum(won.get() for _ in racers) == len(identifiers)


def test_a_full_register_refuses_instead_of_forgetting() -> None:
    register = SingleUseRegister(slots=2)
    assert register.redeem(b"a" * 16, now=0, expires=60)
    assert register.redeem(b"b" * 16, now=0, expires=61)
    with pytest.raises(Unavailable):
        register.redeem(b"c" * 16, now=0, expires=60)
    assert register.redeem(b"c" * 16, now=60, expires=120)
    assert not register.redeem(b"b" * 16, now=60, expires=120)
