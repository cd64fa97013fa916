"""`migrate`: bringing the database to what this version needs."""

from typing import TYPE_CHECKING

import click

from ca_service.cli.options import config_option

if TYPE_CHECKING:
    from ca_service.settings import Settings


@click.command()
@config_option()
def migrate(settings: "Settings") -> None:
    """Bring the database to what this version of the program needs.

    Run it after an upgrade, while the service is stopped and after a backup. When nothing is to be done,
    nothing is changed. A database that a newer version made is refused.
    """
    from ca_service.store.database import Database

    database = Database(settings.database.url, folder=settings.folder)
    try:
        database.migrate()
    finally:
        database.close()
    click.echo("the database is as this version needs it")
