"""`rotate`: the next issuing key, made with the root key at hand."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ca_service.cli.options import config_option, json_option
from ca_service.cli.root_key import read_root_key, root_key_options
from ca_service.vocabulary import format_time, parse_time

if TYPE_CHECKING:
    from ca_service.app.authority_rotation import Prepared
    from ca_service.settings import Settings


@click.group()
def rotate() -> None:
    """Replace the issuing key (for the log's key, see `log rotate`)."""


@rotate.command()
@config_option()
@root_key_options
@click.option(
    "--starts",
    metavar="TIME",
    help="When it takes over (RFC 3339, or a date).  [default: in 7 days]",
)
@click.option("--now", is_flag=True, help="Let it take over in ten seconds; for emergencies.")
@click.option(
    "--key-type",
    type=click.Choice(["p256", "p384"]),
    help="The curve of the new key.  [default: that of the newest]",
)
@json_option
def authority(
    settings: "Settings",
    root_key: Path,
    root_passphrase_file: Path | None,
    starts: str | None,
    now: bool,
    key_type: str | None,
    as_json: bool,
) -> None:
    """Prepare the next issuing key, under a name of its own, with the root key.

    It is in trusted_root.json, in the trust bundle and at its own address within a second, without a restart,
    and takes over when its time has come. Verifiers must fetch the trust material before that, so leave them
    some time: with --now, those who do not fetch it at once refuse new certificates.

    The key before it issues no more then, and must be kept: it signs CRLs and OCSP answers for what it
    issued, for years. Nothing is overwritten. After an interruption, give the command again.

    \b
      ca-service rotate authority --config ca.toml --root-key /media/root/root.key
      ca-service rotate authority --config ca.toml --root-key root.key --starts 2029-06-01
    """
    if starts is not None and now:
        raise click.UsageError("give --starts or --now, not both")
    from ca_service.app.authority_rotation import AuthorityRotation
    from ca_service.app.rollback import guard_of
    from ca_service.cli.host import Unobserved, clock, local_actor
    from ca_service.store.database import Database

    moment = clock() // 1000 if now else None
    if starts is not None:
        try:
            moment = int(parse_time(starts).timestamp())
        except ValueError as error:
            raise click.UsageError(f"--starts: {error}") from None
    key = read_root_key(settings, root_key, root_passphrase_file)
    database = Database(settings.database.url, folder=settings.folder)
    try:
        database.check()
        guard = guard_of(settings, database, Unobserved())
        prepared = AuthorityRotation(settings, database, clock, local_actor(), guard).prepare(
            key, moment, key_type
        )
    finally:
        database.close()
    _tell(prepared, as_json)


def _tell(prepared: "Prepared", as_json: bool) -> None:
    authority = prepared.authority
    facts = {
        "authority_key": authority.key_id,
        "subject": authority.certificate.subject.rfc4514_string(),
        "starts": format_time(prepared.starts),
        "issues_until": format_time(authority.issues_until),
        "not_after": format_time(authority.not_after),
        "folder": str(prepared.folder),
    }
    if as_json:
        click.echo(json.dumps(facts))
    else:
        click.echo(f"{facts['authority_key']}: {facts['subject']}")
        click.echo(f"issues  from {facts['starts']} until {facts['issues_until']}")
        click.echo(f"signs   CRLs and OCSP answers until {facts['not_after']}")
        click.echo(f"folder  {facts['folder']}")
        click.echo(
            "Verifiers need it before: have them fetch trusted_root.json, or hand it out (export-trust)."
        )
    if prepared.kept_short:
        click.echo(
            "The root ends before ten years after its last certificates: it is time to found a new root.",
            err=True,
        )
