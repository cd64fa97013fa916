"""`doctor`: is everything as `serve` needs it, and which settings are in effect?"""

import json
from typing import TYPE_CHECKING

import click

from ca_service.cli.group import ANSWER_IS_NO, DONE
from ca_service.cli.options import config_option, json_option

if TYPE_CHECKING:
    from ca_service.cli.findings import Finding
    from ca_service.settings import Settings

_MARKS = {"good": "ok  ", "warning": "note", "failed": "FAIL"}


@click.command()
@config_option()
@click.option("--offline", is_flag=True, help="Do not ask the identity providers.")
@json_option
def doctor(settings: "Settings", offline: bool, as_json: bool) -> int:
    """Check everything that `serve` needs, and show the settings.

    Shows each effective setting and where it came from: default, file or environment. Then checks the keys
    (who may read them, whether they fit), the chain, the age of the root's CRL, the database, the clock
    against the log, has a configured Redis count to one, and asks each identity provider for its keys.
    Nothing else is changed.

    Exit code 1 when a check failed.
    """
    from ca_service.cli.checkup import examine
    from ca_service.cli.findings import FAILED
    from ca_service.settings.reading import setting_names, shown

    sources = settings.origin.sources
    rows = [(name, shown(settings, name), sources.get(name, "default")) for name in setting_names()]
    findings = list(examine(settings, ask_issuers=not offline))
    failed = sum(finding.verdict == FAILED for finding in findings)
    if as_json:
        report = {
            "file": str(settings.origin.file),
            "settings": [{"name": name, "value": value, "source": source} for name, value, source in rows],
            "checks": [
                {"check": one.check, "verdict": one.verdict, "detail": one.detail} for one in findings
            ],
            "failed": failed,
        }
        click.echo(json.dumps(report))
    else:
        _print(str(settings.origin.file), rows, findings)
    return ANSWER_IS_NO if failed else DONE


def _print(file: str, rows: list[tuple[str, str, str]], findings: "list[Finding]") -> None:
    from ca_service.settings.reading import written

    click.echo(f"Settings of {file}")
    widest = max(len(written(name)) for name, _, _ in rows)
    for name, value, source in rows:
        click.echo(f"  {written(name).ljust(widest)}  {value or '(empty)'}  [{source}]")
    click.echo("")
    click.echo("Checks")
    for one in findings:
        click.echo(f"  {_MARKS[one.verdict]}  {one.check}: {one.detail}")
