"""What an operator does with the log's shards: prepare the next, freeze one that is over, retire a lost one.

Each needs the directory's database and key files and nothing of a running service, which sees the change
within a second.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from ca_service.app import material
from ca_service.app.rollback import guard_of
from ca_service.authority.log import LogIdentity, first_tree_head
from ca_service.authority.log_ports import TreeHead
from ca_service.authority.log_shards import LEAD_SECONDS, LogShard, ShardState, next_name
from ca_service.authority.ports import Actor, Clock
from ca_service.authority.rollback import RollbackGuard
from ca_service.errors import AlreadyExists, InvalidRequest, NotFound
from ca_service.files.durable import sync_directory
from ca_service.keys.file import read_private_key, write_private_key
from ca_service.pki.keys import spki_der
from ca_service.pki.sct import digitally_sign, log_id_of
from ca_service.settings import Settings
from ca_service.settings.forms import log_origin
from ca_service.settings.forms import shard as shard_form
from ca_service.store.database import Database
from ca_service.store.log_shards import SqlLogShards

_WHILE_WE_WORK_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Rotation:
    """Works on the shards of one directory; `actor` is whom the audit records name.

    A `guard` lets nothing be done with a database that was rolled back (RolledBack, MarkUnavailable); without
    one, that is the caller's care.
    """

    settings: Settings
    database: Database
    clock: Clock
    actor: Actor
    guard: RollbackGuard | None = None

    @property
    def _shards(self) -> SqlLogShards:
        return SqlLogShards(self.database, self.clock)

    def shards(self) -> Mapping[str, tuple[LogShard, ShardState]]:
        """Every shard by name with its state for certificates issued now, the earliest period first."""
        would_expire = self._now() + self.settings.authority.lifetime_seconds
        return {shard.name: (shard, shard.state(would_expire)) for shard in self._shards.all()}

    def prepare(self, starts: int | None = None, name: str | None = None) -> LogShard:
        """Make the next shard: key file, log, and first signed head; from then on it is published.

        It takes certificates that expire at `starts` (seconds since 1970; by default in a week) or later. The
        period starts later when the shard before it took certificates that expire later. A shard that is
        prepared already is moved when `starts` is given. Raises AlreadyExists, InvalidRequest for a start in
        the past or a name that no log can have, ConfigurationError, StoreUnavailable, RolledBack.
        """
        guard_of(self.settings, self.database).check()
        with self._guarded():
            return self._prepare(starts, name)

    def _prepare(self, starts: int | None, name: str | None) -> LogShard:
        prepared = [shard for shard, state in self.shards().values() if state is ShardState.PREPARED]
        if prepared:
            if starts is None or name not in (None, prepared[0].name):
                raise AlreadyExists(
                    f"the next shard of the log, {prepared[0].name}, is prepared already; give --from TIME "
                    "or --now to move its start"
                )
            return self._shards.move(prepared[0].name, self._not_past(starts), self.actor)
        return self._open(self._not_past(self._now() + LEAD_SECONDS if starts is None else starts), name)

    def freeze(self, shard: str) -> TreeHead:
        """Sign the final head of a shard whose period is over, with its key.

        Raises NotFound, InvalidRequest when its period goes on, ConfigurationError, StoreUnavailable,
        RolledBack: a final head of a shorter tree would prove that the log lied.
        """
        guard_of(self.settings, self.database).check()
        found = self._found(shard)
        secret = material.passphrase(self.settings)
        keys = material.LogKeys(self.settings, material.authority(self.settings, secret), secret)

        def sign(message: bytes) -> bytes:
            return keys.signer(found.identity)(message)  # read only if there is something to sign

        with self._guarded():
            return self._shards.freeze(shard, sign, self.actor)

    def replace(self, shard: str, reason: str, name: str | None = None) -> LogShard:
        """Close a lost shard at once, signing nothing, and open the next one; returns the next.

        Of its own entries nothing is promised any more but what was published. When another shard takes what
        is issued now, no further one is opened, and that one is returned. Run again after an interruption, it
        opens what is missing. Raises NotFound, InvalidRequest (no reason given), ConfigurationError,
        AlreadyExists, StoreUnavailable.
        """
        with self._guarded():
            if not self._found(shard).frozen:
                self._shards.retire(shard, reason, self.actor)
            active = [each for each, state in self.shards().values() if state is ShardState.ACTIVE]
            return active[0] if active else self._open(self._now(), name)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """One at a time, on the newest database there is, which the mark knows afterwards."""
        with self.database.build_lock("log rotation"):
            if self.guard is not None:
                self.guard.check()
            yield
            if self.guard is not None:
                self.guard.catch_up()

    def _open(self, starts: int, name: str | None) -> LogShard:
        taken = self.shards()

        def is_taken(candidate: str) -> bool:
            # A key file without a log: an attempt was interrupted, or the database lost the log.
            return candidate in taken or material.log_key_file(self.settings, candidate).exists()

        if name is None:
            name = next_name(datetime.fromtimestamp(starts, UTC).year, is_taken)
        elif is_taken(name):
            raise AlreadyExists(f"there is a log shard {name}, or a key file of one, already")
        origin = _origin(self.settings.log.origin, name)
        secret = self._passphrase()
        key = ec.generate_private_key(ec.SECP256R1())
        log = LogIdentity(name, origin, log_id_of(key.public_key()), spki_der(key.public_key()))
        path = material.log_key_file(self.settings, name)
        # Durable before the log exists: a log without its key could sign nothing.
        write_private_key(path, key, secret)
        _give_to_owner_of(path, path.parent)
        sync_directory(path.parent)
        head = first_tree_head(log, self.clock(), lambda message: digitally_sign(key, message))
        return self._shards.open(log, head, starts, self.actor)

    def _passphrase(self) -> bytes | None:
        """That of the other keys: without it, or with a wrong one, none would fit what the service reads."""
        secret = material.passphrase(self.settings)
        if self.settings.authority.key.exists():
            read_private_key(self.settings.authority.key, secret)
        return secret

    def _found(self, shard: str) -> LogShard:
        shards = self.shards()
        if shard not in shards:
            raise NotFound(f"the log has no shard {shard[:80]!r}; it has {', '.join(shards)}")
        return shards[shard][0]

    def _not_past(self, starts: int) -> int:
        now = self._now()
        if starts < now - _WHILE_WE_WORK_SECONDS:
            raise InvalidRequest("a shard starts now or later: certificates that expired are in another")
        return max(starts, now)

    def _now(self) -> int:
        return self.clock() // 1000


def _origin(first: str, name: str) -> str:
    """The origin of a later shard: that of the first, with another name at its end."""
    try:
        return log_origin(f"{first.rpartition('/')[0]}/{shard_form(name)}")
    except ValueError as expected:
        raise InvalidRequest(f"{name!r} cannot be the name of a log shard: expected {expected}") from None


def _give_to_owner_of(path: Path, folder: Path) -> None:
    """Let the service's user read a key that root made for it."""
    if os.geteuid() == 0:
        owner = folder.stat()
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
