"""`migrate`: bringing the database to what this version needs, or to PostgreSQL."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ca_service.cli.options import config_option

if TYPE_CHECKING:
    from ca_service.app.database_move import Move
    from ca_service.settings import Settings

_PATIENCE_SECONDS = 3600.0
"""How long another process that migrates is waited for: a million entries take minutes."""


@click.group(invoke_without_command=True)
@config_option(required=False)
@click.pass_context
def migrate(context: click.Context, settings: "Settings | None") -> None:
    """Bring the database to what this version of the program needs.

    Run it after an upgrade, while the service is stopped (on every node) and after a backup. All of it is
    one transaction: it is done, or the database is as before. When nothing is to be done, nothing is changed;
    of several who run it at once, one does it and the others wait. A database that a newer version made is
    refused, and one that a service has open, and a SQLite file that is to be written anew and has no room.

    \b
      ca-service migrate --config ca.toml
      ca-service migrate sqlite-to-postgresql --config ca.toml
    """
    if context.invoked_subcommand is not None:
        if settings is not None:
            raise click.UsageError(f"give --config after {context.invoked_subcommand}")
        return
    if settings is None:
        raise click.UsageError("--config is needed: the settings file that `init` made, or its folder")
    from ca_service.store.database import Database

    database = Database(settings.database.url, folder=settings.folder, lock_timeout=_PATIENCE_SECONDS)
    try:
        database.migrate()
    finally:
        database.close()
    click.echo("the database is as this version needs it")


@migrate.command("sqlite-to-postgresql")
@click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    required=True,
    help="The settings file (DIR/ca.toml), or its folder; it still names the SQLite database.",
)
@click.option(
    "--to",
    metavar="URL",
    help="The empty PostgreSQL database, without a password.  [default: CASVC_DATABASE__URL]",
)
def sqlite_to_postgresql(file: Path, to: str | None) -> None:
    """Move the whole history from SQLite into an empty PostgreSQL database.

    Logs with all their entries, certificates, revocations, CRLs with their numbers, blocks, used tokens and
    the audit trail, in one transaction: when anything fails, PostgreSQL is as empty as before and the SQLite
    file as it was. Every row is read back and compared, and each log's root is computed anew from its leaves,
    before it counts. Then the high-water mark rises to the new database, so that nothing can be signed from
    the old file any more, and that gets the name FILE.moved.

    Stop the service first: a file that is open elsewhere is refused, as is one of an older schema or behind
    its high-water mark, and a PostgreSQL database that holds another history or another program's tables.
    Interrupted after all was moved, it does what is left when it is run again.

    A password comes from ~/.pgpass, PGPASSWORD, or CASVC_DATABASE__URL; never from the command line.

    \b
      export CASVC_DATABASE__URL=postgresql+psycopg://ca@db.example.com/ca
      ca-service migrate sqlite-to-postgresql --config ca.toml
    """
    from ca_service.app.database_move import VARIABLE, Move
    from ca_service.cli.bars import Bars
    from ca_service.cli.host import clock, local_actor
    from ca_service.store.urls import without_secrets

    if to is not None and without_secrets(to) != to:
        raise click.UsageError(
            f"--to: a password does not belong on a command line; use ~/.pgpass, PGPASSWORD or {VARIABLE}"
        )
    path = file / "ca.toml" if file.is_dir() else file
    plan = Move.planned(path, to, os.environ, clock, local_actor())
    with Bars() as bars:
        moved = plan.run(bars.tell)
    if moved is None:
        click.echo("An earlier run had moved everything; what it left is done now.")
    else:
        count = sum(moved.rows.values())
        click.echo(f"Moved {count:,} rows of {len(moved.rows)} tables, read all of them back, and compared.")
        for log in moved.logs:
            click.echo(f"  log {log.shard}: {log.tree_size:,} entries make the root {log.root_hash.hex()}")
    _tell_what_next(plan, path)


def _tell_what_next(plan: "Move", path: Path) -> None:
    from ca_service.app.database_move import VARIABLE
    from ca_service.store.urls import without_secrets

    click.echo(f"The old file is {plan.retired} now.")
    click.echo("")
    click.echo("Next:")
    click.echo(f"  1. In {path}, under [database], write")
    click.echo(f'       url = "{without_secrets(plan.target.database.url)}"')
    click.echo(f"     or keep {VARIABLE} in the environment of the service and of every command.")
    click.echo("     A password stays out of the file: ~/.pgpass, PGPASSWORD, or that variable.")
    click.echo(f"  2. Check:  ca-service fsck --config {path}")
    click.echo(f"  3. Run:    ca-service serve --config {path}")
    click.echo("  4. Keep the old file until PostgreSQL has a backup. It is behind the high-water mark:")
    click.echo("     nothing can be signed from it.")
    click.echo(f"The high-water mark stays where it is, {plan.source.high_water_mark.path}.")
