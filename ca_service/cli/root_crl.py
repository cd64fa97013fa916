"""`root-crl`: the root's next CRL, made with the root key at hand."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ca_service.cli.options import config_option, json_option
from ca_service.cli.root_key import read_root_key, root_key_options
from ca_service.errors import ConfigurationError
from ca_service.vocabulary import RevocationReason, Serial, format_seconds, format_time, parse_time

if TYPE_CHECKING:
    from cryptography import x509

    from ca_service.app.root_crls import RootCrl
    from ca_service.pki.crl import Entry
    from ca_service.settings import Settings


@click.command("root-crl")
@config_option()
@root_key_options
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Where to write it.  [default: [authority] root_crl, where a running service sees it at once]",
)
@click.option(
    "--days",
    type=click.IntRange(1, 400),
    default=365,
    show_default=True,
    help="How long it is valid, from now.",
)
@click.option(
    "--revoke",
    "revoked",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    multiple=True,
    metavar="CERT.pem",
    help="An issuing certificate of this root to put on it, for good; may be given several times.",
)
@click.option(
    "--reason",
    type=click.Choice([reason.label for reason in RevocationReason], case_sensitive=False),
    default=RevocationReason.KEY_COMPROMISE.label,
    show_default=True,
    help="Why those of --revoke are revoked.",
)
@click.option(
    "--revocation-date",
    metavar="TIME",
    help="From when on those of --revoke are not to be trusted (RFC 3339, or a date).  [default: now]",
)
@click.option(
    "--number",
    type=click.IntRange(min=1),
    help="Its number.  [default: the next; needed only when the list in force is lost]",
)
@json_option
def root_crl(
    settings: "Settings",
    root_key: Path,
    root_passphrase_file: Path | None,
    out: Path | None,
    days: int,
    revoked: tuple[Path, ...],
    reason: str,
    revocation_date: str | None,
    number: int | None,
    as_json: bool,
) -> None:
    """Sign the root's next CRL, with the root key.

    Clients that check the whole chain want it, and it runs out after a year; `doctor` says so 60 days before.
    Its number is the next one, what stood on the list stays on it, and it is verified before it replaces the
    file in one step. A running service serves it at the next request. Besides the key only public files are
    needed, so it can be signed on a machine without a network: copy ca.toml and authority/ there, and the
    list back, to every node of the service.

    \b
      ca-service root-crl --config ca.toml --root-key /media/root/root.key
      ca-service root-crl --config copy/ca.toml --root-key root.key --out root.crl
    """
    from ca_service.app import material
    from ca_service.app.root_crls import read_root_crl, sign_root_crl
    from ca_service.files.durable import write_file

    root = material.certificates(settings)[-1]
    key = read_root_key(settings, root_key, root_passphrase_file)
    target = out or settings.authority.root_crl
    before = _newest(settings, root, target, lost=number is not None)
    now = datetime.now(UTC).replace(microsecond=0)
    if before is not None and now.timestamp() < before.published.this_update:
        raise ConfigurationError(
            f"this machine's clock ({format_time(now)}) is behind the list in force, signed"
            f" {format_seconds(before.published.this_update)}; correct it first"
        )
    entries = _entries(root, revoked, RevocationReason.from_label(reason), revocation_date, now)
    chosen = number or (before.published.number + 1 if before else 1)
    der = sign_root_crl(
        root,
        key,
        before=before,
        number=chosen,
        this_update=now,
        next_update=min(now + timedelta(days=days), root.not_valid_after_utc),
        revoked=entries,
    )
    write_file(target, der, for_folder=True)
    written = read_root_crl(settings, root, target)
    facts = {
        "file": str(target),
        "number": written.published.number,
        "this_update": format_seconds(written.published.this_update),
        "next_update": format_seconds(written.published.next_update),
        "revoked": len(written.entries),
    }
    if as_json:
        click.echo(json.dumps(facts))
    else:
        click.echo(
            f"{target}: number {facts['number']}, valid until {facts['next_update']},"
            f" {facts['revoked']} issuing certificates revoked"
        )


def _newest(settings: "Settings", root: "x509.Certificate", target: Path, *, lost: bool) -> "RootCrl | None":
    """The newest list there is: the one in force, or one that waits in the place to write to."""
    from ca_service.app.root_crls import read_root_crl

    found = []
    for path in dict.fromkeys((settings.authority.root_crl, target.absolute())):
        try:
            found.append(read_root_crl(settings, root, path))
        except ConfigurationError:
            if path == settings.authority.root_crl and not lost:
                raise
    return max(found, key=lambda each: each.published.number, default=None)


def _entries(
    root: "x509.Certificate",
    files: tuple[Path, ...],
    reason: RevocationReason,
    date: str | None,
    now: datetime,
) -> tuple["Entry", ...]:
    from cryptography.exceptions import InvalidSignature

    from ca_service.cli.signature_files import read_signature_file
    from ca_service.pki.crl import Entry

    try:
        moment = now if date is None else parse_time(date)
    except ValueError as error:
        raise click.UsageError(f"--revocation-date: {error}") from None
    if moment > now:
        raise click.UsageError("--revocation-date: it is in the future; give a moment that has passed")
    entries = []
    for file in files:
        try:
            certificate = read_signature_file(file.read_bytes()).certificate
            certificate.verify_directly_issued_by(root)
        except (ValueError, TypeError, InvalidSignature):
            raise click.UsageError(f"--revoke: {file} holds no certificate that this root issued") from None
        if certificate == root:
            raise click.UsageError("--revoke: a root cannot be taken back by its own list")
        entries.append(Entry(Serial(certificate.serial_number), int(moment.timestamp()), reason.number))
    return tuple(entries)
