"""`export-trust`: what verifiers and signing clients must hold."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from ca_service.cli.options import config_option

if TYPE_CHECKING:
    from ca_service.authority.trust import OutsideRekor, OutsideTsa
    from ca_service.settings import Settings

_Outside = TypeVar("_Outside")


@click.command(name="export-trust")
@config_option()
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    metavar="DIR",
    help="The folder to write to; made when absent, files in it are replaced.",
)
@click.option(
    "--rekor",
    "rekors",
    multiple=True,
    metavar="URL=KEY.pem",
    help="An artifact log that clients use, and its key.",
)
@click.option(
    "--rekor-v2",
    "rekors_v2",
    multiple=True,
    metavar="URL=KEY.pem",
    help="The same, when it is a Rekor 2; a timestamp authority is needed with it.",
)
@click.option(
    "--tsa", "tsas", multiple=True, metavar="URL=CHAIN.pem", help="A timestamp authority and its chain."
)
def export_trust(
    settings: "Settings",
    out: Path,
    rekors: tuple[str, ...],
    rekors_v2: tuple[str, ...],
    tsas: tuple[str, ...],
) -> None:
    """Write what verifiers and signing clients must hold.

    All of it is public.

    \b
      trusted_root.json         chain, log key, and the Rekor and TSA you name
      fulcio.pem                issuing certificates and root, for openssl, Java and the like
      ctlog.pub                 the log's key, for cosign's SIGSTORE_CT_LOG_PUBLIC_KEY_FILE
      signing_config.json       where clients sign; needs --rekor, or for cosign alone --tsa
      client_trust_config.json  both in one, for sigstore-python --trust-config; needs --rekor
    """
    from ca_service.app import build_service
    from ca_service.files.durable import write_file
    from ca_service.web.fulcio import chains_pem

    if rekors_v2 and not tsas:
        raise click.UsageError(
            "--rekor-v2: a Rekor 2 does not tell when a signature was made; name a timestamp authority too,"
            " with --tsa URL=CHAIN.pem"
        )
    outside_rekors = [_outside("--rekor", text, partial(_rekor, 1)) for text in rekors]
    outside_rekors += [_outside("--rekor-v2", text, partial(_rekor, 2)) for text in rekors_v2]
    outside_tsas = [_outside("--tsa", text, _tsa) for text in tsas]
    service = build_service(settings)
    try:
        documents = service.trust.documents(outside_rekors, outside_tsas)
        chain = chains_pem(service.trust)
        files = {name: json.dumps(document, indent=2) + "\n" for name, document in documents.items()}
        files |= {"fulcio.pem": chain, "ctlog.pub": service.trust.log_public_key_pem()}
    finally:
        service.close()
    out.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_file(out / name, content.encode())
        click.echo(f"wrote {out / name}")
    if not outside_rekors and outside_tsas:
        click.echo(
            "not written: client_trust_config.json, which sigstore-python refuses without an artifact log;"
            " name yours with --rekor URL=KEY.pem. cosign 3 signs with signing_config.json as it is, and"
            " verifies with --insecure-ignore-tlog --use-signed-timestamps.",
            err=True,
        )
    elif not outside_rekors:
        click.echo(
            "not written: signing_config.json and client_trust_config.json. Sigstore's clients refuse them"
            " without anybody who tells when a signature was made; name an artifact log with"
            " --rekor URL=KEY.pem, or for cosign 3 alone a timestamp authority with --tsa URL=CHAIN.pem.",
            err=True,
        )


def _outside(option: str, text: str, read: Callable[[str, bytes], _Outside]) -> _Outside:
    """Take URL=FILE apart at its last =, since a URL may hold one."""
    url, separator, file = text.rpartition("=")
    if not separator or not url.startswith(("http://", "https://")):
        raise click.UsageError(f"{option}: expected URL=FILE, not {text!r}")
    try:
        return read(url.rstrip("/"), Path(file).read_bytes())
    except OSError as error:
        raise click.UsageError(f"{option}: {file} cannot be read: {error.strerror}") from error
    except ValueError:
        raise click.UsageError(f"{option}: {file} is not what is expected there, as PEM") from None


def _rekor(version: int, url: str, content: bytes) -> "OutsideRekor":
    from ca_service.authority.trust import OutsideRekor

    return OutsideRekor(url, load_pem_public_key(content), version)


def _tsa(url: str, content: bytes) -> "OutsideTsa":
    from ca_service.authority.trust import OutsideTsa

    return OutsideTsa(url, tuple(x509.load_pem_x509_certificates(content)))
