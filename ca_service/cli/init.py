"""`init`: a new authority in a directory of its own."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import click
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from ca_service.vocabulary import format_time


@click.command()
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="The directory to make; it must not exist, or be empty.",
)
@click.option(
    "--url",
    default="http://127.0.0.1:5555",
    show_default=True,
    help="What signers call; https in production. Fixed for good.",
)
@click.option(
    "--status-url",
    help="What certificates name for CRL and OCSP, always plain http. Fixed for good.  [default: --url]",
)
@click.option(
    "--organization", default="ca-service", show_default=True, help="Who you are, in the authority's names."
)
@click.option(
    "--key-type",
    type=click.Choice(["p256", "p384"]),
    default="p256",
    show_default=True,
    help="The curve of root and issuing key.",
)
@click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Encrypt the private keys with the first line of this file (mode 0600).  [default:"
    " CASVC_KEYS__PASSPHRASE_FILE, or the passphrase in CASVC_KEYS__PASSPHRASE]",
)
def init(
    directory: Path,
    url: str,
    status_url: str | None,
    organization: str,
    key_type: str,
    passphrase_file: Path | None,
) -> None:
    """Make a new authority in a directory of its own.

    Makes a root (25 years) and an issuing certificate below it, the root's CRL, a transparency log, and
    DIR/ca.toml. Private files are readable by you alone. An existing authority is never overwritten, and when
    anything fails nothing is left behind.

    The addresses are written into every certificate for years to come, so choose names you will keep.
    """
    from ca_service.cli.founding import Plan, found
    from ca_service.settings import forms

    _require("--url", url, forms.origin_url)
    if status_url is not None:
        _require("--status-url", status_url, forms.plain_url)
    _require("--organization", organization, forms.title)
    if status_url is None:
        if not url.startswith("http://"):
            raise click.UsageError(
                "--status-url is needed because --url is not plain http: certificates must name a plain http"
                " address for CRL and OCSP, such as --status-url http://status.example.com"
            )
        status_url = url
    passphrase, passphrase_file = _passphrase(passphrase_file, os.environ)
    made = found(directory, Plan(url, status_url, organization, key_type, passphrase, passphrase_file))
    folder = made.settings_file.parent
    click.echo(f"Made a code-signing authority in {folder}")
    click.echo(f"  root      {_described(made.root)}")
    click.echo(f"  issuing   {_described(made.issuing)}")
    click.echo(f"  log       {made.log.origin}")
    click.echo(f"            log id {made.log.log_id.hex()}")
    click.echo(f"  settings  {made.settings_file}")
    click.echo("")
    click.echo("Next:")
    click.echo(f"  1. Name the identity providers you trust in {folder / 'issuers.yaml'}")
    click.echo(f"  2. Check:  ca-service doctor --config {made.settings_file}")
    click.echo(f"  3. Run:    ca-service serve --config {made.settings_file}")
    click.echo(
        f"  4. Move {folder / 'offline'} to a medium kept off this machine: only the root's CRL, due in"
    )
    click.echo("     12 months, and a new issuing certificate, due in 3 years, need the root key.")
    if passphrase is None:
        click.echo("The private keys are not encrypted; --passphrase-file would have done so.")


def _require(option: str, value: str, check: Callable[[str], str]) -> None:
    """Hold an option to what its setting must be, so that the refusal names the option."""
    try:
        check(value)
    except ValueError as error:
        # Not repeated: a URL may hold a password.
        raise click.UsageError(f"{option}: expected {error}") from None


def _passphrase(file: Path | None, environ: Mapping[str, str]) -> tuple[bytes | None, Path | None]:
    """The passphrase, and the file that ca.toml must name: what the environment says, `serve` hears too."""
    from ca_service.keys.file import read_passphrase
    from ca_service.settings.reading import environment_name

    variable, file_variable = environment_name("keys.passphrase"), environment_name("keys.passphrase_file")
    given = environ.get(variable)
    named = environ.get(file_variable)
    if given and (file is not None or named):
        raise click.UsageError(f"{variable} and a passphrase file are both given; which of them is meant?")
    if file is not None:
        return read_passphrase(file, setting="--passphrase-file"), file
    if named:
        return read_passphrase(Path(named), setting=file_variable), None
    return (given.encode() if given else None), None


def _described(certificate: x509.Certificate) -> str:
    name = certificate.subject.rfc4514_string()
    fingerprint = certificate.fingerprint(hashes.SHA256()).hex()
    return f"{name}, until {format_time(certificate.not_valid_after_utc)}\n            SHA-256 {fingerprint}"
