"""`verify-inclusion`: is a certificate in the log that promised to hold it?"""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ca_service.cli.group import ANSWER_IS_NO, DONE
from ca_service.cli.options import config_option, json_option
from ca_service.cli.subjects import Subject, SubjectArgument
from ca_service.errors import ConfigurationError
from ca_service.vocabulary import format_serial, format_time

if TYPE_CHECKING:
    from ca_service.cli.inclusion_check import Gather, Inclusion
    from ca_service.cli.trusted_logs import Trust
    from ca_service.settings import Settings

_TRUSTED_ROOT = "trusted_root.json"
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(name="verify-inclusion")
@click.argument("subject", type=SubjectArgument(), metavar="CERT.pem")
@config_option(required=False)
@click.option(
    "--trust",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Whom to believe: a folder that `export-trust` made.",
)
@click.option("--log-url", metavar="URL", help="Read the log there, at a mirror, instead of at its own URL.")
@click.option("--save", type=_FILE, metavar="BUNDLE.json", help="Keep the proof, to check it again offline.")
@click.option(
    "--bundle", type=_FILE, metavar="BUNDLE.json", help="Check a proof that --save kept; asks nobody."
)
@json_option
def verify_inclusion(
    subject: Subject,
    settings: "Settings | None",
    trust: Path | None,
    log_url: str | None,
    save: Path | None,
    bundle: Path | None,
    as_json: bool,
) -> int:
    """Check that the log holds a certificate, as it promised.

    Clients check the promise alone, the timestamp (SCT) in the certificate. This checks that it was kept: the
    timestamp's signature, the entry at the place it names, octet for octet, the signature of the log's newest
    checkpoint, and the proof that leads from the entry to it. Nothing is believed but the keys of --trust or
    --config.

    The file is PEM (its first certificate), DER, a Sigstore bundle, a bundle of cosign 2, or a commit signed
    with gitsign; - is standard input. The log is read as static files (checkpoint and tiles), so a mirror or
    a plain file server will do.

    Exit codes: 0 proven, 1 not proven, 3 the log did not answer.
    """
    from ca_service.cli.inclusion_check import NotProven, verify
    from ca_service.cli.inclusion_evidence import write_bundle
    from ca_service.files.durable import write_file

    if subject.certificate is None:
        raise click.UsageError("a serial does not hold the log's promise; give the certificate's file")
    if bundle is not None and (save is not None or log_url is not None):
        raise click.UsageError("--bundle asks nobody, so there is nothing to save and no URL to ask")
    believed = _believed(settings, trust)
    serial = format_serial(subject.serial)
    try:
        proven = verify(subject.certificate, believed, _source(bundle, log_url))
    except NotProven as error:
        facts = {"serial": serial, "included": False, "failed_step": error.step, "message": error.message}
        sentence = f"{serial}: not proven to be in the log: {error.message}"
        click.echo(json.dumps(facts) if as_json else sentence)
        return ANSWER_IS_NO
    if save is not None:
        write_file(save.absolute(), write_bundle(proven).encode() + b"\n")
    origin = str(bundle) if bundle is not None else log_url or proven.log.url
    click.echo(json.dumps(_facts(serial, proven, origin)) if as_json else _text(serial, proven, origin))
    return DONE


def _facts(serial: str, proven: "Inclusion", source: str) -> dict[str, object]:
    return {
        "serial": serial,
        "included": True,
        "log_id": proven.log.log_id.hex(),
        "origin": proven.log.origin,
        "leaf_index": proven.leaf_index,
        "logged_at": format_time(proven.logged_at),
        "tree_size": proven.tree_size,
        "root_hash": proven.root_hash.hex(),
        "tree_signed_at": format_time(proven.tree_signed_at),
        "source": source,
    }


def _text(serial: str, proven: "Inclusion", source: str) -> str:
    return (
        f"{serial}: in the log {proven.log.origin}\n"
        f"  entry {proven.leaf_index}, logged {format_time(proven.logged_at)}\n"
        f"  tree of {proven.tree_size} entries, signed {format_time(proven.tree_signed_at)}\n"
        f"  root {proven.root_hash.hex()}\n"
        f"  proof from {source}"
    )


def _source(bundle: Path | None, log_url: str | None) -> "Gather":
    from ca_service.cli.inclusion_evidence import from_log, read_bundle

    if bundle is not None:
        try:
            saved = read_bundle(bundle)
        except ValueError as error:
            raise click.UsageError(str(error)) from error
        return lambda _log, _index: saved
    if log_url is not None:
        return lambda log, index: from_log(log.read_at(log_url), index)
    return from_log


def _believed(settings: "Settings | None", folder: Path | None) -> "Trust":
    from ca_service.cli.trusted_logs import trust_of_root

    if (settings is None) == (folder is None):
        raise click.UsageError("say whom to believe: give one of --config and --trust")
    if folder is not None:
        file = folder / _TRUSTED_ROOT
        try:
            return trust_of_root(json.loads(file.read_bytes()), file)
        except FileNotFoundError:
            raise ConfigurationError(f"{folder} has no {_TRUSTED_ROOT}; `export-trust` writes it") from None
        except (ValueError, RecursionError) as error:
            raise ConfigurationError(f"{file} is not JSON") from error
    assert settings is not None  # noqa: S101 - one of the two is given, as was just checked
    from ca_service.app import build_service

    service = build_service(settings)
    try:
        believed = trust_of_root(service.trust.trusted_root(), settings.origin.file)
        origins = {shard.identity.log_id: shard.identity.origin for shard in service.log.directory.all()}
    finally:
        service.close()
    # Here the database says each shard's name; elsewhere it follows from the shard's URL.
    logs = tuple(replace(log, origin=origins.get(log.log_id, log.origin)) for log in believed.logs)
    return replace(believed, logs=logs)
