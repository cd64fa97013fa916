"""The verbs under `log` that concern its shards: list, rotate, freeze, retire."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from ca_service.cli.options import config_option, json_option
from ca_service.vocabulary import format_seconds, parse_time

if TYPE_CHECKING:
    from ca_service.app.log_rotation import Rotation
    from ca_service.authority.log_shards import LogShard
    from ca_service.settings import Settings


@click.command(name="list")
@config_option()
@json_option
def list_shards(settings: "Settings", as_json: bool) -> None:
    """List the shards, the earliest period first.

    \b
      prepared  published, and takes nothing yet
      active    logs what is issued now
      ended     takes nothing more, and is frozen within minutes
      frozen    its final tree head is signed
      retired   closed out of turn, without a final tree head of its own
    """
    from ca_service.store.logs import SqlLogReader

    with _rotation(settings) as rotation:
        rows = []
        for shard, state in rotation.shards().values():
            size = SqlLogReader(rotation.database, shard.name).head().tree_size
            rows.append({**_facts(shard), "state": state.value, "tree_size": size})
    if as_json:
        click.echo(json.dumps(rows))
        return
    for row in rows:
        click.echo(f"{row['shard']:<12}  {row['state']:<8}  {row['tree_size']:>9} entries  {_period(row)}")
        if row["retired_for"]:
            click.echo(f"{'':<12}  retired: {row['retired_for']}")


@click.command()
@config_option()
@click.option(
    "--from",
    "start",
    metavar="TIME",
    help="Take certificates that expire then or later (RFC 3339, or a date).  [default: in 7 days]",
)
@click.option("--now", is_flag=True, help="Take what is issued from now on; for emergencies.")
@click.option("--name", metavar="NAME", help="The name of the new shard.  [default: the year it starts in]")
@json_option
def rotate(settings: "Settings", start: str | None, now: bool, name: str | None, as_json: bool) -> None:
    """Prepare the next shard of the log, with a key of its own.

    It is in trusted_root.json, on the page and at its own address within a second, without a restart, and
    takes certificates when its time has come; the shard before it is frozen soon after. Verifiers must fetch
    trusted_root.json again before that time, so leave them some: with --now, those who do not fetch it at
    once refuse new certificates.

    Given again with --from or --now, it moves the start of a shard that is prepared already.

    \b
      ca-service log rotate --config ca.toml
      ca-service log rotate --config ca.toml --from 2027-01-01
    """
    if start is not None and now:
        raise click.UsageError("give --from or --now, not both")
    with _rotation(settings) as rotation:
        starts = rotation.clock() // 1000 if now else None
        if start is not None:
            try:
                starts = int(parse_time(start).timestamp())
            except ValueError as error:
                raise click.UsageError(f"--from: {error}") from None
        prepared = rotation.prepare(starts, name)
    _tell_of_next(settings, prepared, as_json)


@click.command()
@click.argument("shard", metavar="SHARD")
@config_option()
@json_option
def freeze(settings: "Settings", shard: str, as_json: bool) -> None:
    """Sign the final tree head of a shard whose period is over.

    A running service does so by itself, a minute after the period; this is for when none runs. The shard
    stays readable. Its key is needed for nothing more afterwards: destroy it, and nobody can extend the log.
    """
    with _rotation(settings) as rotation:
        final = rotation.freeze(shard)
    facts = {
        "shard": shard,
        "tree_size": final.tree_size,
        "timestamp": format_seconds(final.timestamp // 1000),
        "root_hash": final.root_hash.hex(),
    }
    if as_json:
        click.echo(json.dumps(facts))
    else:
        click.echo(f"{shard}: frozen at {final.tree_size} entries, root hash {facts['root_hash']}")


@click.command()
@click.argument("shard", metavar="SHARD")
@config_option()
@click.option("--reason", required=True, help="Why; shown by `log list` and kept in the audit record.")
@click.option("--name", metavar="NAME", help="The name of the shard that is opened instead.")
@json_option
def retire(settings: "Settings", shard: str, reason: str, name: str | None, as_json: bool) -> None:
    """Close a shard at once and open the next.

    For a shard whose key others may have, or whose newest entries are lost. Nothing more is signed for it,
    not even a final tree head; it stays readable. What is issued from now on is in the next shard, so
    verifiers must fetch trusted_root.json again at once.
    """
    with _rotation(settings) as rotation:
        following = rotation.replace(shard, reason, name)
    if not as_json:
        click.echo(f"{shard}: retired")
    _tell_of_next(settings, following, as_json)


@contextmanager
def _rotation(settings: "Settings") -> "Iterator[Rotation]":
    from ca_service.app.log_rotation import Rotation
    from ca_service.app.rollback import guard_of
    from ca_service.cli.host import Unobserved, clock, local_actor
    from ca_service.store.database import Database

    database = Database(settings.database.url, folder=settings.folder)
    try:
        database.check()
        yield Rotation(settings, database, clock, local_actor(), guard_of(settings, database, Unobserved()))
    finally:
        database.close()


def _tell_of_next(settings: "Settings", shard: "LogShard", as_json: bool) -> None:
    from ca_service.app.material import log_key_file

    facts = {**_facts(shard), "key": str(log_key_file(settings, shard.name))}
    if as_json:
        click.echo(json.dumps(facts))
        return
    click.echo(f"{shard.name}: {_period(facts)}")
    click.echo(f"log id  {facts['log_id']}")
    click.echo(f"key     {facts['key']}")
    click.echo("Verifiers need it before: have them fetch trusted_root.json, or hand it out (export-trust).")


def _facts(shard: "LogShard") -> dict[str, str | None]:
    period = shard.period
    return {
        "shard": shard.name,
        "origin": shard.identity.origin,
        "log_id": shard.identity.log_id.hex(),
        "starts": format_seconds(period.starts) if period.starts else None,
        "ends": None if period.ends is None else format_seconds(period.ends),
        "retired_for": shard.retired_for or None,
    }


def _period(facts: Mapping[str, object]) -> str:
    since = f" from {facts['starts']}" if facts["starts"] else ""
    until = f" before {facts['ends']}" if facts["ends"] else ""
    return f"takes certificates that expire{since}{until}" if since or until else "takes every certificate"
