"""`recover`: the way out when the database is not the newest there was."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ca_service.cli.group import ANSWER_IS_NO, DONE
from ca_service.cli.options import config_option
from ca_service.vocabulary import format_seconds

if TYPE_CHECKING:
    from ca_service.app.recovery import Recovered, Recovery, Seen
    from ca_service.settings import Settings


@click.command()
@config_option()
@click.option(
    "--crl",
    "sources",
    multiple=True,
    metavar="FILE|DIR|URL",
    help="A published CRL to take revocations back from: a DER file, a folder of *.crl, or an http URL. May"
    " be given several times; the newest of each shard is used.",
)
@click.option(
    "--accept-missing-crls", is_flag=True, help="Go on without CRLs that were published and cannot be found."
)
@click.option(
    "--accept-missing-mark",
    is_flag=True,
    help="Make the high-water mark from this database: only when the file is lost and you know that the"
    " database is the newest there is.",
)
@click.option("--yes", is_flag=True, help="Do not ask before changing anything.")
def recover(
    settings: "Settings",
    sources: tuple[str, ...],
    accept_missing_crls: bool,
    accept_missing_mark: bool,
    yes: bool,
) -> int:
    """Put right a database that is behind its high-water mark.

    A database that was restored from a backup has forgotten log entries and revocations. The service then
    signs nothing. This command shows what exactly was seen, takes the forgotten revocations back from CRLs
    that were published, raises all CRL numbers above those, closes the log shard whose entries were lost,
    opens the next one, and sets the mark anew. Stop the service first. Every step may be repeated.

    When the mark is lost as well, as with its machine, the same is done as far as the CRLs tell.

    \b
      ca-service recover --config ca.toml --crl /var/mirror/crl --crl http://mirror.example/2026-11-0a.crl
    """
    from ca_service.app.recovery import Recovery
    from ca_service.cli.host import Unobserved, clock, local_actor
    from ca_service.store.database import Database

    database = Database(settings.database.url, folder=settings.folder)
    try:
        database.check()
        recovery = Recovery(settings, database, clock, Unobserved(), local_actor())
        seen = recovery.look()
        if seen.trouble is not None:
            if accept_missing_mark and sources:
                raise click.UsageError(
                    "--accept-missing-mark says that this database is the newest there is, so that nothing is"
                    " to be taken back from CRLs; if it was restored from a backup, give --crl alone"
                )
            if accept_missing_mark:
                return _make_mark(recovery, seen, seen.trouble.message, yes=yes)
            if not sources:
                raise seen.trouble
        elif not seen.wrong:
            click.echo("The database is not behind its high-water mark; there is nothing to recover.")
            return DONE
        return _recover(recovery, seen, sources, accept_missing_crls=accept_missing_crls, yes=yes)
    finally:
        database.close()


def _recover(
    recovery: "Recovery", seen: "Seen", sources: tuple[str, ...], *, accept_missing_crls: bool, yes: bool
) -> int:
    if seen.trouble is not None:
        click.echo(f"{seen.trouble.message}. The database is taken for one that was restored from a backup.")
        click.echo("What the CRLs do not tell stays lost: give those of every month, the newest of each.")
    else:
        click.echo("The database is behind its high-water mark:")
    for one in seen.wrong:
        click.echo(f"  {one.sentence}")
    lists, refused = recovery.read(_contents(sources))
    for each in sorted(lists, key=lambda one: one.name):
        click.echo(
            f"CRL {each.name[1]} number {each.number} of {format_seconds(each.this_update)}: signature good, "
            f"{len(each.revocations)} revocations"
        )
    for why in refused:
        click.echo(f"not used: {why}", err=True)
    missing = recovery.missing(seen, lists)
    for name, number in sorted(missing.items()):
        click.echo(f"missing: {recovery.url_of(name)}, number {number} or later", err=True)
    if missing and not accept_missing_crls:
        click.echo(
            "Revocations in these CRLs would stay lost. Give them with --crl (a mirror, a cache, a verifier's"
            " disk), or go on without them with --accept-missing-crls.",
            err=True,
        )
        return ANSWER_IS_NO
    if seen.log_is_behind:
        click.echo("The log shard is closed for good and stays readable; the next one is opened.")
    if not yes:
        click.confirm("Is the service stopped, and should this be done?", abort=True)
    _tell(recovery.recover(seen, lists))
    return DONE


def _tell(done: "Recovered") -> None:
    click.echo(f"Revocations taken back: {done.revocations}; CRLs signed anew: {done.crls}")
    for shard in done.retired:
        click.echo(f"Log shard closed: {shard}")
    if done.opened is not None:
        identity = done.opened.identity
        click.echo(f"Log shard opened: {identity.shard}, log id {identity.log_id.hex()}")
        click.echo("Give clients the new trust material (`ca-service export-trust`) before they meet it.")
    click.echo("The high-water mark is set. Start the service, and check with `ca-service doctor`.")


def _make_mark(recovery: "Recovery", seen: "Seen", why: str, *, yes: bool) -> int:
    click.echo(f"{why}. The database says of itself:")
    for log_id, head in seen.found.logs.items():
        when = format_seconds(head.timestamp // 1000)
        click.echo(f"  log {log_id.hex()[:16]}: {head.tree_size} entries, newest head of {when}")
    click.echo(f"  revocation generation {seen.found.generation}, audit record {seen.found.audit_sequence}")
    if not yes:
        click.confirm("Is this the newest there was, and should a mark be made of it?", abort=True)
    recovery.accept_missing()
    click.echo("The high-water mark is set.")
    return DONE


def _contents(sources: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """The CRLs that are named; raises UsageError for a source that cannot be had."""
    for source in sources:
        if source.startswith(("http://", "https://")):
            yield source, _fetched(source)
            continue
        path = Path(source)
        try:
            files = sorted(path.rglob("*.crl")) if path.is_dir() else [path]
            for file in files:
                yield str(file), file.read_bytes()
        except OSError as error:
            raise click.UsageError(f"--crl {source}: {error.strerror}") from error


def _fetched(url: str) -> bytes:
    import requests

    from ca_service.cli.fetching import fetch

    try:
        return fetch(url)
    except (requests.RequestException, ValueError) as error:
        raise click.UsageError(f"--crl {url}: {error}") from error
