"""The passphrase that opens the key files: from a file of its own, or from the environment."""

from pathlib import Path
from typing import Protocol

from pydantic import SecretStr

from ca_service.errors import ConfigurationError
from ca_service.keys.file import read_passphrase


class PassphraseSource(Protocol):
    """The two settings that can give the passphrase."""

    @property
    def passphrase_file(self) -> Path | None:
        """A file whose first line it is."""
        ...

    @property
    def passphrase(self) -> SecretStr | None:
        """The passphrase itself."""
        ...


def passphrase_of(source: PassphraseSource) -> bytes | None:
    """The passphrase that the settings give, or None.

    Raises ConfigurationError when both settings are there, and as `read_passphrase` does.
    """
    if source.passphrase is not None and source.passphrase_file is not None:
        raise ConfigurationError(
            "[keys] passphrase_file and CASVC_KEYS__PASSPHRASE are both set; keep one, so that it is clear"
            " which of them opens the keys"
        )
    if source.passphrase is not None:
        return source.passphrase.get_secret_value().encode()
    return None if source.passphrase_file is None else read_passphrase(source.passphrase_file)
