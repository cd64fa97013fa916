"""An administrator logs in at a certified OpenID Provider, as the how-to says it is set up."""

from pathlib import Path

from tests.support.administration import Login, cli, follow
from tests.support.openid import OpenIdProvider
from tests.support.processes import http, production_service, running


def test_an_administrator_logs_in_at_a_certified_provider(provider: OpenIdProvider, tmp_path: Path) -> None:
    service = production_service(tmp_path / "ca", issuers="oidc-issuers: {}\n", workers=1)
    with service.config.open("a") as file:
        file.write(
            f'\n[[admin_role]]\nrole = "revoker"\nissuer = "{provider.url}"\n'
            'claims = {email = "boss@example.com"}\n'
        )
    with running(service):
        for email, role in (("boss@example.com", "revoker"), ("unverified-boss@example.com", None)):
            home = tmp_path / email
            login = Login(service.url, home)
            with http() as browser:
                # Nobody types here: the provider believes the hint.
                reply = browser.get(
                    login.address, params={"login_hint": email}, allow_redirects=False, timeout=60
                )
                follow(browser, reply)
            code, _, err = login.end()
            if role is None:
                assert (code, "no role here" in err) == (3, True), err
                continue
            assert (code, f"as {email}, role {role}" in err) == (0, True), err
            assert cli("blocks", "--server", service.url, home=home).exit_code == 0
