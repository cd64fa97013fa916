"""The next issuing key: made and published at once, used from a moment that the root writes into it.

There is nothing to switch later: the certificate's notBefore is the moment, for us and for verifiers.
"""

import os
import secrets
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from ca_service.app import material
from ca_service.app.authorities import read_authorities
from ca_service.authority.authorities import Authorities
from ca_service.authority.ports import Actor, Clock
from ca_service.authority.rollback import RollbackGuard
from ca_service.errors import AlreadyExists, ConfigurationError, InvalidRequest
from ca_service.files.durable import sync_directory, write_file
from ca_service.keys.file import AuthorityKey, write_private_key
from ca_service.pki.authority_certificates import ISSUES_YEARS, Authority, create_intermediate, years_later
from ca_service.pki.keys import key_id, spki_der
from ca_service.pki.profile import random_serial
from ca_service.settings import Settings
from ca_service.store.audit import SqlAudit
from ca_service.store.database import Database
from ca_service.vocabulary import KeyId, format_time

LEAD_SECONDS = 7 * 86_400
"""How long before its use an authority is published, unless told otherwise: verifiers fetch it meanwhile."""

SOONEST_SECONDS = 10
"""Workers and nodes find it within a second; this bears clocks that differ."""

RETENTION_YEARS = 10
CURVES: dict[str, type[ec.EllipticCurve]] = {"p256": ec.SECP256R1, "p384": ec.SECP384R1}

_UNFINISHED = ".preparing-"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A new authority and its folder; `kept_short` when the root ends before its retention does."""

    authority: Authority
    folder: Path
    kept_short: bool

    @property
    def starts(self) -> datetime:
        """From when on it issues."""
        return self.authority.certificate.not_valid_before_utc


@dataclass(frozen=True, slots=True)
class AuthorityRotation:
    """Works on the authorities of one directory; `actor` is whom the audit record names."""

    settings: Settings
    database: Database
    clock: Clock
    actor: Actor
    guard: RollbackGuard

    def prepare(
        self, root_key: AuthorityKey, starts: int | None = None, key_type: str | None = None
    ) -> Prepared:
        """Make the next issuing key and its certificate under the root, which issues from `starts` on.

        `starts` is in seconds since 1970, by default in a week, and at least ten seconds ahead; `key_type` is
        a name in CURVES, by default the kind of the newest authority. What appears in the folder appears
        whole, after its audit record; what an interrupted attempt left is cleared away and recorded as such.

        Raises AlreadyExists when one is prepared and no `starts` is given, InvalidRequest for a start in the
        past or another root's key, ConfigurationError, StoreUnavailable, RolledBack, MarkUnavailable.
        """
        with self.database.build_lock("authority rotation"):
            self.guard.check()
            secret = material.passphrase(self.settings)
            known = read_authorities(self.settings, secret)
            moment = self._start(known, starts)
            root = known[0].root
            if spki_der(root_key.public_key()) != spki_der(root.public_key()):
                raise InvalidRequest(
                    f"the root key given is {key_id(root_key.public_key())}, but the root certificate"
                    f" {root.subject.rfc4514_string()} is of the key {key_id(root.public_key())}"
                )
            self._clear()
            key = ec.generate_private_key(_curve(key_type, known[-1]))
            authority = Authority.load([self._certificate(key, root, root_key, moment), root], key)
            Authorities([*known, authority])  # no two of one name or moment
            building = self._build(authority, key, secret)
            self._record("prepare-authority", authority.key_id, authority.certificate)
            final = self.settings.authority.rotated_dir / authority.key_id
            building.rename(final)
            sync_directory(final.parent)
            self.guard.catch_up()
        needed = years_later(years_later(moment, ISSUES_YEARS), RETENTION_YEARS)
        return Prepared(authority, final, kept_short=authority.not_after < needed)

    def _start(self, known: Authorities, starts: int | None) -> datetime:
        now = self.clock() // 1000
        following = known.following(now)
        if starts is None:
            if following:
                begins = format_time(following[0].certificate.not_valid_before_utc)
                raise AlreadyExists(
                    f"the next authority, {following[0].key_id}, is prepared and issues from {begins}; "
                    "give a time of its own to make one more"
                )
            starts = now + LEAD_SECONDS
        elif starts < now:
            raise InvalidRequest("an authority begins now or later: nobody can have known it before")
        return datetime.fromtimestamp(max(starts, now + SOONEST_SECONDS), UTC)

    def _certificate(
        self,
        key: ec.EllipticCurvePrivateKey,
        root: x509.Certificate,
        root_key: AuthorityKey,
        moment: datetime,
    ) -> x509.Certificate:
        status_url, root_id = self.settings.service.status_url, key_id(root.public_key())
        if moment + timedelta(days=1) > root.not_valid_after_utc:
            raise ConfigurationError(
                f"the root ends at {format_time(root.not_valid_after_utc)}: found a new authority"
            )
        return create_intermediate(
            key.public_key(),
            root=root,
            root_key=root_key,
            organization=self.settings.service.organization,
            # A name of its own for each key: some verifiers look an authority up by its name alone.
            common_name=f"code-signing authority {key_id(key.public_key())[:8]}",
            crl_url=f"{status_url}/crl/{root_id}/root.crl",
            ca_issuers_url=f"{status_url}/ca/{root_id}.crt",
            not_before=moment,
            serial=random_serial(secrets.token_bytes),
        )

    def _build(self, authority: Authority, key: AuthorityKey, secret: bytes | None) -> Path:
        """Write the files into a folder that nothing reads, durably."""
        parent = self.settings.authority.rotated_dir
        if not parent.is_dir():
            parent.mkdir(mode=0o700, parents=True)
            _give_to_owner_of(parent, parent.parent)
            sync_directory(parent.parent)
        building = parent / f"{_UNFINISHED}{authority.key_id}"
        building.mkdir(mode=0o700)
        write_private_key(building / material.ISSUING_KEY, key, secret)
        write_file(building / material.CHAIN, authority.chain_pem.encode(), mode=0o600)
        for path in (building, *building.iterdir()):
            _give_to_owner_of(path, parent)
        sync_directory(building)
        sync_directory(parent)
        return building

    def _clear(self) -> None:
        """Remove what an interrupted attempt left: it was in no trust material, and signed nothing."""
        for left in sorted(self.settings.authority.rotated_dir.glob(f"{_UNFINISHED}*")):
            self._record("discard-authority", KeyId(left.name.removeprefix(_UNFINISHED)))
            shutil.rmtree(left)

    def _record(self, action: str, key: KeyId, certificate: x509.Certificate | None = None) -> None:
        detail: dict[str, object] = {"authority_key": key}
        if certificate is not None:
            detail |= {
                "subject": certificate.subject.rfc4514_string(),
                "not_before": format_time(certificate.not_valid_before_utc),
                "not_after": format_time(certificate.not_valid_after_utc),
                "sha256": certificate.fingerprint(hashes.SHA256()).hex(),
                "certificate": certificate.public_bytes(Encoding.PEM).decode(),
            }
        SqlAudit(self.database, self.clock).append(self.actor, action, detail)


def _curve(key_type: str | None, newest: Authority) -> ec.EllipticCurve:
    if key_type is not None:
        return CURVES[key_type]()
    public_key = newest.private_key.public_key()
    return public_key.curve if isinstance(public_key, ec.EllipticCurvePublicKey) else ec.SECP256R1()


def _give_to_owner_of(path: Path, folder: Path) -> None:
    """Let the service's user read what root made for it."""
    if os.geteuid() == 0:
        owner = folder.stat()
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
