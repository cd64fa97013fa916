"""`log`: the transparency log on this host."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ca_service.cli.log_shards import freeze, list_shards, retire, rotate
from ca_service.cli.options import config_option

if TYPE_CHECKING:
    from ca_service.settings import Settings


@click.group()
def log() -> None:
    """Work on the transparency log of this host."""


for _command in (list_shards, rotate, freeze, retire):
    log.add_command(_command)


@log.command()
@config_option()
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="The folder to publish into, instead of [log] export_dir; made when absent.",
)
def export(settings: "Settings", folder: Path | None) -> None:
    """Write the log as static files, for nginx or a CDN to serve.

    Tiles, issuers, log.v3.json and last the checkpoint of each shard get into a folder named after it. What
    is there is compared and kept, so it can be run as often as you like, and again after it was interrupted.
    It needs the database, no private key. A running service with [log] export_dir set does the same each
    second.

    Exit codes: 0 done, 1 the folder holds something else than this log, 3 database or folder fail.
    """
    from ca_service.app.log_export import export_log
    from ca_service.cli.host import clock

    chosen = folder or settings.log.export_dir
    if chosen is None:
        raise click.UsageError("say where to: give --dir, or set [log] export_dir")
    for path, published in export_log(settings, chosen.absolute(), clock):
        click.echo(f"{path}: {published.tree_size} entries published, {published.stored} files written")
