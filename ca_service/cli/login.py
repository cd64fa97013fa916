"""`login`: an administrator's token by the browser."""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ca_service.errors import LoginFailed, ServiceUnreachable
from ca_service.vocabulary import format_seconds

if TYPE_CHECKING:
    from ca_service.cli.connection import Connection
    from ca_service.cli.oidc_login import Client

_WAITING = 300


@click.command()
@click.option("--server", metavar="URL", required=True, help="The service to administer.")
@click.option("--issuer", metavar="URL", help="The identity provider, when the service takes several.")
@click.option(
    "--token-out",
    metavar="FILE",
    help="Write the token there, for this user alone, and keep it nowhere else; - is standard output.",
)
@click.option("--no-browser", is_flag=True, help="Print the address to open, and start no browser.")
@click.option(
    "--wait",
    type=click.IntRange(1, 3600),
    default=_WAITING,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the browser to come back.",
)
def login(server: str, issuer: str | None, token_out: str | None, no_browser: bool, wait: int) -> None:
    """Get an administrator's token by the browser.

    Asks the service which identity provider its administrators come from, sends your browser there, and takes
    the token from where it comes back to: an address on this machine that exists only as long. The token is
    kept for this user alone, in ~/.config/ca-service/tokens, and every verb with --server uses it until it
    expires.

    The provider must know the service's client as a public one with PKCE, and let it come back to
    http://127.0.0.1/auth/callback on any port.

    \b
      ca-service login --server https://ca.example.com
      ca-service blocks --server https://ca.example.com
    """
    from ca_service.cli.connection import Connection, server_url

    url = server_url(server)
    token = _token(url, issuer, browser=not no_browser, wait=wait)
    connection = Connection(url, token)
    try:
        # Whoever has no role learns it now, and keeps no token that serves for nothing.
        who = connection.call("GET", "/whoami")
    finally:
        connection.close()
    expires = _expires(who)
    _store(url, token, expires, token_out)
    name = who.get("name") or who.get("subject")
    roles = who.get("roles")
    role = roles[-1] if isinstance(roles, list) and roles else "none"
    click.echo(f"logged in at {url} as {name}, role {role}, until {format_seconds(expires)}", err=True)


def _token(url: str, issuer: str | None, *, browser: bool, wait: int) -> str:
    from ca_service.cli.connection import Connection
    from ca_service.cli.oidc_login import token_by_browser

    connection = Connection(url, None)
    try:
        client = _client(connection, issuer)
    finally:
        connection.close()

    def show(address: str) -> None:
        click.echo(f"Open this address to log in:\n{address}", err=True)
        sys.stderr.flush()
        if browser:
            click.launch(address)

    return token_by_browser(client, show, deadline=time.monotonic() + wait)


def _client(connection: "Connection", wanted: str | None) -> "Client":
    from ca_service.cli.oidc_login import Client

    options: Mapping[str, object] = connection.call("GET", "/login-options")
    issuers, scopes = options.get("issuers"), options.get("scopes")
    audience, client_id = options.get("audience"), options.get("client_id")
    if (
        not isinstance(issuers, list)
        or not isinstance(scopes, list)
        or not isinstance(audience, str)
        or not isinstance(client_id, str)
    ):
        raise ServiceUnreachable(f"{connection.server} does not say how to log in; is it of this version?")
    names = [str(name) for name in issuers]
    if wanted is not None and wanted not in names:
        raise click.UsageError(f"--issuer: expected one of {', '.join(names)}, not {wanted!r}")
    if wanted is None and len(names) != 1:
        raise click.UsageError(f"say with --issuer which identity provider: one of {', '.join(names)}")
    return Client(wanted or names[0], client_id, audience, tuple(str(scope) for scope in scopes))


def _expires(who: Mapping[str, object]) -> int:
    from ca_service.authority.fact_readers import Members, read_seconds

    try:
        return Members(who, "whoami").read("expires", read_seconds)
    except ValueError as error:
        raise LoginFailed(
            f"the service accepted the token and answered what is not understood: {error}"
        ) from None


def _store(url: str, token: str, expires: int, token_out: str | None) -> None:
    from ca_service.cli.tokens import keep
    from ca_service.files.durable import write_file

    if token_out == "-":  # noqa: S105 - standard output
        click.echo(token)
    elif token_out is not None:
        write_file(Path(token_out), (token + "\n").encode(), mode=0o600)
    else:
        click.echo(f"the token is kept in {keep(url, token, expires)}", err=True)
