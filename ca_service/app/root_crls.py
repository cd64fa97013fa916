"""The root's CRL: signed by hand every year, read from its file, and again whenever that is replaced."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from ca_service.app.material import content_of
from ca_service.authority.publication import PublishedCrl
from ca_service.errors import ConfigurationError, InvalidRequest
from ca_service.pki.crl import Entry, build_root_crl, verify_crl
from ca_service.pki.keys import key_id, spki_der
from ca_service.pki.signatures import SigningKey
from ca_service.settings import Settings
from ca_service.vocabulary import KeyId, Serial

_SETTING = "[authority] root_crl"

_NUMBERS = {
    x509.ReasonFlags.unspecified: 0,
    x509.ReasonFlags.key_compromise: 1,
    x509.ReasonFlags.ca_compromise: 2,
    x509.ReasonFlags.affiliation_changed: 3,
    x509.ReasonFlags.superseded: 4,
    x509.ReasonFlags.cessation_of_operation: 5,
    x509.ReasonFlags.certificate_hold: 6,
    x509.ReasonFlags.remove_from_crl: 8,
    x509.ReasonFlags.privilege_withdrawn: 9,
    x509.ReasonFlags.aa_compromise: 10,
}
"""CRLReason (RFC 5280 §5.3.1), also those that others than this service may have written."""

_LOG = logging.getLogger("ca_service.root_crl")


@dataclass(frozen=True, slots=True)
class RootCrl:
    """The root's CRL as it stands in its file: `published` for the web, `entries` for the next one."""

    published: PublishedCrl
    entries: tuple[Entry, ...]


def read_root_crl(settings: Settings, root: x509.Certificate, path: Path | None = None) -> RootCrl:
    """Read and verify it, from `path` or where the settings say; its times are not judged.

    Raises ConfigurationError when it cannot be read, or is no CRL of this root with number and nextUpdate.
    """
    path = path or settings.authority.root_crl
    der = content_of(path, _SETTING)
    try:
        crl = verify_crl(der, root)
        number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except (ValueError, x509.ExtensionNotFound) as error:
        raise ConfigurationError(
            f"{_SETTING}: {path} is not a CRL of this root: {error}; renew it: `ca-service root-crl`"
        ) from error
    if crl.next_update_utc is None:
        raise ConfigurationError(f"{_SETTING}: {path} has no nextUpdate; renew it: `ca-service root-crl`")
    published = PublishedCrl(
        url=f"{settings.service.status_url}/crl/{key_id(root.public_key())}/root.crl",
        der=der,
        number=number,
        this_update=int(crl.last_update_utc.timestamp()),
        next_update=int(crl.next_update_utc.timestamp()),
    )
    return RootCrl(published, tuple(_entry(each) for each in crl))


def sign_root_crl(
    root: x509.Certificate,
    root_key: SigningKey,
    *,
    before: RootCrl | None,
    number: int,
    this_update: datetime,
    next_update: datetime,
    revoked: tuple[Entry, ...] = (),
) -> bytes:
    """Sign the next CRL of a root: what stood on the one before, and `revoked`; returns its verified DER.

    Raises InvalidRequest for another root's key, for a number that is not higher, and for a nextUpdate
    after the root's end.
    """
    if spki_der(root_key.public_key()) != spki_der(root.public_key()):
        raise InvalidRequest(
            f"the root key given is {key_id(root_key.public_key())}, but the root certificate"
            f" {root.subject.rfc4514_string()} is of the key {key_id(root.public_key())}"
        )
    if before is not None and number <= before.published.number:
        raise InvalidRequest(
            f"the number {number} is not higher than that of the list in force, {before.published.number}"
        )
    if next_update > root.not_valid_after_utc:
        raise InvalidRequest(f"the root itself ends at {root.not_valid_after_utc:%Y-%m-%d}, before that list")
    known = {} if before is None else {entry.serial: entry for entry in before.entries}
    der = build_root_crl(
        root,
        root_key,
        number=number,
        this_update=this_update,
        next_update=next_update,
        revocations=[*known.values(), *(entry for entry in revoked if entry.serial not in known)],
    )
    verify_crl(der, root)
    return der


class RootCrlInForce(Mapping[KeyId, PublishedCrl]):
    """The root's CRL by its key, read anew when its file was replaced, so that nobody has to restart.

    A file that is wrong, or that holds an older list, changes nothing but the service's log.
    """

    def __init__(self, settings: Settings, root: x509.Certificate) -> None:
        """Read it for the first time; raises ConfigurationError as read_root_crl does."""
        self._settings = settings
        self._root = root
        self._key = key_id(root.public_key())
        self._stamp = self._look()
        self._crl = read_root_crl(settings, root).published

    def __getitem__(self, key: KeyId) -> PublishedCrl:
        """The root's CRL; KeyError for another key."""
        if key != self._key:
            raise KeyError(key)
        return self._current()

    def __iter__(self) -> Iterator[KeyId]:
        """The root's key."""
        return iter((self._key,))

    def __len__(self) -> int:
        """One root."""
        return 1

    def _current(self) -> PublishedCrl:
        stamp = self._look()
        if stamp != self._stamp:
            # Even when it is wrong: it is looked at again when it is replaced again.
            self._stamp = stamp
            try:
                read = read_root_crl(self._settings, self._root).published
            except ConfigurationError as error:
                _LOG.error("the root's CRL in force stays as it was: %s", error.message)
                return self._crl
            if read.number < self._crl.number:
                _LOG.error(
                    "the root's CRL in force stays number %d: the file holds number %d, an older one",
                    self._crl.number,
                    read.number,
                )
                return self._crl
            self._crl = read
            until = datetime.fromtimestamp(read.next_update, UTC)
            _LOG.info("the root's CRL number %d is in force, until %s", read.number, f"{until:%Y-%m-%d}")
        return self._crl

    def _look(self) -> tuple[int, int, int] | None:
        """What tells a replaced file from the one before; None when there is none."""
        try:
            status = self._settings.authority.root_crl.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size


def _entry(entry: x509.RevokedCertificate) -> Entry:
    try:
        reason = _NUMBERS[entry.extensions.get_extension_for_class(x509.CRLReason).value.reason]
    except x509.ExtensionNotFound:
        reason = 0
    return Entry(Serial(entry.serial_number), int(entry.revocation_date_utc.timestamp()), reason)
