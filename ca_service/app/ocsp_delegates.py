"""Delegated OCSP signing: a short-lived key for each issuing key, made and renewed without anybody's help.

Key and certificate are in one file for each issuing key, so that they are replaced together. The processes of
one machine share it and see at once when it was replaced; machines share no disk, and each has its own, which
costs nothing: an authority may have any number of delegates at a time.
"""

import logging
import os
import secrets
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from ca_service.authority.ports import Clock
from ca_service.errors import ConfigurationError, SignerUnavailable
from ca_service.files.durable import write_file
from ca_service.files.owners import make_folder
from ca_service.files.turns import turn
from ca_service.keys.file import parse_private_key, private_key_pem, read_secret
from ca_service.pki.authority_certificates import Authority
from ca_service.pki.keys import spki_der
from ca_service.pki.ocsp import DelegatedSigner, create_delegate
from ca_service.pki.profile import random_serial
from ca_service.vocabulary import KeyId

_SETTING = "[ocsp] delegates_dir"
_WAIT_SECONDS = 10.0
_BACKDATED = timedelta(hours=1)
"""Clients whose clocks are behind must be able to believe a fresh delegate."""

_LOG = logging.getLogger("ca_service.ocsp")

_Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class _Held:
    stamp: _Stamp
    signer: DelegatedSigner


class OcspDelegates:
    """The delegates of this machine: made when first needed, renewed when half of their life is over."""

    def __init__(self, folder: Path, secret: bytes | None, clock: Clock) -> None:
        """Take where their files are, made when missing, and the passphrase of key files; reads nothing."""
        self._folder = folder
        self._secret = secret
        self._clock = clock
        self._held: dict[KeyId, _Held] = {}
        self._making = threading.Lock()

    def path(self, authority: Authority) -> Path:
        """The file of an issuing key's delegate: private key and certificate, PEM."""
        return self._folder / f"ocsp-{authority.key_id}.pem"

    def signer(self, authority: Authority) -> DelegatedSigner:
        """Who signs this authority's answers now; raises SignerUnavailable when there can be nobody."""
        now = self._now()
        signer = self._current(authority, now)
        if signer is not None:
            return signer
        with self._making:
            return self._make(authority, now, wait=_WAIT_SECONDS, instead_of=None)

    def present(self, authority: Authority) -> DelegatedSigner | None:
        """Who signs for it now, when there is somebody; makes nothing. Raises SignerUnavailable."""
        return self._current(authority, self._now())

    def renew(self, authorities: Iterable[Authority]) -> int:
        """Renew the delegates whose half life is over, each in one process; return how many were renewed.

        Those of authorities that were never asked for are not made. Raises SignerUnavailable.
        """
        now, renewed = self._now(), 0
        for authority in authorities:
            signer = self._current(authority, now)
            if signer is not None and now >= _half_life(signer):
                renewed += self._make(authority, now, wait=0.0, instead_of=signer) is not signer
        return renewed

    def _current(self, authority: Authority, now: datetime) -> DelegatedSigner | None:
        """What is in the file, when it may sign now."""
        stamp = _stamp(self.path(authority))
        held = self._held.get(authority.key_id)
        if stamp is None:
            return None
        if held is None or held.stamp != stamp:
            signer = self._read(authority)
            if signer is None:
                return None
            # Replaced in between, it is read again next time: the stamp is that of before.
            held = self._held[authority.key_id] = _Held(stamp, signer)
        certificate = held.signer.certificate
        in_time = certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc
        return held.signer if in_time else None

    def _read(self, authority: Authority) -> DelegatedSigner | None:
        """What is in the file, or None when it is no delegate of this authority; then it is made anew."""
        path = self.path(authority)
        try:
            pem = read_secret(path, setting=_SETTING)
            key = parse_private_key(pem, self._secret, path, setting=_SETTING)
            certificate = x509.load_pem_x509_certificate(pem)
            certificate.verify_directly_issued_by(authority.certificate)
        except (ConfigurationError, ValueError, TypeError, InvalidSignature) as error:
            _LOG.warning("%s is no usable delegate and is made anew: %s", path, error)
            return None
        return (
            DelegatedSigner(certificate, key)
            if spki_der(certificate.public_key()) == spki_der(key.public_key())
            else None
        )

    def _make(
        self, authority: Authority, now: datetime, *, wait: float, instead_of: DelegatedSigner | None
    ) -> DelegatedSigner:
        """Make one in the place of another or of none, unless another process has just done so."""
        try:
            make_folder(self._folder, 0o700)
            with turn(self.path(authority).with_suffix(".lock"), seconds=wait) as mine:
                there = self._current(authority, now)
                if there is not None and (there is not instead_of or not mine):
                    return there
                if not mine:
                    raise SignerUnavailable(
                        "another process has been making the OCSP responder's certificate for"
                        f" {wait:g} seconds; look for one that is stopped"
                    )
                return self._write(authority, now)
        except OSError as error:
            raise SignerUnavailable(
                f"{_SETTING}: the OCSP responder's key cannot be written to {self._folder}: {error.strerror}"
            ) from error

    def _write(self, authority: Authority, now: datetime) -> DelegatedSigner:
        if now >= authority.not_after:
            raise SignerUnavailable(
                f"the issuing certificate {authority.key_id} has ended; it can certify no OCSP responder"
            )
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = create_delegate(
            authority,
            key.public_key(),
            not_before=now - _BACKDATED,
            serial=random_serial(secrets.token_bytes),
        )
        pem = private_key_pem(key, self._secret) + certificate.public_bytes(Encoding.PEM)
        write_file(self.path(authority), pem, mode=0o600, for_folder=True)
        _LOG.info(
            "a new OCSP responder of the issuing key %s signs until %s",
            authority.key_id,
            f"{certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}",
        )
        # As it is on the disk, which is what the other processes get.
        return self._current(authority, now) or DelegatedSigner(certificate, key)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock() // 1000, UTC)


def _half_life(signer: DelegatedSigner) -> datetime:
    begins, ends = signer.certificate.not_valid_before_utc, signer.certificate.not_valid_after_utc
    return begins + (ends - begins) / 2


def _stamp(path: Path) -> _Stamp | None:
    """What tells a replaced file from the one before."""
    try:
        status = os.stat(path)  # noqa: PTH116 - once for each answer: Path.stat takes twice as long
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SignerUnavailable(f"{_SETTING}: {path} cannot be read: {error.strerror}") from error
    return status.st_ino, status.st_mtime_ns, status.st_size
