"""Private keys in files: PKCS#8 PEM, encrypted when there is a passphrase, readable by their owner alone."""

import os
import stat
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from ca_service.errors import AlreadyExists, ConfigurationError

AuthorityKey = EllipticCurvePrivateKey | RSAPrivateKey
"""The kinds of private keys that an authority or a log may have."""

_LONGEST_FILE = 65536


def write_private_key(path: Path, key: AuthorityKey, passphrase: bytes | None) -> None:
    """Write a new key file with mode 0600 that is durable on return; an existing file is never touched.

    Raises AlreadyExists when there is a file of this name.
    """
    pem = private_key_pem(key, passphrase)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise AlreadyExists(f"the key file {path} exists already; a key is never overwritten") from None
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)
        file.write(pem)
        file.flush()
        os.fsync(descriptor)


def private_key_pem(key: AuthorityKey, passphrase: bytes | None) -> bytes:
    """A key as its file has it: PKCS#8 PEM, encrypted when there is a passphrase."""
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def read_private_key(
    path: Path, passphrase: bytes | None, *, setting: str = "[authority] key"
) -> AuthorityKey:
    """Read a key file; `setting` is how the message names the setting that points to it.

    Raises ConfigurationError when the file is missing or unreadable, when others than its owner may read
    it, when the passphrase is missing or wrong, and when it holds no EC or RSA key.
    """
    return parse_private_key(read_secret(path, setting=setting), passphrase, path, setting=setting)


def parse_private_key(pem: bytes, passphrase: bytes | None, path: Path, *, setting: str) -> AuthorityKey:
    """Read a key from the content of its file; raises ConfigurationError as `read_private_key` does."""
    try:
        key = load_pem_private_key(pem, passphrase if b"ENCRYPTED" in pem else None)
    except TypeError:
        raise ConfigurationError(
            f"{setting}: the key file {path} is encrypted and no passphrase was given; set"
            " [keys] passphrase_file or CASVC_KEYS__PASSPHRASE"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        if b"ENCRYPTED" in pem:
            raise ConfigurationError(
                f"{setting}: the passphrase does not open the key file {path}; check"
                " [keys] passphrase_file or CASVC_KEYS__PASSPHRASE"
            ) from None
        raise ConfigurationError(
            f"{setting}: {path} holds no private key; expected a PKCS#8 PEM block (BEGIN PRIVATE KEY)"
        ) from None
    if not isinstance(key, EllipticCurvePrivateKey | RSAPrivateKey):
        raise ConfigurationError(
            f"{setting}: {path} holds a key of another kind; expected ECDSA (P-256, P-384) or RSA, since"
            " clients accept no other from an authority"
        )
    return key


def read_passphrase(path: Path, *, setting: str = "[keys] passphrase_file") -> bytes:
    """Read a passphrase: the file's first line, without its line ending.

    Raises ConfigurationError when the file is missing, empty, or readable by others than its owner.
    """
    passphrase = read_secret(path, setting=setting).split(b"\n", 1)[0].rstrip(b"\r")
    if not passphrase:
        raise ConfigurationError(f"{setting}: the first line of {path} is empty; expected the passphrase")
    return passphrase


def open_to_others(status: os.stat_result) -> bool:
    """Whether others than the service's own user may use a file.

    Not so when root gave it to be read by a group that the service is in: mounted secrets of Kubernetes
    belong to root, and are given to the service's user in no other way.
    """
    handed_out = status.st_uid == 0 != os.geteuid() and status.st_gid in (os.getegid(), *os.getgroups())
    return bool(status.st_mode & (0o037 if handed_out else 0o077))


def read_secret(path: Path, *, setting: str) -> bytes:
    """Read a file that only its owner may read; at most 64 KiB.

    Raises ConfigurationError when it is missing, not a plain file, too long, or open to group or world.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ConfigurationError(f"{setting}: {path} is not a plain file")
            if open_to_others(status):
                mode = stat.S_IMODE(status.st_mode)
                raise ConfigurationError(
                    f"{setting}: others than its owner may use {path} (mode {mode:04o}, expected 0600 or"
                    f" 0400); treat the secret as exposed if others had access, else: chmod 600 {path}"
                )
            content = file.read(_LONGEST_FILE + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigurationError(f"{setting}: the file {path} cannot be read: {reason}") from error
    if len(content) > _LONGEST_FILE:
        raise ConfigurationError(f"{setting}: {path} is too long to be a secret of ours")
    return content
