"""`ca-service login`: a token by the browser, kept for one user, and used until it expires."""

import base64
import json
import stat
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.administration import Login, cli, log_in_at_dev_idp
from tests.support.processes import RunningService, http

ADMIN = "admin@example.com"


@pytest.fixture
def service(one_node: RunningService) -> RunningService:
    """`ca-service dev`, which is for one machine."""
    return one_node


def kept_in(home: Path) -> list[Path]:
    return sorted(home.rglob("*.json"))


def test_a_login_is_kept_for_one_user_and_serves_every_verb(service: RunningService, tmp_path: Path) -> None:
    login = Login(service.url, tmp_path)
    asked = parse_qs(urlsplit(login.address).query)
    assert asked["code_challenge_method"] == ["S256"]
    assert asked["client_id"] == ["ca-service-admin"]
    assert asked["redirect_uri"][0].startswith("http://127.0.0.1:")
    # Whoever knows the port and not the state neither ends the login nor puts in a code of theirs.
    with http() as stranger:
        for foreign in ("?code=theirs&state=guessed", "?error=access_denied", "/../favicon.ico", ""):
            assert stranger.get(asked["redirect_uri"][0] + foreign, timeout=60).status_code == 400
    page = log_in_at_dev_idp(login.address, ADMIN)
    assert page.status_code == 200
    code, out, err = login.end()
    assert (code, out) == (0, ""), err
    assert f"logged in at {service.url} as {ADMIN}, role administrator, until" in err

    (kept,) = kept_in(tmp_path)
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    token = json.loads(kept.read_text())["token"]
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert (claims["aud"], claims["nonce"]) == ("ca-service-admin", asked["nonce"][0])

    assert cli("blocks", "--server", service.url, home=tmp_path).exit_code == 0
    elsewhere = cli("blocks", "--server", service.url.replace("127.0.0.1", "localhost"), home=tmp_path)
    assert (elsewhere.exit_code, "there is no token for" in elsewhere.stderr) == (3, True)
    kept.write_text(json.dumps({**json.loads(kept.read_text()), "expires": 1_700_000_000}))
    expired = cli("blocks", "--server", service.url, home=tmp_path)
    assert expired.exit_code == 3
    assert (
        f"expired at 2023-11-14T22:13:20Z: run `ca-service login --server {service.url}` again"
        in expired.stderr
    )


def test_a_token_can_be_written_elsewhere_and_nobody_without_a_role_gets_one(
    service: RunningService, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    written = tmp_path / "token"
    login = Login(service.url, home, "--token-out", str(written))
    log_in_at_dev_idp(login.address, ADMIN)
    code, _, err = login.end()
    assert code == 0, err
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    assert kept_in(home) == []
    assert cli("audit", "--verify", "--server", service.url, "--token-file", written).exit_code == 0

    outsider = Login(service.url, home)
    log_in_at_dev_idp(outsider.address, "outsider@example.com")
    code, _, err = outsider.end()
    assert code == 3
    assert "needs the role viewer" in err
    assert kept_in(home) == []


def test_a_login_that_the_person_refuses_ends_with_that(service: RunningService, tmp_path: Path) -> None:
    login = Login(service.url, tmp_path)
    log_in_at_dev_idp(login.address, ADMIN, decision="deny")
    code, _, err = login.end()
    assert code == 3
    assert "refused the login: access_denied" in err


def test_who_never_comes_back_ends_the_login_too(service: RunningService, tmp_path: Path) -> None:
    code, _, err = Login(service.url, tmp_path, "--wait", "1").end()
    assert code == 3
    assert "did not come back in time" in err


def test_a_token_for_development_comes_without_a_browser(service: RunningService) -> None:
    minted = cli("dev-token", "--dir", service.directory, "--email", ADMIN, "--audience", "ca-service-admin")
    assert minted.exit_code == 0
    listed = cli("blocks", "--server", service.url, "--token-file", "-", stdin=minted.stdout)
    assert listed.exit_code == 0
    settings = service.config.read_text()
    assert ADMIN not in settings
    assert "dev-idp" not in settings
