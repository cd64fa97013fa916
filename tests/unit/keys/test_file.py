"""Key files: owner only, never overwritten, and each way to fail has its sentence."""

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ca_service.errors import AlreadyExists, ConfigurationError
from ca_service.keys.file import read_passphrase, read_private_key, write_private_key


@pytest.mark.parametrize("passphrase", [None, b"correct horse"])
def test_a_key_comes_back_and_only_its_owner_may_read_it(tmp_path: Path, passphrase: bytes | None) -> None:
    path = tmp_path / "issuing.key"
    key = ec.generate_private_key(ec.SECP256R1())
    write_private_key(path, key, passphrase)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (b"ENCRYPTED" in path.read_bytes()) is (passphrase is not None)
    assert read_private_key(path, passphrase).public_key() == key.public_key()


def test_an_unencrypted_key_is_read_although_a_passphrase_is_set(tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 2048)
    write_private_key(tmp_path / "k", key, None)
    assert read_private_key(tmp_path / "k", b"for the other key").public_key() == key.public_key()


def test_a_key_file_is_never_overwritten(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    write_private_key(tmp_path / "k", key, None)
    before = (tmp_path / "k").read_bytes()
    with pytest.raises(AlreadyExists):
        write_private_key(tmp_path / "k", ec.generate_private_key(ec.SECP256R1()), None)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AlreadyExists):
        write_private_key(tmp_path / "link", key, None)
    assert (tmp_path / "k").read_bytes() == before
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_a_key_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "k"
    write_private_key(path, ec.generate_private_key(ec.SECP256R1()), None)
    path.chmod(mode)
    with pytest.raises(ConfigurationError, match=rf"\[log\] key: .*mode {mode:04o}.* chmod 600"):
        read_private_key(path, None, setting="[log] key")


def test_a_missing_or_wrong_passphrase_is_named_by_its_setting(tmp_path: Path) -> None:
    path = tmp_path / "k"
    write_private_key(path, ec.generate_private_key(ec.SECP256R1()), b"right")
    with pytest.raises(ConfigurationError, match=r"no passphrase .* \[keys\] passphrase_file"):
        read_private_key(path, None)
    with pytest.raises(ConfigurationError, match=r"does not open .* CASVC_KEYS__PASSPHRASE") as caught:
        read_private_key(path, b"open sesame")
    assert "sesame" not in str(caught.value)


def test_what_is_no_usable_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        read_private_key(tmp_path / "none", None)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_private_key(tmp_path, None)
    path = tmp_path / "k"
    path.write_bytes(b"-----BEGIN CERTIFICATE-----\n")
    path.chmod(0o600)
    with pytest.raises(ConfigurationError, match="holds no private key"):
        read_private_key(path, None)
    edwards = ed25519.Ed25519PrivateKey.generate()
    path.write_bytes(edwards.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(ConfigurationError, match="another kind"):
        read_private_key(path, None)


def test_a_passphrase_is_the_first_line_of_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "passphrase"
    path.write_bytes(b"correct horse \r\nsecond\n")
    path.chmod(0o600)
    assert read_passphrase(path) == b"correct horse "
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match=r"\[keys\] passphrase_file"):
        read_passphrase(path)
    path.chmod(0o600)
    path.write_bytes(b"\n")
    with pytest.raises(ConfigurationError, match="empty"):
        read_passphrase(path)
