"""Directories with true entries, revocations, blocks and records, as any revision of the schema had them."""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from alembic import command
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from sqlalchemy import MetaData, Table, insert, select, text

from ca_service.app import build_service
from ca_service.authority.issuance import PublicKeyProof
from ca_service.authority.log import LogIdentity
from ca_service.authority.log_ports import LogEntry
from ca_service.authority.status_ports import Selector
from ca_service.cli import main
from ca_service.cli.founding import Plan, found
from ca_service.keys.file import read_private_key
from ca_service.pki.keys import spki_der
from ca_service.pki.sct import digitally_sign, log_id_of
from ca_service.settings import load_settings
from ca_service.store.append import LogAppender
from ca_service.store.database import Database
from ca_service.store.entry_kinds import CertificateEntries
from ca_service.store.logs import SqlLogReader
from ca_service.store.revisions import migration_config
from ca_service.store.schema import metadata
from ca_service.vocabulary import RevocationReason, Serial
from ca_service.web.dev_idp import DevIdentityProvider
from tests.support.entries import Foundation, machine_clock
from tests.support.signing import new_key, prove, public_pem
from tests.support.store import ACTOR

EMAIL = "ada@example.com"
URL = "http://127.0.0.1:5555"
REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006")
SIZE = 300
_FIRST_WITH_SHARDS = "0004"

Rows = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True)
class History:
    """A directory whose SQLite database is of the newest schema, and all that is in it."""

    folder: Path
    rows: Rows
    entries: Mapping[int, Sequence[LogEntry]]


@dataclass(frozen=True)
class Histories:
    """One with a single log, as there was before 0004, and one that went on into a second shard."""

    single: History
    sharded: History

    def of(self, revision: str) -> History:
        return self.sharded if revision >= _FIRST_WITH_SHARDS else self.single


def done(*arguments: str | Path) -> str:
    """What a verb prints that ends well."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def make_histories(folder: Path, size: int = SIZE) -> Histories:
    """Make both: entries, revocations with their CRLs, blocks with a gap in their numbers, a used token."""
    single, sharded = folder / "single", folder / "sharded"
    found(single, Plan(URL, URL))
    foundation = Foundation(single)
    foundation.append(size)
    rows = rows_of(foundation.database)
    config: list[str | Path] = ["--config", single]
    for leaf, reason in ((7, "keyCompromise"), (8, "superseded")):
        done("revoke", "certificate", rows["issued"][leaf]["serial"], "--reason", reason, *config)
    done("block", "--identity", "*@stolen.example", "--reason", "their provider was broken into", *config)
    done("block", "--identity", "mistake@example.com", "--reason", "a mistake", *config)
    done("unblock", "--identity", "mistake@example.com", "--comment", "it was one", *config)
    with foundation.database.writing() as connection:
        uses = metadata.tables["token_uses"]
        connection.execute(insert(uses).values(token_hash=b"\x07" * 32, expires=4_000_000_000))
    foundation.publication.refresh()
    foundation.database.close()
    shutil.copytree(single, sharded)

    first = Foundation(sharded)
    shard = first.log.shard
    done("log", "retire", shard, "--reason", "a test", "--name", "second", "--config", sharded)
    key = read_private_key(sharded / "private/log-second.key", None)
    identity = LogIdentity("second", "127.0.0.1:5555/ctlog/second", log_id_of(key.public_key()), b"")
    identity = replace(identity, public_key_der=spki_der(key.public_key()))
    second = LogAppender(
        first.database,
        identity,
        lambda message: digitally_sign(key, message),
        machine_clock,
        CertificateEntries(),
    )
    second.append([first.entry() for _ in range(size // 10)])
    first.publication.refresh()
    first.database.close()
    return Histories(_history(single), _history(sharded))


def issue_and_revoke(folder: Path, database_url: str) -> int:
    """Have the whole service, in this process, issue a certificate, revoke it and say so by OCSP.

    Returns the number of a block that it made: that of one that was lifted is not given again.
    """
    provider = DevIdentityProvider(URL)
    environ = {"CASVC_LOGGING__ACCESS": "false", "CASVC_DATABASE__URL": database_url}
    service = build_service(load_settings(folder / "ca.toml", environ), provider)
    try:
        assert {name for name, trouble in service.checks().items() if trouble} == set()
        key = new_key()
        proof = PublicKeyProof(public_pem(key).encode(), prove(key, EMAIL))
        chain = service.issuance.issue(provider.sign_token(EMAIL), proof).certificates
        leaf, issuing = (x509.load_pem_x509_certificate(pem.encode()) for pem in chain[:2])
        question = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuing, hashes.SHA256()).build()

        def status() -> ocsp.OCSPCertStatus:
            answer = service.responder.respond(question.public_bytes(Encoding.DER))
            return ocsp.load_der_ocsp_response(answer.der).certificate_status

        assert status() is ocsp.OCSPCertStatus.GOOD
        service.desk.revoke_certificate(
            Serial(leaf.serial_number),
            reason=RevocationReason.SUPERSEDED,
            revocation_date=None,
            comment="",
            actor=ACTOR,
        )
        assert status() is ocsp.OCSPCertStatus.REVOKED
        (block,) = service.desk.block(
            Selector(identity="eve@example.com"), reason="", expires=None, everybody=False, actor=ACTOR
        )
        return block.number
    finally:
        service.close()


def _history(folder: Path) -> History:
    database = Database("sqlite:///state/ca.db", folder=folder)
    try:
        rows = rows_of(database)
        entries = {
            log["id"]: SqlLogReader(database, log["shard"]).entries(0, len(rows["leaves"]))
            for log in rows["logs"]
        }
    finally:
        database.close()
    assert {bytes(row["precertificate"]) for row in rows["leaves"]} == {b""}
    return History(folder, rows, entries)


def rows_of(database: Database) -> dict[str, list[Mapping[str, Any]]]:
    """All that is stored, as SQLAlchemy reads it."""
    with database.reading() as connection:
        return {
            table.name: [
                dict(row) for row in connection.execute(select(table).order_by(*table.primary_key)).mappings()
            ]
            for table in metadata.sorted_tables
        }


@contextmanager
def as_of(revision: str, histories: Histories, url: str, folder: Path) -> Iterator[Database]:
    """A copy of a history's directory whose database, at `url`, is as that revision had it."""
    history = histories.of(revision)
    shutil.copytree(history.folder, folder)
    database = Database(url, folder=folder, lock_timeout=60)
    if database.engine_name == "sqlite":
        for file in (folder / "state").glob("ca.db*"):
            file.unlink()
        os.close(os.open(folder / "state/ca.db", os.O_CREAT, 0o600))
    with database.writing() as connection:
        config = migration_config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        connection.execute(text("DELETE FROM generations"))
        # Whether a column is there then says whether its values were.
        for name, rows in _in_the_form_of(revision, history).items():
            stored = Table(name, MetaData(), autoload_with=connection, resolve_fks=False)
            connection.execute(
                insert(stored), [{key: row[key] for key in row if key in stored.c} for row in rows]
            )
        # The second block was lifted: its number stays given.
        if database.engine_name == "postgresql":
            connection.execute(text("SELECT setval('blocks_id_seq', 2)"))
        else:
            connection.execute(text("UPDATE sqlite_sequence SET seq = 2 WHERE name = 'blocks'"))
    database.close()
    try:
        yield database
    finally:
        database.close()


def _in_the_form_of(revision: str, history: History) -> dict[str, list[dict[str, Any]]]:
    """The tables that had rows, with the newest values but where an older form was another.

    Before 0006 precertificates were kept whole, and what SQLAlchemy gives as hex was stored as hex.
    """
    old = {name: [dict(row) for row in rows] for name, rows in history.rows.items() if rows}
    if revision < "0002":
        del old["token_uses"]
    if revision < "0006":
        for leaf in old["leaves"]:
            leaf["precertificate"] = history.entries[leaf["log"]][leaf["leaf_index"]].precertificate
    else:
        octets = [("issued", "serial"), ("issued", "key_sha256"), ("revocations", "serial")]
        for table, column in octets:
            for row in old[table]:
                row[column] = bytes.fromhex(row[column])
    return old
