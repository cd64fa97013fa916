"""`backup`: a copy from which the authority can go on elsewhere."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ca_service.cli.options import config_option

if TYPE_CHECKING:
    from ca_service.settings import Settings


@click.command()
@config_option()
@click.option(
    "--out",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    required=True,
    help="The folder to make, on another disk; it must not exist.",
)
@click.option(
    "--database-only", is_flag=True, help="Copy the database alone; keys and settings change rarely."
)
def backup(settings: "Settings", folder: Path, database_only: bool) -> None:
    """Copy everything that is needed to go on elsewhere, while the service runs.

    The database as it is at one moment, keys, certificates, issuers and settings, in a folder that only you
    can read: a folder like the one that `init` made. Private keys are in it, encrypted if yours are.

    Never in it: the high-water mark, which must not be restored, the root key in DIR/offline, and the
    passphrase of the keys. A PostgreSQL database is not in it either: `pg_dump` it first.

    \b
      ca-service backup --config ca.toml --out /backup/2026-11-23
      ca-service fsck --no-mark --config /backup/2026-11-23
    """
    from ca_service.app.backup import back_up

    made = back_up(settings, folder, database_only=database_only)
    if made.position is not None:
        sizes = " and ".join(f"{head.tree_size:,}" for head in made.position.logs.values())
        click.echo(
            f"database: {sizes} log entries, revocation generation {made.position.generation}, "
            f"audit record {made.position.audit_sequence}"
        )
    if not database_only:
        click.echo(f"files:    {made.files}")
    click.echo(f"The backup is in {folder.absolute()}.")
    for sentence in made.left_out:
        click.echo(f"not in it: {sentence}", err=True)
