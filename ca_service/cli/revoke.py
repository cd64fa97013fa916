"""`revoke`: taking certificates back."""

import json
from typing import Any

import click

from ca_service.authority.desk_ports import IdentityRevocation, Preview
from ca_service.authority.facts import (
    block_facts,
    certificate_facts,
    identity_revocation_facts,
    preview_facts,
    revocation_facts,
)
from ca_service.authority.status_ports import Block, Selector
from ca_service.cli.desk import OpenDesk
from ca_service.cli.group import ANSWER_IS_NO, DONE
from ca_service.cli.options import Moment, desk_option, json_option
from ca_service.cli.selectors import selector_options
from ca_service.cli.subjects import Subject, SubjectArgument
from ca_service.cli.tables import print_certificates, printable
from ca_service.vocabulary import RevocationReason, format_seconds

_LISTED_IN_TEXT, _LISTED_IN_JSON = 1000, 100_000


class Reason(click.ParamType[RevocationReason]):
    """A revocation reason by its RFC 5280 name, in any case."""

    name = "reason"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> RevocationReason:
        """Read it; a wrong one is a usage error that lists them."""
        if isinstance(value, RevocationReason):
            return value
        try:
            return RevocationReason.from_label(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


_reason_option = click.option(
    "--reason",
    type=Reason(),
    default=RevocationReason.UNSPECIFIED.label,
    metavar="REASON",
    show_default=True,
    help="Why; published in CRL and OCSP. One of " + ", ".join(each.label for each in RevocationReason) + ".",
)


@click.group()
def revoke() -> None:
    """Take certificates back.

    For good, and from a moment that you choose. What was a mistake, `withdraw` corrects.
    """


@revoke.command()
@click.argument("subject", type=SubjectArgument(), metavar="SERIAL|CERT.pem")
@desk_option()
@_reason_option
@click.option(
    "--revocation-date",
    type=Moment(),
    metavar="TIME",
    help="From when its signatures are not to be trusted (RFC 3339, or a date).  [default: its notBefore]",
)
@click.option("--comment", default="", help="For the audit record; never published.")
@json_option
def certificate(
    subject: Subject,
    open_desk: OpenDesk,
    reason: RevocationReason,
    revocation_date: int | None,
    comment: str,
    as_json: bool,
) -> int:
    """Take one certificate back, and with it the one artifact that its key signed.

    From the next question on, every worker answers revoked, and the certificate's CRL shows it. A second
    revocation can only make it stricter: an earlier date, a reason where none was given, or keyCompromise in
    place of another.

    The certificate is named by its serial or by a file: PEM, DER, a Sigstore bundle, a bundle of cosign 2, or
    a commit signed with gitsign; - is standard input.

    \b
      ca-service revoke certificate leaf.pem --config ca.toml --reason keyCompromise --comment "ticket 4711"
    """
    with open_desk() as desk:
        stands = desk.revoke_certificate(
            subject.serial, reason=reason, revocation_date=revocation_date, comment=comment
        )
    facts = revocation_facts(stands)
    if as_json:
        click.echo(json.dumps(facts))
    else:
        click.echo(
            f"{facts['serial']}: revoked ({facts['reason']}); signatures from {facts['revocation_date']} on"
            " are not to be trusted"
        )
    return DONE


@revoke.command()
@desk_option()
@selector_options
@_reason_option
@click.option(
    "--revocation-date",
    type=Moment(),
    metavar="TIME",
    help="From when the signatures are not to be trusted.  [default: each notBefore, or --since if later]",
)
@click.option("--no-block", is_flag=True, help="Only take back; the identity may get new certificates.")
@click.option("--block-expires", type=Moment(), metavar="TIME", help="Lift the block by itself at this time.")
@click.option("--dry-run", is_flag=True, help="Only list what would be taken back and blocked.")
@click.option("--all", "everybody", is_flag=True, help="Confirm a selector that means everybody.")
@click.option("--comment", default="", help="For the audit record and `blocks`; never published.")
@json_option
def identity(
    open_desk: OpenDesk,
    selector: Selector,
    reason: RevocationReason,
    revocation_date: int | None,
    no_block: bool,
    block_expires: int | None,
    dry_run: bool,
    everybody: bool,
    comment: str,
    as_json: bool,
) -> int:
    """Take back everything that somebody got, and block who it was.

    Selectors narrow each other down. With --since and --until (certificates valid at any moment in that
    window) it is what a stolen account signed since Tuesday; earlier certificates are left alone. With a
    serial or log index the block is for the identity of that certificate.

    All of it is one step: no certificate that is issued meanwhile escapes, and `unblock` alone lifts the
    block. Given again, it takes back what has come since and changes nothing else.

    Exit code 1 when there is nothing to take back or to block; with --dry-run: nothing to take back.

    \b
      ca-service revoke identity --identity ada@example.com --since 2026-11-17 --dry-run --config ca.toml
      ca-service revoke identity --identity ada@example.com --since 2026-11-17 --reason keyCompromise \\
          --comment "laptop stolen, ticket 4711" --config ca.toml
      ca-service revoke identity --identity '*@example.org' --no-block --config ca.toml
    """
    if no_block and block_expires is not None:
        raise click.UsageError("give --no-block or --block-expires, not both")
    with open_desk() as desk:
        if dry_run:
            limit = _LISTED_IN_JSON if as_json else _LISTED_IN_TEXT
            preview = desk.preview(selector, revocation_date=revocation_date, reason=reason, limit=limit)
            return _tell_before(preview, no_block=no_block, as_json=as_json)
        done = desk.revoke_identity(
            selector,
            reason=reason,
            revocation_date=revocation_date,
            block=not no_block,
            block_expires=block_expires,
            everybody=everybody,
            comment=comment,
        )
    return _tell_after(done, as_json=as_json)


def _tell_before(preview: Preview, *, no_block: bool, as_json: bool) -> int:
    blocks = [] if no_block else preview.blocks
    if as_json:
        click.echo(json.dumps({**preview_facts(preview), "blocks": [block_facts(one) for one in blocks]}))
    else:
        click.echo(
            f"would take back {preview.to_revoke} of {_certificates(preview.matched)}"
            + (f"; {preview.already_revoked} stay revoked as they are" if preview.already_revoked else "")
        )
        for shard, count in preview.by_shard.items():
            click.echo(f"  {count:>6}  in CRL {shard}")
        for block in blocks:
            click.echo(f"would block {_named(block)}" + (" (already blocked)" if block.number else ""))
        if preview.certificates:
            print_certificates([certificate_facts(one, None) for one in preview.certificates])
    if (more := preview.to_revoke - len(preview.certificates)) > 0:
        click.echo(f"note: {more} more are not listed", err=True)
    return DONE if preview.to_revoke else ANSWER_IS_NO


def _tell_after(done: IdentityRevocation, *, as_json: bool) -> int:
    if as_json:
        click.echo(json.dumps(identity_revocation_facts(done)))
    else:
        click.echo(
            f"took back {done.revoked} of {_certificates(done.matched)}"
            + (f"; {done.unchanged} stay revoked as they were" if done.unchanged else "")
        )
        for shard, count in done.by_shard.items():
            click.echo(f"  {count:>6}  in CRL {shard}")
        if done.block is not None:
            until = "`unblock`" if done.block.expires is None else format_seconds(done.block.expires)
            click.echo(f"block {done.block.number}: {_named(done.block)} gets nothing until {until}")
    if not done.matched:
        click.echo("note: no certificate matches; check how the selector is written", err=True)
    return DONE if done.matched or done.block is not None else ANSWER_IS_NO


def _certificates(count: int) -> str:
    return "1 certificate" if count == 1 else f"{count} certificates"


def _named(block: Block) -> str:
    names = (
        ("identity", block.subject),
        ("issuer", block.oidc_issuer),
        ("subject", block.oidc_subject),
        ("key", block.key_sha256),
    )
    return ", ".join(f"{name} {printable(value)}" for name, value in names if value is not None)
