"""`withdraw`: correcting a wrong revocation."""

import json

import click

from ca_service.authority.facts import revocation_facts
from ca_service.cli.desk import OpenDesk
from ca_service.cli.group import DONE
from ca_service.cli.options import desk_option, json_option
from ca_service.cli.subjects import Subject, SubjectArgument


@click.command()
@click.argument("subject", type=SubjectArgument(), metavar="SERIAL|CERT.pem")
@desk_option()
@click.option("--comment", required=True, help="Why the revocation was wrong; for the audit record.")
@json_option
def withdraw(subject: Subject, open_desk: OpenDesk, comment: str, as_json: bool) -> int:
    """Take a revocation away that was a mistake.

    From the next question on, every worker answers good, and the next CRL no longer lists the certificate.
    But who asked before may go on believing what they were told: an OCSP answer for as long as it says
    (ocsp.valid_hours), a CRL until its nextUpdate (crl.valid_hours), and archives forever.

    What was taken away stays in the audit record. A block is lifted with `unblock`. Exit code 1 when the
    certificate is not revoked.

    \b
      ca-service withdraw leaf.pem --comment "wrong serial in ticket 4711" --config ca.toml
    """
    with open_desk() as desk:
        withdrawn = desk.withdraw(subject.serial, comment=comment)
    facts = revocation_facts(withdrawn)
    if as_json:
        click.echo(json.dumps(facts))
    else:
        click.echo(
            f"{facts['serial']}: no longer revoked; it was since {facts['revoked_at']} ({facts['reason']})"
        )
    return DONE
