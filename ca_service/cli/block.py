"""`block`, `unblock` and `blocks`: who gets no certificates."""

import json
import time

import click

from ca_service.authority.facts import block_facts
from ca_service.authority.status_ports import Selector
from ca_service.cli.desk import OpenDesk
from ca_service.cli.group import DONE
from ca_service.cli.options import Moment, desk_option, json_option
from ca_service.cli.selectors import optional_selector, selector_options
from ca_service.cli.tables import print_blocks
from ca_service.vocabulary import format_seconds


@click.command()
@desk_option()
@selector_options
@click.option(
    "--reason", default="", help="Why; for `blocks` and the audit record, never told to those refused."
)
@click.option("--expires", type=Moment(), metavar="TIME", help="Lift it by itself at this time.")
@click.option("--all", "everybody", is_flag=True, help="Confirm a pattern that means everybody.")
@json_option
def block(
    open_desk: OpenDesk, selector: Selector, reason: str, expires: int | None, everybody: bool, as_json: bool
) -> int:
    """Give somebody no more certificates.

    Selectors narrow each other down: only who fits all that are given is blocked. Names are compared without
    regard to case; * and ? stand for any text. A serial or log index means the identity of that certificate.
    What was issued before stays valid: see `revoke identity`.

    It counts from the moment this returns, in every worker. Who is blocked already stays so: a second block
    can only last longer.

    \b
      ca-service block --identity ada@example.com --reason "laptop stolen" --config ca.toml
      ca-service block --issuer https://ci.example.org --expires 2026-12-01 --config ca.toml
    """
    if selector.since is not None or selector.until is not None:
        raise click.UsageError(
            "a block counts from now on and takes no --since or --until; --expires gives its end"
        )
    with open_desk() as desk:
        stand = desk.block(selector, reason=reason, expires=expires, everybody=everybody)
    facts = [block_facts(one) for one in stand]
    if as_json:
        click.echo(json.dumps(facts))
    else:
        _print(facts)
    return DONE


@click.command()
@desk_option()
@optional_selector
@click.option("--number", type=click.IntRange(min=1), help="The block's number, as `blocks` shows it.")
@click.option("--comment", default="", help="Why; for the audit record.")
@json_option
def unblock(open_desk: OpenDesk, selector: Selector, number: int | None, comment: str, as_json: bool) -> int:
    """Lift a block.

    By its number, or by exactly the selectors that it was made with: lifting the block of one identity leaves
    a block of its whole domain alone. Exit code 1 when there is no such block.

    \b
      ca-service unblock --number 7 --comment "new laptop" --config ca.toml
      ca-service unblock --identity ada@example.com --config ca.toml
    """
    if (selector == Selector()) == (number is None):
        raise click.UsageError("give either --number N or selectors such as --identity ada@example.com")
    with open_desk() as desk:
        lifted = desk.unblock(selector if number is None else number, comment=comment)
    facts = [block_facts(one) for one in lifted]
    if as_json:
        click.echo(json.dumps(facts))
    else:
        click.echo("lifted:")
        _print(facts)
    return DONE


@click.command()
@desk_option()
@json_option
def blocks(open_desk: OpenDesk, as_json: bool) -> int:
    """List who gets no certificates.

    Blocks that have expired refuse nobody; they are listed until they are lifted.

    \b
      ca-service blocks --config ca.toml
      ca-service blocks --config ca.toml --json
    """
    with open_desk() as desk:
        facts = [block_facts(one) for one in desk.blocks()]
    if as_json:
        click.echo(json.dumps(facts))
    elif facts:
        _print(facts)
    else:
        click.echo("nobody is blocked", err=True)
    return DONE


def _print(facts: list[dict[str, object]]) -> None:
    print_blocks(facts, format_seconds(int(time.time())))
