"""`crl`: the revocation lists, for verifiers without a network."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ca_service.cli.options import config_option, json_option

if TYPE_CHECKING:
    from ca_service.settings import Settings


@click.group()
def crl() -> None:
    """Carry the revocation lists to where no network is."""


@crl.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), metavar="DIR")
@click.option("--status-url", metavar="URL", help="The service's status address, without a closing slash.")
@config_option(required=False)
@json_option
def mirror(folder: Path, status_url: str | None, settings: "Settings | None", as_json: bool) -> None:
    """Copy every revocation list of a service into DIR, or bring the copies there up to date.

    Fetches the service's index, and of the lists only those that changed. A list is replaced in one step, by
    one with a higher number only, and checked against the hash in the index; its signature is checked by
    whoever reads it: `status --offline DIR`. No key and no database is needed. Run it at least daily; lists
    hold for a week.

    \b
      ca-service crl mirror /srv/crl --status-url http://status.example.com

    Exit codes: 0 done, 3 the service did not answer, or not with what its index promised.
    """
    from ca_service.cli.crl_mirror import copy

    if (status_url is None) == (settings is None):
        raise click.UsageError("say whose lists: give --status-url or --config")
    url = settings.service.status_url if settings is not None else str(status_url).rstrip("/")
    folder.mkdir(parents=True, exist_ok=True)
    copied = copy(url, folder)
    if as_json:
        click.echo(json.dumps({"folder": str(folder), "lists": copied.listed, "fetched": copied.fetched}))
    else:
        click.echo(f"{folder}: {copied.listed} lists, {copied.fetched} of them new")
