"""`find`: which certificates were issued, and which of them still hold."""

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from ca_service.authority.ports import IssuedCertificate, Revocation, Selector
from ca_service.cli.group import ANSWER_IS_NO, DONE
from ca_service.cli.options import config_option, json_option
from ca_service.cli.selectors import selector_options
from ca_service.vocabulary import format_seconds, format_serial

if TYPE_CHECKING:
    from ca_service.settings import Settings


@click.command()
@config_option()
@selector_options
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="How many at most."
)
@json_option
def find(settings: "Settings", selector: Selector, limit: int, as_json: bool) -> int:
    """Find issued certificates, newest first.

    Selectors narrow each other down: a certificate must fit all that are given. --since and --until are a
    window: certificates valid at any moment in it. Exit code 1 when there is none.

    \b
      ca-service find --config ca.toml --identity '*@example.com' --since 2026-11-01
      ca-service find --config ca.toml --log-index 2026:17 --json
    """
    from ca_service.cli.host import desk_of

    with desk_of(settings) as desk:
        found = desk.find(selector, limit + 1)
    if len(found) > limit:
        click.echo(f"note: there are more than {limit}; raise --limit or narrow the selection", err=True)
    rows = [facts_of(certificate, revocation) for certificate, revocation in found[:limit]]
    if as_json:
        click.echo(json.dumps(rows))
    elif rows:
        _print_table(rows)
    else:
        click.echo("no such certificate", err=True)
    return DONE if rows else ANSWER_IS_NO


def facts_of(certificate: IssuedCertificate, revocation: Revocation | None) -> dict[str, object]:
    """What is told of a certificate, in the words that every other command accepts."""
    return {
        "serial": format_serial(certificate.serial),
        "identity": certificate.subject.value,
        "issuer": certificate.oidc_issuer,
        "not_before": format_seconds(certificate.not_before),
        "not_after": format_seconds(certificate.not_after),
        "key_sha256": certificate.key_sha256,
        "log_index": f"{certificate.log_shard}:{certificate.leaf_index}",
        "revocation": None if revocation is None else revocation_facts(revocation),
    }


def revocation_facts(revocation: Revocation) -> dict[str, str]:
    """What is told of a revocation."""
    return {
        "revocation_date": format_seconds(revocation.revocation_date),
        "revoked_at": format_seconds(revocation.revoked_at),
        "reason": revocation.reason.label,
        "comment": revocation.comment,
    }


def _print_table(rows: list[dict[str, object]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("serial", "identity", "issuer", "not before", "log index", "revoked from"):
        table.add_column(title, overflow="fold")
    for row in rows:
        revocation = row["revocation"]
        revoked = (
            f"{revocation['revocation_date']} {revocation['reason']}"
            if isinstance(revocation, Mapping)
            else ""
        )
        cells = (row["serial"], row["identity"], row["issuer"], row["not_before"], row["log_index"], revoked)
        # As Text: an identity is somebody else's words and must not style the table.
        table.add_row(*(Text(_printable(str(cell))) for cell in cells))
    # Into a pipe, lines are for other programs and stay whole.
    Console(width=None if sys.stdout.isatty() else 400, highlight=False).print(table)


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "�" for letter in text)
