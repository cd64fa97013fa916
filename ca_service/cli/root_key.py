"""The root key, for the verbs that need it: it is read for one signature, and kept nowhere."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ca_service.keys.file import AuthorityKey
    from ca_service.settings import Settings

ROOT_PASSPHRASE = "CASVC_ROOT_PASSPHRASE"  # noqa: S105 - a name, not a secret

_Command = Callable[..., Any]


def root_key_options(command: _Command) -> _Command:
    """Add --root-key and --root-passphrase-file; the command gets `root_key`, `root_passphrase_file`."""
    passphrase = click.option(
        "--root-passphrase-file",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help=f"The file whose first line opens the root key.  [default: {ROOT_PASSPHRASE}, else the"
        " passphrase of the other keys]",
    )
    key = click.option(
        "--root-key",
        type=click.Path(path_type=Path, dir_okay=False),
        required=True,
        metavar="FILE",
        help="The root's private key (PKCS#8 PEM, mode 0600). It is read, and kept nowhere.",
    )
    return key(passphrase(command))


def read_root_key(settings: "Settings", path: Path, passphrase_file: Path | None) -> "AuthorityKey":
    """Read it with its own passphrase, else with that of the other keys, as `init` encrypted it.

    Raises ConfigurationError as for the other keys.
    """
    from ca_service.app import material
    from ca_service.errors import ConfigurationError
    from ca_service.keys.file import read_passphrase, read_private_key

    if passphrase_file is not None:
        secret: bytes | None = read_passphrase(passphrase_file, setting="--root-passphrase-file")
    elif given := os.environ.get(ROOT_PASSPHRASE):
        secret = given.encode()
    else:
        secret = material.passphrase(settings)
    try:
        return read_private_key(path, secret, setting="--root-key")
    except ConfigurationError as error:
        places = "[keys] passphrase_file or CASVC_KEYS__PASSPHRASE"
        its_own = f"--root-passphrase-file or {ROOT_PASSPHRASE}"
        raise ConfigurationError(error.message.replace(places, its_own)) from error
