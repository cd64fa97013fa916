"""`migrate`: bringing the database to what this version needs."""

from typing import TYPE_CHECKING

import click

from ca_service.cli.options import config_option

if TYPE_CHECKING:
    from ca_service.settings import Settings

_PATIENCE_SECONDS = 3600.0
"""How long another process that migrates is waited for: a million entries take minutes."""


@click.command()
@config_option()
def migrate(settings: "Settings") -> None:
    """Bring the database to what this version of the program needs.

    Run it after an upgrade, while the service is stopped (on every node) and after a backup. All of it is
    one transaction: it is done, or the database is as before. When nothing is to be done, nothing is changed;
    of several who run it at once, one does it and the others wait. A database that a newer version made is
    refused, and one that a service has open, and a SQLite file that is to be written anew and has no room.
    """
    from ca_service.store.database import Database

    database = Database(settings.database.url, folder=settings.folder, lock_timeout=_PATIENCE_SECONDS)
    try:
        database.migrate()
    finally:
        database.close()
    click.echo("the database is as this version needs it")
