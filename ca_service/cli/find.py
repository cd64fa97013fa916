"""`find`: which certificates were issued, and which of them still hold."""

import json

import click

from ca_service.authority.facts import certificate_facts
from ca_service.authority.status_ports import Selector
from ca_service.cli.desk import OpenDesk
from ca_service.cli.group import ANSWER_IS_NO, DONE
from ca_service.cli.options import desk_option, json_option
from ca_service.cli.selectors import selector_options
from ca_service.cli.tables import print_certificates


@click.command()
@desk_option()
@selector_options
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="How many at most."
)
@json_option
def find(open_desk: OpenDesk, selector: Selector, limit: int, as_json: bool) -> int:
    """Find issued certificates, newest first.

    Selectors narrow each other down: a certificate must fit all that are given. --since and --until are a
    window: certificates valid at any moment in it. Exit code 1 when there is none.

    \b
      ca-service find --config ca.toml --identity '*@example.com' --since 2026-11-01
      ca-service find --config ca.toml --log-index 2026:17 --json
    """
    with open_desk() as desk:
        found = desk.find(selector, limit + 1)
    if len(found) > limit:
        click.echo(f"note: there are more than {limit}; raise --limit or narrow the selection", err=True)
    rows = [certificate_facts(certificate, revocation) for certificate, revocation in found[:limit]]
    if as_json:
        click.echo(json.dumps(rows))
    elif rows:
        print_certificates(rows)
    else:
        click.echo("no such certificate", err=True)
    return DONE if rows else ANSWER_IS_NO
