"""`dev` and `dev-token`: the service with an identity provider that believes everyone, on one machine."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from ca_service.errors import ConfigurationError, DevServerMissing

if TYPE_CHECKING:
    from ca_service.app import Service
    from ca_service.settings import Settings
    from ca_service.web.dev_idp import DevIdentityProvider

_BIND = "127.0.0.1:5555"
_LOOPBACK = ("127.0.0.0/8", "::1/128")
_MINT_SECONDS = 10

_BANNER = """\
Development mode: everybody gets a token for every address here. Not for production.

  service            {url}
  identity provider  {url}/dev-idp
  directory          {directory}

A token, in another terminal:
  ca-service dev-token --dir {directory} --email ada@example.com

Trust material, then a signature (sigstore-python; it needs a Rekor too):
  ca-service export-trust --config {directory}/ca.toml --out trust --rekor URL=KEY
  sigstore --trust-config trust/client_trust_config.json sign --identity-token TOKEN FILE

Stop with Ctrl-C.
"""


@click.command()
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="The authority's directory; made when it is not there.",
)
@click.option(
    "--bind",
    metavar="HOST:PORT",
    help=f"A loopback address to listen on.  [default: what the directory was made for, or {_BIND}]",
)
def dev(directory: Path, bind: str | None) -> None:
    """Run an authority with a development identity provider, on this machine only.

    Makes the authority when DIR has none. The identity provider, at URL/dev-idp, gives a token for any e-mail
    address to anybody, so only loopback addresses are taken. It exists in memory alone: DIR can be given to
    `serve` afterwards and knows nothing of it.
    """
    from ca_service.cli.serve import run_server
    from ca_service.web.dev_idp import DevIdentityProvider

    settings = _settings(directory.resolve(), bind)
    # Before the workers are forked, so that they share its key and its register of redeemed codes.
    admin = settings.admin
    provider = DevIdentityProvider(
        settings.service.url, admin_client=admin.client_id or admin.audience, admin_audience=admin.audience
    )
    with _announced(settings.folder, provider):
        run_server(settings, lambda: _service(settings, provider))


def _service(settings: "Settings", provider: "DevIdentityProvider") -> "Service":
    # run_server must have come first: what app imports looks for the metrics directory at once.
    from ca_service.app import build_service

    service = build_service(settings, dev=provider)
    # Said only now, when all that can be wrong with keys, database and address was found right.
    click.echo(_BANNER.format(url=provider.url, directory=settings.folder))
    return service


@click.command(name="dev-token")
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="The directory that a running `ca-service dev` serves.",
)
@click.option("--email", required=True, help="Whose token.")
@click.option("--audience", default="sigstore", show_default=True, help="Whom it is for.")
@click.option(
    "--claim",
    "claims",
    multiple=True,
    metavar="NAME=VALUE",
    help="A claim to add or replace, as often as you like; VALUE is read as JSON if it is JSON, else as text."
    " null leaves the claim out.",
)
@click.option(
    "--expires-in",
    type=int,
    default=600,
    show_default=True,
    metavar="SECONDS",
    help="How long it is good for; negative makes an expired one.",
)
def dev_token(directory: Path, email: str, audience: str, claims: tuple[str, ...], expires_in: int) -> None:
    """Print a signed ID token of the development identity provider, and nothing else.

    Asks the `ca-service dev` that runs on DIR. Standard claims can be replaced, so that tokens can be made
    that must be refused: --claim email_verified=false, --audience other, --expires-in -60.
    """
    order = {
        "email": email,
        "audience": audience,
        "claims": dict(_claim(text) for text in claims),
        "expires_in": expires_in,
    }
    click.echo(_mint(directory, order))


def _settings(directory: Path, bind: str | None) -> "Settings":
    """Load the directory's settings, making it when it is not there; raises ConfigurationError."""
    from ca_service.cli.founding import Plan, found
    from ca_service.settings import load_settings
    from ca_service.settings.reading import with_values

    if bind is not None:
        _check_bind(bind)
    if not (directory / "ca.toml").exists():
        url = f"http://{bind or _BIND}"
        found(directory, Plan(url=url, status_url=url, organization="ca-service development"))
    settings = load_settings(directory / "ca.toml", os.environ)
    changes = {
        "server.bind": _address_of(settings.service.url, directory, bind),
        "oidc.private_networks": list(dict.fromkeys((*settings.oidc.private_networks, *_LOOPBACK))),
    }
    return with_values(settings, changes, "ca-service dev")


def _check_bind(bind: str) -> None:
    from ca_service.settings.forms import address, is_loopback

    try:
        address(bind)
    except ValueError as error:
        raise ConfigurationError(f"--bind: expected {error}, not {bind!r}") from None
    if not is_loopback(bind):
        raise ConfigurationError(
            f"--bind: expected a loopback address, such as {_BIND} or [::1]:5555, not {bind!r}: the"
            " development identity provider believes everyone who can reach it"
        )
    if bind.endswith(":0"):
        raise ConfigurationError(
            "--bind: expected a port of your choice, not 0: certificates name the address for good"
        )


def _address_of(url: str, directory: Path, bind: str | None) -> str:
    """Find the address to listen on for the URL that `init` fixed, refusing what does not fit it."""
    from ca_service.settings.forms import is_loopback

    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else str(parts.hostname)
    made_for = f"{host}:{parts.port or 80}"
    if parts.scheme != "http" or not is_loopback(made_for):
        raise ConfigurationError(
            f"the authority in {directory} was made for {url}, not for this machine alone, and `dev` would"
            " have it believe everyone; choose another --dir for development"
        )
    if bind is not None and _numeric(bind) != _numeric(made_for):
        raise ConfigurationError(
            f"the authority in {directory} was made for {url}, which its certificates name for good, and"
            f" --bind {bind} is another address; start it with --bind {made_for}, or choose another --dir"
        )
    return _numeric(made_for)


def _numeric(bind: str) -> str:
    host, _, port = bind.rpartition(":")
    return f"127.0.0.1:{port}" if host.lower() == "localhost" else f"{host}:{port}"


@contextmanager
def _announced(folder: Path, provider: "DevIdentityProvider") -> Iterator[None]:
    """Leave in DIR/run/dev.json what `dev-token` needs for as long as the block runs.

    The lock beside it, which the kernel lifts however the process ends, keeps a second `dev` on the same
    directory from replacing the file. Raises ConfigurationError when one runs already.
    """
    from ca_service.files.durable import write_file

    run = folder / "run"
    run.mkdir(mode=0o700, exist_ok=True)
    file = run / "dev.json"
    owner = os.getpid()
    with (run / "dev.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(
                f"another `ca-service dev` runs on {folder} already; stop it first, or choose another --dir"
            ) from None
        runtime = {"url": provider.url, "secret": provider.mint_secret, "pid": owner}
        write_file(file, json.dumps(runtime).encode(), mode=0o600)
        try:
            yield
        finally:
            # Worker processes leave through here as well, when they end; the file is the first process's.
            if os.getpid() == owner:
                file.unlink(missing_ok=True)


def _claim(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not name or not separator:
        raise click.UsageError(f"--claim: expected NAME=VALUE, not {text!r}")
    try:
        return name, json.loads(value, parse_constant=_no_json)
    except (ValueError, RecursionError):
        return name, value


def _no_json(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _mint(directory: Path, order: dict[str, Any]) -> str:
    import requests

    start = f"start one with `ca-service dev --dir {directory}`"
    try:
        runtime = json.loads((directory / "run" / "dev.json").read_text())
        url, secret = str(runtime["url"]), str(runtime["secret"])
    except FileNotFoundError:
        raise DevServerMissing(f"no development server runs on {directory}; {start}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DevServerMissing(f"{directory}/run/dev.json is damaged; {start}") from error
    with requests.Session() as session:
        # It is on this machine: a proxy of the environment would only see the secret.
        session.trust_env = False
        try:
            reply = session.post(
                f"{url}/dev-idp/mint",
                json=order,
                headers={"Authorization": f"Bearer {secret}"},
                timeout=_MINT_SECONDS,
                allow_redirects=False,
            )
            answer = reply.json()
        except requests.RequestException as error:
            raise DevServerMissing(
                f"the development server of {directory} does not answer at {url}; {start}"
            ) from error
    if reply.status_code == 400 and isinstance(answer, dict):
        raise click.UsageError(str(answer.get("error_description", "the provider refused the order")))
    if reply.status_code != 200 or not isinstance(answer, dict) or "token" not in answer:
        raise DevServerMissing(
            f"what answers at {url} is not the development server of {directory} (status"
            f" {reply.status_code}); {start}"
        )
    return str(answer["token"])
