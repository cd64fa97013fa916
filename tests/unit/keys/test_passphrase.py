"""The passphrase comes from one place, and it is clear which."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import SecretStr

from ca_service.errors import ConfigurationError
from ca_service.keys.passphrase import passphrase_of


@dataclass(frozen=True)
class Source:
    passphrase_file: Path | None = None
    passphrase: SecretStr | None = None


def test_the_passphrase_comes_from_the_file_or_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "passphrase"
    file.touch(mode=0o600)
    file.write_text("from the file\n")
    assert passphrase_of(Source()) is None
    assert passphrase_of(Source(passphrase_file=file)) == b"from the file"
    assert passphrase_of(Source(passphrase=SecretStr("grüß"))) == "grüß".encode()


def test_two_passphrases_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="both set"):
        passphrase_of(Source(tmp_path / "passphrase", SecretStr("x")))
