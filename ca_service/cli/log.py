"""`log`: the transparency log on this host."""

import click

from ca_service.cli.log_shards import freeze, list_shards, retire, rotate


@click.group()
def log() -> None:
    """Work on the transparency log of this host."""


for _command in (list_shards, rotate, freeze, retire):
    log.add_command(_command)
