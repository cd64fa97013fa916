"""kill -9 while the log is being written as files: the next run ends with what an undisturbed one makes."""

import random
import signal
import subprocess
from pathlib import Path

import pytest

from ca_service.app.log_export import export_log
from ca_service.settings import load_settings
from ca_service.store.append import LogAppender
from ca_service.store.database import Database
from ca_service.store.entry_kinds import CertificateEntries
from tests.support import static_log
from tests.support.processes import CA_SERVICE, environment, succeed
from tests.support.store import SettableClock, TestLog, pending

ENTRIES = 6_000
ROUNDS = 4
DYING = """
import os
import signal
from pathlib import Path

usual, left = Path.replace, [int(os.environ["DIE_AT"])]

def replace(self, target):
    left[0] -= 1
    if left[0] == 0:
        if os.environ["CUT_SHORT"] == "1":
            os.truncate(self, self.stat().st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)
    return usual(self, target)

Path.replace = replace
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TestLog]:
    """What `init` makes, and beside its log another one that has many entries already."""
    folder = tmp_path_factory.mktemp("export") / "ca"
    succeed("init", "--dir", folder, "--url", "http://127.0.0.1:5555")
    settings = folder / "ca.toml"
    database = Database("sqlite:///state/ca.db", folder=folder)
    log = TestLog("large")
    log.create(database)
    appender = LogAppender(database, log.identity, log.sign, SettableClock(), CertificateEntries())
    for _ in range(ENTRIES // 2000):
        appender.append([pending() for _ in range(2000)])
    database.close()
    text = settings.read_text()
    shard = next(line for line in text.splitlines() if line.startswith("shard = "))
    settings.write_text(text.replace(shard, 'shard = "large"'))
    return settings, log


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in (folder / "large").rglob("*")
        if file.is_file()
    }


def test_the_folder_is_the_same_however_often_the_exporter_is_killed(
    directory: tuple[Path, TestLog], tmp_path: Path
) -> None:
    settings, log = directory
    exported = list(export_log(load_settings(settings, {}), tmp_path / "whole", SettableClock()))
    assert "large" in {path.name for path, _ in exported}
    whole = tree(tmp_path / "whole")
    read = static_log.audit(
        lambda path: (tmp_path / "whole/large" / path).read_bytes(),
        log.identity.origin,
        log.key.public_key(),
    )
    assert read.size == ENTRIES

    (tmp_path / "dying").mkdir()
    (tmp_path / "dying/sitecustomize.py").write_text(DYING)
    command = [str(CA_SERVICE), "log", "export", "--config", str(settings), "--dir", str(tmp_path / "cut")]
    chance = random.Random(9)
    part = dict[str, bytes]()
    for round_number in range(ROUNDS):
        files = chance.randrange(2, (len(whole) - len(part)) // 3)
        dying = {
            "PYTHONPATH": str(tmp_path / "dying"),
            "DIE_AT": f"{files}",
            "CUT_SHORT": f"{round_number % 2}",
        }
        killed = subprocess.run(
            command, env=environment(dying), capture_output=True, timeout=240, check=False
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        before, part = part, tree(tmp_path / "cut")
        assert before.items() <= part.items() <= whole.items(), "half a file, or a wrong one, has a name"
        assert len(before) < len(part) < len(whole), "it was in the middle of it"
        assert "large/checkpoint" not in part, "the checkpoint came before its tiles"
    subprocess.run(command, env=environment(), check=True, capture_output=True, timeout=240)
    assert tree(tmp_path / "cut") == whole
