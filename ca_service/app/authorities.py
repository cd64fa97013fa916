"""The issuing keys in force: the first from its settings, those after it from their folder."""

import logging
import threading
import time
from collections.abc import Callable

from ca_service.app import material
from ca_service.authority.authorities import Authorities
from ca_service.authority.ports import Clock
from ca_service.errors import CAError, ConfigurationError
from ca_service.keys.file import read_private_key
from ca_service.pki.authority_certificates import Authority
from ca_service.settings import Settings
from ca_service.vocabulary import KeyId

_LOOK_SECONDS = 1.0
_RETRY_SECONDS = 30.0

_LOG = logging.getLogger("ca_service.authorities")


def read_authorities(settings: Settings, secret: bytes | None) -> Authorities:
    """Every issuing key with its chain; raises ConfigurationError naming the file at fault."""
    found = [material.authority(settings, secret)]
    for folder in material.rotated_folders(settings):
        where = f"[authority] rotated_dir: {folder}"
        key = read_private_key(folder / material.ISSUING_KEY, secret, setting=where)
        try:
            authority = Authority.load(material.rotated_chain(folder), key)
        except ConfigurationError as error:
            raise ConfigurationError(f"{where}: {error.message}") from error
        if authority.key_id != folder.name:
            raise ConfigurationError(
                f"{where} holds the issuing key {authority.key_id}; a folder has its name from its key"
            )
        found.append(authority)
    try:
        return Authorities(found)
    except ConfigurationError as error:
        raise ConfigurationError(f"[authority] rotated_dir: {error.message}") from error


class AuthoritiesInForce:
    """What `read_authorities` reads, kept: what is prepared while the service runs is found within a second.

    So nobody has to restart anything; a folder that is wrong changes nothing but what `check` says.
    """

    def __init__(
        self,
        settings: Settings,
        secret: bytes | None,
        clock: Clock,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read everything for the first time; raises ConfigurationError as read_authorities does."""
        self._settings = settings
        self._secret = secret
        self._clock = clock
        self._monotonic = monotonic
        self._turn = threading.Lock()
        self._names = _names(settings)
        self._authorities = read_authorities(settings, secret)
        self._look_again = monotonic() + _LOOK_SECONDS
        self._retry = 0.0
        self._trouble: ConfigurationError | None = None

    def current(self) -> Authorities:
        """Return those in force now; never raises."""
        now = self._monotonic()
        if now >= self._look_again and self._turn.acquire(blocking=False):
            try:
                self._look_again = now + _LOOK_SECONDS
                self._look(now)
            finally:
                self._turn.release()
        return self._authorities

    def issuing(self) -> Authority:
        """The one that issues now."""
        return self.current().issuing(self._clock() // 1000)

    def check(self) -> None:
        """Raise the ConfigurationError because of which others than those in the folder are in force."""
        self.current()
        if self._trouble is not None:
            raise self._trouble

    def _look(self, now: float) -> None:
        try:
            names = _names(self._settings)
            if names == self._names and (self._trouble is None or now < self._retry):
                return
            self._names, self._retry = names, now + _RETRY_SECONDS
            read = read_authorities(self._settings, self._secret)
            self._refuse_loss(read)
        except CAError as error:
            self._trouble = ConfigurationError(error.message)
            _LOG.error("the issuing keys in force stay as they were: %s", error.message)
            return
        new = [key for key in read.by_key if key not in self._authorities.by_key]
        self._authorities, self._trouble = read, None
        for key in new:
            _LOG.info("the issuing key %s is prepared; it issues from %s", key, _start(read, key))

    def _refuse_loss(self, read: Authorities) -> None:
        """A key that has begun has issued, and its certificates need CRLs and OCSP answers for years."""
        begun = {
            key
            for key, authority in self._authorities.by_key.items()
            if authority.certificate.not_valid_before_utc.timestamp() <= self._clock() // 1000
        }
        if gone := sorted(begun - set(read.by_key)):
            raise ConfigurationError(
                f"the issuing key {gone[0]} is gone from {self._settings.authority.rotated_dir};"
                " it is needed for the status of what it issued: put it back"
            )


def _names(settings: Settings) -> tuple[str, ...]:
    return tuple(folder.name for folder in material.rotated_folders(settings))


def _start(authorities: Authorities, key: KeyId) -> str:
    return f"{authorities.by_key[key].certificate.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ}"
