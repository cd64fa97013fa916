"""A directory whose database is tampered with past its triggers, for `fsck` to say what is wrong."""

import json
import sqlite3
import time
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from ca_service.app.rollback import guard_of
from ca_service.authority.ports import Actor
from ca_service.authority.status_ports import Revocation
from ca_service.cli import main
from ca_service.cli.founding import Plan, found
from ca_service.store.revocations import SqlRevocations
from ca_service.vocabulary import RevocationReason
from tests.support.entries import Foundation, machine_clock

URL = "http://127.0.0.1:5555"
SIZE = 600
"""Two full tiles and a part of one."""
ACTOR = Actor("local:admin", "host", "request-1")


def make_whole(folder: Path) -> None:
    """Make a directory with entries, two revocations, their published CRLs, and a mark that knows all."""
    found(folder, Plan(URL, URL))
    foundation = Foundation(folder)
    entries = [foundation.entry() for _ in range(SIZE)]
    foundation.appender().append(entries)
    revocations = SqlRevocations(foundation.database, machine_clock)
    for entry in entries[:2]:
        revoked = Revocation(
            entry.serial,
            entry.authority_key,
            entry.crl_shard,
            entry.not_before,
            int(time.time()),
            RevocationReason.KEY_COMPROMISE,
        )
        revocations.revoke([revoked], ACTOR, "revoke-certificate")
    foundation.publication.refresh()
    guard_of(foundation.settings, foundation.database).catch_up()
    foundation.database.close()


class Copy:
    """A copy whose triggers are gone until it is inspected."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = sqlite3.connect(folder / "state/ca.db", isolation_level=None)
        self.log_key = next((folder / "private").glob("log-*.key")).name
        self.triggers: dict[str, str] = dict(
            self.rows("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        )
        for name in self.triggers:
            self.run(f"DROP TRIGGER {name}")

    def run(self, sql: str, *values: object) -> None:
        assert self.database.execute(sql, values).rowcount in (-1, 1), "one row is tampered with"

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self.database.execute(sql).fetchall()

    def one(self, sql: str) -> Any:
        return self.rows(sql)[0][0]

    def guard(self) -> None:
        """Put the triggers back."""
        for name, sql in self.triggers.items():
            self.run(f"DROP TRIGGER IF EXISTS {name}")
            self.run(sql)
        self.database.execute("PRAGMA wal_checkpoint")

    def fsck(self, *options: str) -> tuple[int, dict[str, Any]]:
        self.guard()
        result = CliRunner().invoke(main, ["fsck", "--config", str(self.folder), "--json", *options])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, json.loads(result.stdout)

    def findings(self) -> list[dict[str, str]]:
        """What is found, which must be something."""
        code, report = self.fsck()
        assert code == 1, report
        assert report["count"] == len(report["findings"])
        found: list[dict[str, str]] = report["findings"]
        return found

    def found(self) -> dict[str, str]:
        """Rule and sentence of each finding."""
        return {one["rule"]: one["message"] for one in self.findings()}


def flip(content: bytes, place: int) -> bytes:
    return content[:place] + bytes((content[place] ^ 1,)) + content[place + 1 :]
