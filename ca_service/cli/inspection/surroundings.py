"""What `fsck` compares the database with that lies outside of it: key files, root CRL, high-water mark."""

from collections.abc import Iterator, Sequence

from cryptography import x509

from ca_service.app import material
from ca_service.authority.finding import Finding
from ca_service.authority.log_shards import LogShard
from ca_service.authority.service_inspection import inspect_log_key, inspect_mark
from ca_service.errors import CAError, ConfigurationError, MarkMissing, MarkUnavailable
from ca_service.files.high_water_mark import MarkFile
from ca_service.keys.file import read_private_key
from ca_service.pki.crl import verify_crl
from ca_service.pki.sct import log_id_of
from ca_service.settings import Settings
from ca_service.store.database import Database
from ca_service.store.position import SqlPosition

Said = Finding | str
"""A finding, or a note: something to know that is as it may be."""


class Surroundings:
    """The files that the settings name."""

    def __init__(self, settings: Settings, *, mark: bool = True) -> None:
        """Take the settings, and whether the mark counts; nothing is read yet."""
        self._settings = settings
        self._mark = mark

    def log_keys(self, shards: Sequence[LogShard]) -> Iterator[Said]:
        """Each shard's key file, of which only the public part is used; raises nothing of its own."""
        try:
            secret = material.passphrase(self._settings)
        except ConfigurationError as error:
            yield Finding("log-key-file", "passphrase of the key files", "a passphrase", error.message)
            return
        for shard in shards:
            path = material.log_key_file(self._settings, shard.name)
            if shard.frozen and not path.exists():
                yield f"the key of the closed log shard {shard.name} is not in {path}: it may be destroyed"
                continue
            try:
                key = read_private_key(path, secret, setting="[log] keys_dir")
            except ConfigurationError as error:
                yield from inspect_log_key(shard, None, error.message)
            else:
                yield from inspect_log_key(shard, log_id_of(key.public_key()), "")

    def root_crl(self, root: bytes) -> Iterator[Said]:
        """The CRL of the root that the settings name, against that root (DER)."""
        path = self._settings.authority.root_crl
        try:
            verify_crl(
                material.content_of(path, "[authority] root_crl"), x509.load_der_x509_certificate(root)
            )
        except ConfigurationError as error:
            yield Finding("root-crl", f"root CRL {path}", "a CRL signed by the root", error.message)
        except ValueError as error:
            yield Finding("root-crl", f"root CRL {path}", "a CRL signed by the root", str(error))

    def mark(self, database: Database) -> Iterator[Said]:
        """The high-water mark, read before the database: a database behind it was rolled back."""
        if not self._mark:
            yield "the high-water mark was left out"
            return
        mark = self._settings.high_water_mark
        where = f"high-water mark {mark.path}"
        try:
            seen = MarkFile(mark.path).read()
        except MarkMissing:
            if mark.strict:
                yield Finding("mark-file", where, "the highest that was seen of this service", "no such file")
            else:
                yield f"{where} is not there yet; a relaxed one is made when the service starts"
            return
        except MarkUnavailable as error:
            yield Finding("mark-file", where, "a file of two lines with checksums", error.message)
            return
        position = SqlPosition(database)
        try:
            yield from inspect_mark(seen, position.whole(), position.root_at, position.audit_hash_at)
        except CAError as error:
            yield Finding(
                "mark-file", f"database against the {where}", "to be comparable", f"{error.message}"
            )
