"""`audit`: who did what, when, why and from where."""

import json
from collections.abc import Mapping

import click

from ca_service.authority.facts import audit_facts, audit_head_facts
from ca_service.cli.desk import Desk, OpenDesk
from ca_service.cli.group import ANSWER_IS_NO, DONE
from ca_service.cli.options import desk_option, json_option
from ca_service.cli.tables import print_table, printable

_AT_ONCE = 1000
_LONGEST_TEXT = 300
_ORDER = {"comment": -5, "reason": -4, "selector": -3, "revocations": -2, "block": -1, "by_shard": 2}
"""Why and whom come first in a line that may be cut."""


@click.command()
@desk_option()
@click.option("--verify", is_flag=True, help="Check that no record was changed, taken out or cut off.")
@click.option(
    "--after",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Only records above this number.",
)
@json_option
def audit(open_desk: OpenDesk, verify: bool, after: int, as_json: bool) -> int:
    """Show what administrators did, oldest first.

    A record is written in the same transaction as what it records. Each holds the hash of the one before, and
    the high-water mark outside the database knows the newest: --verify follows the whole chain, with exit
    code 1 when it is broken.

    With --json every record is one line, with all that changed, before and after; --after goes on from the
    last sequence that you have.

    \b
      ca-service audit --config ca.toml
      ca-service audit --config ca.toml --verify
      ca-service audit --config ca.toml --json --after 4711 >> audit.jsonl
    """
    if verify and after:
        raise click.UsageError("--verify checks the whole chain; leave --after out")
    with open_desk() as desk:
        if verify:
            return _verify(desk, as_json=as_json)
        rows: list[dict[str, object]] = []
        while records := desk.audit_records(after, _AT_ONCE):
            after = records[-1].sequence
            if as_json:
                for record in records:
                    click.echo(json.dumps(audit_facts(record)))
            else:
                rows.extend(audit_facts(record) for record in records)
    if rows:
        print_table(
            ("record", "time", "who", "from", "what", "details"),
            (
                (
                    row["sequence"],
                    row["time"],
                    row["actor"],
                    row["source"],
                    row["action"],
                    _summary(row["detail"]),
                )
                for row in rows
            ),
        )
    elif not as_json:
        click.echo("no such record", err=True)
    return DONE


def _verify(desk: Desk, *, as_json: bool) -> int:
    try:
        head = desk.verify_audit()
    except ValueError as broken:
        if as_json:
            click.echo(json.dumps({"intact": False, "message": str(broken)}))
        else:
            click.echo(f"the audit trail is broken: {broken}", err=True)
        return ANSWER_IS_NO
    facts = audit_head_facts(head)
    if as_json:
        click.echo(json.dumps({"intact": True, **facts}))
    else:
        click.echo(
            f"{facts['records']} audit records follow one another; the newest has hash {facts['hash']}"
        )
    return DONE


def _summary(detail: object) -> str:
    """The essential of a record in one line; all of it is in the JSON."""
    if not isinstance(detail, Mapping):
        return ""
    said = []
    for name in sorted(detail, key=lambda name: (_ORDER.get(name, 1), name)):
        value = detail[name]
        if name == "revocations" and isinstance(value, list):
            said.append(f"revoked {value[0]['serial'] if len(value) == 1 else f'{len(value)} certificates'}")
        elif isinstance(value, Mapping):
            inner = " ".join(f"{key}={each}" for key, each in value.items() if each not in (None, ""))
            said.append(f"{name} ({inner})")
        elif value not in (None, ""):
            said.append(f"{name} {value}")
    return printable(", ".join(said)[:_LONGEST_TEXT])
