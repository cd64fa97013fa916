"""`revoke`: taking certificates back."""

import json

import click

from ca_service.authority.facts import revocation_facts
from ca_service.cli.desk import OpenDesk
from ca_service.cli.options import desk_option, json_option
from ca_service.cli.subjects import Subject, SubjectArgument
from ca_service.vocabulary import RevocationReason, parse_time


@click.group()
def revoke() -> None:
    """Take certificates back.

    For good, and from a moment that you choose.
    """


@revoke.command()
@click.argument("subject", type=SubjectArgument(), metavar="SERIAL|CERT.pem")
@desk_option()
@click.option(
    "--reason",
    type=click.Choice([reason.label for reason in RevocationReason], case_sensitive=False),
    default=RevocationReason.UNSPECIFIED.label,
    metavar="REASON",
    show_default=True,
    help="Why; published in CRL and OCSP. One of " + ", ".join(each.label for each in RevocationReason) + ".",
)
@click.option(
    "--revocation-date",
    metavar="TIME",
    help="From when its signatures are not to be trusted (RFC 3339, or a date).  [default: its notBefore]",
)
@click.option("--comment", default="", help="For the audit record; never published.")
@json_option
def certificate(
    subject: Subject,
    open_desk: OpenDesk,
    reason: str,
    revocation_date: str | None,
    comment: str,
    as_json: bool,
) -> int:
    """Take one certificate back, and with it the one artifact that its key signed.

    From the next question on, every worker answers revoked, and the certificate's CRL shows it. It cannot be
    undone; a second revocation can only make it stricter: an earlier date, or a reason where none was given.

    The certificate is named by its serial or by a file: PEM, DER or a Sigstore bundle; - is standard input.

    \b
      ca-service revoke certificate leaf.pem --config ca.toml --reason keyCompromise --comment "ticket 4711"
    """
    moment = None
    if revocation_date is not None:
        try:
            moment = int(parse_time(revocation_date).timestamp())
        except ValueError as error:
            raise click.UsageError(f"--revocation-date: {error}") from None
    with open_desk() as desk:
        stands = desk.revoke_certificate(
            subject.serial,
            reason=RevocationReason.from_label(reason),
            revocation_date=moment,
            comment=comment,
        )
    facts = revocation_facts(stands)
    if as_json:
        click.echo(json.dumps(facts))
    else:
        click.echo(
            f"{facts['serial']}: revoked ({facts['reason']}); signatures from {facts['revocation_date']} on"
            " are not to be trusted"
        )
    return 0
