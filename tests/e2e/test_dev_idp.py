"""The development identity provider in the running service: stock clients log in, all others stay out."""

import base64
import hashlib
import html
import json
import re
import secrets
import stat
import webbrowser
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from sigstore._internal.oidc.oauth import _OAuthFlow
from sigstore.oidc import IdentityToken, Issuer

from tests.support.processes import CA_SERVICE, RunningService, dev_service, http, run, running, wait_until
from tests.support.signing import bearer, issue, key_body, new_key
from tests.support.tokens import TokenDesk

REDIRECT = "http://localhost:43210/auth/callback"
OUT_OF_BAND = "urn:ietf:wg:oauth:2.0:oob"


@pytest.fixture
def service(one_node: RunningService) -> RunningService:
    """`ca-service dev`, which is for one machine."""
    return one_node


@pytest.fixture
def stock_issuer(service: RunningService, monkeypatch: pytest.MonkeyPatch) -> Iterator[Issuer]:
    """sigstore-python's side of the provider; what it leaves open at the end of a login is closed for it."""
    leave = _OAuthFlow.__exit__

    def leave_and_close(flow: _OAuthFlow, *exception: Any) -> None:
        leave(flow, *exception)
        flow._server.server_close()

    monkeypatch.setattr(_OAuthFlow, "__exit__", leave_and_close)
    issuer = Issuer(f"{service.url}/dev-idp")
    yield issuer
    issuer.session.close()


def log_in(session: requests.Session, address: str, email: str) -> requests.Response:
    """Do what a person does with a browser: open the address, fill in the form, send it."""
    page = session.get(address, timeout=60)
    assert page.status_code == 200, page.text
    assert "Development identity provider: not for production" in page.text
    token = re.search(r'name="csrf_token" value="([^"]+)"', page.text)
    assert token, page.text
    form = {"csrf_token": html.unescape(token[1]), "email": email, "decision": "allow"}
    return session.post(page.url, data=form, timeout=60, allow_redirects=False)


def authorization_address(service: RunningService, verifier: str) -> str:
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    parameters = {
        "response_type": "code",
        "client_id": "sigstore",
        "scope": "openid email",
        "redirect_uri": REDIRECT,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
        "state": "s",
    }
    prepared = requests.Request("GET", f"{service.url}/dev-idp/authorize", params=parameters).prepare()
    assert prepared.url
    return prepared.url


def test_the_browser_flow_of_stock_sigstore_python_ends_in_a_certificate(
    service: RunningService,
    session: requests.Session,
    stock_issuer: Issuer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    email = "browser-flow@example.com"

    def open_browser(address: str) -> bool:
        sent = log_in(session, address, email)
        assert sent.status_code == 302, sent.text
        landed = session.get(sent.headers["Location"], timeout=60)
        assert "authentication successful" in landed.text
        return True

    monkeypatch.setattr(webbrowser, "open", open_browser)
    token = stock_issuer.identity_token(client_id="sigstore", client_secret="")
    assert token.issuer == f"{service.url}/dev-idp"
    assert token.identity == email
    issue(session, service.url, str(token), email, new_key())


def test_its_flow_without_a_browser_works_too(
    session: requests.Session,
    stock_issuer: Issuer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def type_the_code(_prompt: str) -> str:
        address = capsys.readouterr().err.split()[-1]
        page = log_in(session, address, "out-of-band@example.com")
        assert page.status_code == 200, page.text
        code = re.search(r'<code id="code">([^<]+)</code>', page.text)
        assert code, page.text
        return code[1]

    monkeypatch.setattr("builtins.input", type_the_code)
    token = stock_issuer.identity_token(force_oob=True)
    assert token.identity == "out-of-band@example.com"


def test_a_code_counts_once_whichever_worker_is_asked(
    service: RunningService, session: requests.Session
) -> None:
    assert len(service.workers()) > 1
    verifier, attempts = secrets.token_urlsafe(48), 24
    sent = log_in(session, authorization_address(service, verifier), "once@example.com")
    code = parse_qs(urlsplit(sent.headers["Location"]).query)["code"][0]
    form = {
        "grant_type": "authorization_code",
        "redirect_uri": REDIRECT,
        "code": code,
        "code_verifier": verifier,
    }
    start = Barrier(attempts)

    def redeem(_attempt: int) -> tuple[int, str]:
        with http() as own:
            start.wait()
            reply = own.post(f"{service.url}/dev-idp/token", data=form, auth=("sigstore", ""), timeout=60)
            return reply.status_code, reply.json().get("error", "")

    with ThreadPoolExecutor(attempts) as pool:
        answers = sorted(pool.map(redeem, range(attempts)))
    assert answers == [(200, "")] + [(400, "invalid_grant")] * (attempts - 1)


def test_other_sites_and_other_names_stay_out(service: RunningService, session: requests.Session) -> None:
    address = authorization_address(service, "v" * 43)
    discovery = f"{service.url}/dev-idp/.well-known/openid-configuration"
    silent = address + "&prompt=none"
    for method, url in (("GET", address), ("GET", silent), ("GET", discovery), ("OPTIONS", discovery)):
        reply = session.request(
            method, url, headers={"Origin": "https://attacker.example"}, timeout=60, allow_redirects=False
        )
        assert not [name for name in reply.headers if name.lower().startswith("access-control")], url
        assert reply.headers["X-Frame-Options"] == "DENY"
        assert "frame-ancestors 'none'" in reply.headers["Content-Security-Policy"]
    rebound = session.get(address, headers={"Host": "attacker.example"}, timeout=60)
    assert rebound.status_code == 421
    assert "answers only to the names of this machine" in rebound.text
    forged = session.post(address, data={"email": "ada@example.com", "decision": "allow"}, timeout=60)
    assert forged.status_code == 403
    elsewhere = address.replace("localhost%3A43210", "attacker.example")
    foreign = session.get(elsewhere, timeout=60, allow_redirects=False)
    assert (foreign.status_code, "Location" in foreign.headers) == (400, False)
    for weak in (address.replace("S256", "plain"), re.sub("code_challenge[^&]*&", "", address)):
        refused = session.get(weak, timeout=60, allow_redirects=False)
        assert refused.headers["Location"].startswith(REDIRECT + "?error=invalid_request")


@pytest.mark.parametrize("garbage", ["%00", "%ff%fe", "%E9%22%5C", "[" * 2000, "%0d%0aX:y"])
def test_garbage_never_gets_a_server_error(
    service: RunningService, session: requests.Session, garbage: str
) -> None:
    base = f"{service.url}/dev-idp"
    names = ("response_type", "client_id", "redirect_uri", "scope", "state", "code_challenge", "nonce")
    for name in names:
        kept = "&".join(
            part
            for part in urlsplit(authorization_address(service, "v" * 43)).query.split("&")
            if not part.startswith(f"{name}=")
        )
        reply = session.get(f"{base}/authorize?{kept}&{name}={garbage}", timeout=60, allow_redirects=False)
        assert reply.status_code in (200, 302, 400), (name, reply.text)
    for path in ("authorize", "token", "mint", "userinfo"):
        for kind in ("application/x-www-form-urlencoded", "application/json", "multipart/form-data", "x/y"):
            body = f"grant_type=authorization_code&client_id=sigstore&code={garbage}&csrf_token={garbage}"
            reply = session.post(f"{base}/{path}", data=body, headers={"Content-Type": kind}, timeout=60)
            assert 400 <= reply.status_code < 500, (path, kind, reply.text)


def test_dev_token_prints_one_token_and_makes_bad_ones_on_request(service: RunningService) -> None:
    def ask(*options: str) -> tuple[dict[str, object], str]:
        done = run("dev-token", "--dir", service.directory, "--email", "ada@example.com", *options)
        assert (done.returncode, done.stderr) == (0, "")
        token = done.stdout.removesuffix("\n")
        assert re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+", token)
        payload = token.split(".")[1]
        return json.loads(base64.urlsafe_b64decode(payload + "==")), token

    claims, token = ask()
    assert IdentityToken(token).identity == "ada@example.com"
    assert claims["email_verified"] is True
    claims, _ = ask(
        *("--audience", "other", "--expires-in", "-60", "--claim", "email_verified=false"),
        *("--claim", "sub=null", "--claim", 'groups=["a"]', "--claim", "note=a=b", "--claim", "big=NaN"),
    )
    assert claims["aud"] == "other"
    assert int(str(claims["exp"])) == int(str(claims["iat"])) - 60
    assert claims["email_verified"] is False
    assert "sub" not in claims
    assert (claims["groups"], claims["note"], claims["big"]) == (["a"], "a=b", "NaN")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    with running(dev_service(tmp_path_factory.mktemp("dev") / "ca")) as started:
        yield started


def test_the_provider_ends_with_dev_and_serve_does_not_know_it(
    own: RunningService, session: requests.Session
) -> None:
    runtime = own.directory / "run" / "dev.json"
    assert stat.S_IMODE(runtime.stat().st_mode) == 0o600
    token = TokenDesk(own).token("ada@example.com")
    issue(session, own.url, token, "ada@example.com")

    second = run("dev", "--dir", own.directory)
    assert second.returncode == 2
    assert "another `ca-service dev` runs" in second.stderr

    keys = session.get(f"{own.url}/dev-idp/jwks", timeout=60).json()
    before = {process.pid for process in own.workers()}
    for process in own.workers():
        process.kill()
    wait_until(lambda: not before & {process.pid for process in own.workers()}, 60, "the killed workers gone")
    own.wait_ready()
    assert session.get(f"{own.url}/dev-idp/jwks", timeout=60).json() == keys
    assert runtime.exists()

    own.stop()
    assert not runtime.exists()
    asked = run("dev-token", "--dir", own.directory, "--email", "ada@example.com")
    assert (asked.returncode, asked.stdout) == (3, "")
    for file in [path for path in own.directory.rglob("*") if path.is_file()]:
        # The database remembers what was issued, and to whom; nothing else may remember the provider.
        assert file.parent.name == "state" or b"dev-idp" not in file.read_bytes(), file

    production = RunningService(
        directory=own.directory,
        url=own.url,
        command=[str(CA_SERVICE), "serve", "--config", str(own.config), "--workers", "1"],
    )
    with running(production):
        assert session.get(f"{own.url}/dev-idp/jwks", timeout=60).status_code == 404
        refused = session.post(
            f"{own.url}/api/v2/signingCert",
            json=key_body(new_key(), "ada@example.com"),
            headers=bearer(token),
            timeout=60,
        )
        assert refused.status_code == 400
        assert "token-issuer-unknown" in refused.text


def test_serve_refuses_an_issuer_file_that_names_it(tmp_path: Path) -> None:
    directory = tmp_path / "ca"
    url = "http://127.0.0.1:43210"
    assert run("init", "--dir", directory, "--url", url).returncode == 0
    issuer = f"{url}/dev-idp"
    listed = {"oidc-issuers": {issuer: {"issuer-url": issuer, "client-id": "sigstore", "type": "email"}}}
    (directory / "issuers.yaml").write_text(json.dumps(listed))
    done = run("serve", "--config", directory / "ca.toml")
    assert done.returncode == 2
    assert "development identity provider" in done.stderr
