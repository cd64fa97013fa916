"""The log as files in a folder: audited from outside, the same after every crash, and never a fork."""

import base64
import json
import os
import random
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ca_service.app.log_export import LogExport
from ca_service.authority.log_ports import PendingCertificate
from ca_service.authority.log_publisher import LogPublisher
from ca_service.authority.log_shards import ShardState
from ca_service.authority.static_log import LogAddress, StaticLog
from ca_service.errors import LogForked, StoreUnavailable
from ca_service.files.log_folder import LogFolder
from ca_service.merkle.tiles import parse_path
from ca_service.store.append import LogAppender
from ca_service.store.database import Database
from ca_service.store.entry_kinds import CertificateEntries
from ca_service.store.logs import SqlLogReader
from tests.support import static_log
from tests.support.store import RecordingObserver, SettableClock, TestLog, pending

YEARS = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2040, 1, 1, tzinfo=UTC))


class PowerCut(BaseException):
    """Nobody expects it."""


@pytest.fixture
def appender(database: Database, log: TestLog, clock: SettableClock) -> LogAppender[PendingCertificate]:
    return LogAppender(database, log.identity, log.sign, clock, CertificateEntries())


def fill(appender: LogAppender[PendingCertificate], count: int) -> None:
    for start in range(0, count, 256):
        appender.append([pending() for _ in range(min(256, count - start))])


@pytest.fixture
def static(log: TestLog, reader: SqlLogReader) -> StaticLog:
    return StaticLog(log.identity, reader, LogAddress("https://ca.example/ctlog/2026", *YEARS))


def publish(static: StaticLog, folder: Path) -> int:
    files = LogFolder(folder, "2026")
    with files.turn(0) as mine:
        assert mine
        return LogPublisher(static, files).publish().stored


def tree(folder: Path) -> dict[str, bytes]:
    """Every file that is served, by its path below the monitoring prefix."""
    base = folder / "2026"
    return {str(file.relative_to(base)): file.read_bytes() for file in base.rglob("*") if file.is_file()}


def audited(folder: Path, log: TestLog) -> static_log.Audit:
    return static_log.audit(
        lambda path: (folder / "2026" / path).read_bytes(), log.identity.origin, log.key.public_key()
    )


def test_a_folder_of_any_size_passes_an_audit_and_equals_what_is_answered(
    appender: LogAppender[PendingCertificate], static: StaticLog, log: TestLog, tmp_path: Path
) -> None:
    size = 0
    for more in (0, 1, 254, 1, 1, 300, 4096, 700):
        fill(appender, more)
        size += more
        publish(static, tmp_path / "files")
        seen = audited(tmp_path / "files", log)
        assert seen.size == size
        stored = tree(tmp_path / "files")
        assert seen.files.items() <= stored.items()
        for path, content in stored.items():
            if (tile := parse_path(path)) is not None:
                assert static.tile(tile) == content
            elif path.startswith("issuer/"):
                assert static.issuer(bytes.fromhex(path.removeprefix("issuer/"))) == content
            else:
                assert path in ("checkpoint", "log.v3.json")


def test_publishing_again_writes_nothing_until_there_is_something_new(
    appender: LogAppender[PendingCertificate], static: StaticLog, clock: SettableClock, tmp_path: Path
) -> None:
    fill(appender, 300)
    assert publish(static, tmp_path) > 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert publish(static, tmp_path) == 0
    lock = tmp_path / ".2026.lock"
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert {path for path in before if before[path] != after[path]} <= {lock}
    clock.now += 3_600_001
    assert appender.republish(3_600_000) is not None
    assert publish(static, tmp_path) == 1, "a fresh head of the same tree is a new checkpoint alone"


def test_partial_tiles_stay_until_the_full_one_is_there(
    appender: LogAppender[PendingCertificate], static: StaticLog, tmp_path: Path
) -> None:
    for more in (10, 20, 225):
        fill(appender, more)
        publish(static, tmp_path)
    sizes = {"10", "30", "255"}
    for kind in ("0", "data"):
        assert {file.name for file in (tmp_path / f"2026/tile/{kind}/000.p").iterdir()} == sizes
    fill(appender, 1)
    publish(static, tmp_path)
    for kind in ("0", "data"):
        assert [file.name for file in (tmp_path / f"2026/tile/{kind}").iterdir()] == ["000"]


def test_whenever_the_power_goes_the_next_run_ends_with_the_same_files(
    appender: LogAppender[PendingCertificate],
    static: StaticLog,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill(appender, 700)
    publish(static, tmp_path / "whole")
    expected = tree(tmp_path / "whole")
    calls = 0
    fatal = 0

    def dying(name: str) -> None:
        original = getattr(LogFolder, name)

        def dies(self: LogFolder, *arguments: object) -> object:
            nonlocal calls
            calls += 1
            if calls == fatal:
                raise PowerCut
            done = original(self, *arguments)
            calls += 1
            if calls == fatal:
                raise PowerCut
            return done

        monkeypatch.setattr(LogFolder, name, dies)

    for name in ("_write", "settle", "drop_partial_tiles", "advance", "replace"):
        dying(name)
    died = 0
    for fatal in range(1, 1000):
        calls = 0
        folder = tmp_path / f"cut-{fatal}"
        try:
            publish(static, folder)
        except PowerCut:
            died += 1
        else:
            break
        checkpoint = folder / "2026/checkpoint"
        assert not checkpoint.exists() or tree(folder) == expected, "the checkpoint came before its tiles"
        calls = -10_000
        publish(static, folder)
        assert tree(folder) == expected
    assert died > 20


def test_a_file_that_was_half_written_is_written_again(
    appender: LogAppender[PendingCertificate], static: StaticLog, log: TestLog, tmp_path: Path
) -> None:
    fill(appender, 5)
    tmp_path.joinpath(".2026.new").write_bytes(b"half")
    publish(static, tmp_path)
    assert audited(tmp_path, log).size == 5


def test_a_folder_of_another_log_is_left_alone(
    appender: LogAppender[PendingCertificate], static: StaticLog, tmp_path: Path
) -> None:
    fill(appender, 5)
    tile = tmp_path / "2026/tile/0/000.p/5"
    tile.parent.mkdir(parents=True)
    tile.write_bytes(b"of another log")
    with pytest.raises(LogForked, match="nothing was overwritten"):
        publish(static, tmp_path)
    assert tile.read_bytes() == b"of another log"
    assert not (tmp_path / "2026/checkpoint").exists()


def test_a_database_that_went_back_is_not_published(
    database: Database, log: TestLog, clock: SettableClock, tmp_path: Path, database_url: str
) -> None:
    """The same key on another database, as after a restored backup: shorter, then as long but different."""
    address = LogAddress("https://ca.example/ctlog/2026", *YEARS)
    first = LogAppender(database, log.identity, log.sign, clock, CertificateEntries())
    first.append([pending() for _ in range(10)])
    publish(StaticLog(log.identity, SqlLogReader(database, "2026"), address), tmp_path / "files")
    published = tree(tmp_path / "files")

    other = Database("sqlite:///other.db", folder=tmp_path)
    other.migrate()
    log.create(other)
    try:
        again = LogAppender(other, log.identity, log.sign, clock, CertificateEntries())
        static = StaticLog(log.identity, SqlLogReader(other, "2026"), address)
        for count, told in (
            (9, "rolled back"),
            (1, "two logs under one key"),
            (90, "two logs under one key"),
        ):
            again.append([pending() for _ in range(count)])
            with pytest.raises(LogForked, match=told):
                publish(static, tmp_path / "files")
            assert tree(tmp_path / "files") == published
    finally:
        other.close()


def test_one_process_at_a_time_and_not_too_often(
    appender: LogAppender[PendingCertificate], static: StaticLog, tmp_path: Path
) -> None:
    publish(static, tmp_path)
    first, second = LogFolder(tmp_path, "2026"), LogFolder(tmp_path, "2026")
    with first.turn(0) as mine, second.turn(0) as also_mine:
        assert (mine, also_mine) == (True, False)
    with second.turn(0) as mine:
        assert mine
    with second.turn(3600) as mine:
        assert not mine, "the last checkpoint is younger than an hour"
    old = random.Random(1).randrange(10, 20)
    os.utime(tmp_path / "2026/checkpoint", (old, old))
    with second.turn(3600) as mine:
        assert mine


def test_trouble_is_counted_each_time_told_once_and_ends_by_itself(
    appender: LogAppender[PendingCertificate],
    static: StaticLog,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fill(appender, 5)
    astray = tmp_path / "2026/tile/0/000.p/5"
    astray.parent.mkdir(parents=True)
    astray.write_bytes(b"of another log")
    observer = RecordingObserver()
    export = LogExport({"2026": static}, tmp_path, observer)
    for _ in range(3):
        export.publish_in_turn()
    assert observer.counted == [("log_export_failed", {"reason": "log-forked"})] * 3
    assert len(caplog.records) == 1
    astray.unlink()
    export.publish_in_turn()
    assert (tmp_path / "2026/checkpoint").exists()


def in_state(static: StaticLog, state: ShardState) -> StaticLog:
    address = LogAddress("https://ca.example/ctlog/2026", *YEARS, state=state)
    return StaticLog(static.identity, static.reader, address)


def test_a_change_of_state_alone_is_published(
    appender: LogAppender[PendingCertificate], static: StaticLog, tmp_path: Path
) -> None:
    fill(appender, 5)
    publish(static, tmp_path)
    before = tree(tmp_path)
    for state, name in (
        (ShardState.PREPARED, "qualified"),
        (ShardState.ENDED, "usable"),
        (ShardState.FROZEN, "readonly"),
        (ShardState.RETIRED, "retired"),
    ):
        publish(in_state(static, state), tmp_path)
        after = tree(tmp_path)
        described = json.loads(after.pop("log.v3.json"))
        assert list(described["state"]) == [name]
        assert after == {path: content for path, content in before.items() if path != "log.v3.json"}
        if state is ShardState.FROZEN:
            head = static.reader.head()
            final = described["state"]["readonly"]["final_tree_head"]
            assert (base64.b64decode(final["sha256_root_hash"]), final["tree_size"]) == (head.root_hash, 5)


def test_a_shard_retired_for_its_lost_entries_keeps_what_was_published(
    database: Database, log: TestLog, clock: SettableClock, tmp_path: Path
) -> None:
    address = LogAddress("https://ca.example/ctlog/2026", *YEARS)
    first = LogAppender(database, log.identity, log.sign, clock, CertificateEntries())
    first.append([pending() for _ in range(10)])
    publish(StaticLog(log.identity, SqlLogReader(database, "2026"), address), tmp_path / "files")
    published = tree(tmp_path / "files")
    other = Database("sqlite:///other.db", folder=tmp_path)
    other.migrate()
    log.create(other)
    observer = RecordingObserver()
    try:
        lost = in_state(StaticLog(log.identity, SqlLogReader(other, "2026"), address), ShardState.RETIRED)
        export = LogExport({"2026": lost}, tmp_path / "files", observer)
        old = 1
        os.utime(tmp_path / "files/2026/checkpoint", (old, old))
        export.publish_in_turn()
    finally:
        other.close()
    assert observer.counted == []
    after = tree(tmp_path / "files")
    assert list(json.loads(after["log.v3.json"])["state"]) == ["retired"]
    assert {**after, "log.v3.json": published["log.v3.json"]} == published


def test_shards_that_appear_are_published_too_and_one_in_trouble_stops_no_other(
    appender: LogAppender[PendingCertificate], static: StaticLog, tmp_path: Path
) -> None:
    fill(appender, 5)
    logs = {"astray": static}
    observer = RecordingObserver()
    export = LogExport(logs, tmp_path, observer)
    astray = tmp_path / "astray/tile/0/000.p/5"
    astray.parent.mkdir(parents=True)
    astray.write_bytes(b"of another log")
    export.publish_in_turn()
    logs["2026"] = static
    export.publish_in_turn()
    assert observer.counted == [("log_export_failed", {"reason": "log-forked"})] * 2
    assert (tmp_path / "2026/checkpoint").exists()
    assert not (tmp_path / "astray/checkpoint").exists()


@pytest.fixture
def narrow_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("narrow_umask")
def test_the_file_server_may_read_whatever_the_services_umask_is(
    appender: LogAppender[PendingCertificate], static: StaticLog, tmp_path: Path
) -> None:
    fill(appender, 257)
    publish(static, tmp_path / "files")
    for path in (tmp_path / "files").rglob("[!.]*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o755 if path.is_dir() else 0o644), path


def test_a_disk_that_fails_is_named(
    appender: LogAppender[PendingCertificate], static: StaticLog, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreUnavailable, match="File exists"):
        publish(static, tmp_path / "file")


def test_witnesses_sign_what_is_published(
    appender: LogAppender[PendingCertificate], static: StaticLog, tmp_path: Path
) -> None:
    fill(appender, 3)
    files = LogFolder(tmp_path, "2026")
    line = "— witness.example AAAABBBB\n".encode()
    with files.turn(0):
        publisher = LogPublisher(static, files, lambda note: note + line)
        publisher.publish()
        note = files.current("checkpoint")
        assert note is not None
        assert note.endswith(line)
        assert publisher.publish().stored == 0
