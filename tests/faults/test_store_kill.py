"""Workers are killed with -9 while they append: nothing acknowledged is lost, and the whole log holds."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ca_service.store.database import Database
from ca_service.store.issued import SqlIssuedCertificates
from ca_service.store.logs import SqlLogReader
from ca_service.vocabulary import Serial
from tests.support import merkle
from tests.support.processes import wait_until
from tests.support.store import AUTHORITY_KEY, SettableClock, TestLog, audit_log, pending

ROUNDS = 4
WORKERS = 2
REPOSITORY = Path(__file__).parents[2]


def start_worker(folder: Path, url: str, number: int) -> "subprocess.Popen[bytes]":
    """A process whose threads append without end and write down what was acknowledged."""
    errors = folder / f"errors-{number}"
    with (folder / f"acknowledged-{number}").open("wb") as acknowledged, errors.open("wb") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.faults.appending_worker", str(folder), url],
            cwd=REPOSITORY,
            stdout=acknowledged,
            stderr=said,
        )


def acknowledged_in(folder: Path) -> list[tuple[int, int, str]]:
    """(serial, leaf index, leaf hash) of each whole line; a line cut by the kill was not read by anybody."""
    found = []
    for path in folder.glob("acknowledged-*"):
        for line in path.read_bytes().split(b"\n")[:-1]:
            serial, index, leaf_hash = json.loads(line)
            found.append((serial, index, leaf_hash))
    return found


def appended(folder: Path, workers: Sequence["subprocess.Popen[bytes]"], count: int) -> bool:
    """Whether so many entries were acknowledged; the workers must be alive."""
    said = [file.read_text() for file in folder.glob("errors-*")]
    assert all(worker.poll() is None for worker in workers), said
    return len(acknowledged_in(folder)) >= count


@pytest.fixture
def killed(tmp_path: Path, database_url: str) -> tuple[Database, TestLog, list[tuple[int, int, str]]]:
    """A log on which workers were killed in several rounds, and what they had acknowledged."""
    database = Database(database_url, folder=tmp_path, lock_timeout=60)
    database.migrate()
    log = TestLog()
    log.create(database)
    database.close()
    key = log.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "log.key").write_bytes(key)
    chosen = random.Random(20261123)
    for round_number in range(ROUNDS):
        workers = [
            start_worker(tmp_path, database_url, round_number * WORKERS + number) for number in range(WORKERS)
        ]
        try:
            known = len(acknowledged_in(tmp_path))
            wait_until(partial(appended, tmp_path, workers, known + 100), 240, "a hundred more entries")
            time.sleep(chosen.random() * 0.3)  # die at any point of a transaction
        finally:
            for worker in workers:
                worker.kill()
            for worker in workers:
                worker.wait()
    return database, log, acknowledged_in(tmp_path)


def test_after_kills_the_log_is_whole_and_holds_all_that_was_acknowledged(
    killed: tuple[Database, TestLog, list[tuple[int, int, str]]],
) -> None:
    database, log, acknowledged = killed
    reader = SqlLogReader(database, "2026")
    head = audit_log(reader, log)
    entries = reader.entries(0, head.tree_size)

    assert len(acknowledged) >= ROUNDS * 100
    assert len({index for _, index, _ in acknowledged}) == len(acknowledged), "an index was given twice"
    issued = SqlIssuedCertificates(database)
    for serial, index, leaf_hash in acknowledged:
        assert merkle.leaf_hash(entries[index].leaf).hex() == leaf_hash
        certificate = issued.by_serial(Serial(serial))
        assert certificate is not None
        assert (certificate.leaf_index, certificate.authority_key) == (index, AUTHORITY_KEY)
    with database.reading() as connection:
        rows = connection.exec_driver_sql("SELECT leaf_index FROM issued ORDER BY leaf_index").scalars().all()
    assert list(rows) == list(range(head.tree_size)), (
        "an entry without its issued row, or a row without entry"
    )

    sequencer = log.sequencer(database, SettableClock(head.timestamp))
    assert sequencer.append(pending()).leaf_index == head.tree_size
    sequencer.close()
    audit_log(reader, log)
    database.close()
