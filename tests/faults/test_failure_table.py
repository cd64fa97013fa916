"""What can happen to a log on one machine: break, observe, mend, then `fsck` the whole."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from click.testing import CliRunner

from ca_service.authority.log_ports import Sequenced
from ca_service.cli import main
from ca_service.cli.founding import Plan, found
from ca_service.errors import ClockBehind, LogUnavailable
from ca_service.store.connections import ProcessConnections
from ca_service.store.inspection import SqlInspection
from ca_service.vocabulary import TimestampMs
from tests.faults.dying_worker import STEPS
from tests.faults.losing import Losing
from tests.faults.test_kill_workers import EMAIL, Load, audit
from tests.support.entries import Foundation, machine_clock
from tests.support.issuer import LocalIssuer
from tests.support.postgres import LocalPostgres
from tests.support.processes import (
    RunningService,
    environment,
    free_port,
    http,
    production_service,
    running,
    succeed,
    suspend,
    wait_until,
)
from tests.support.signing import bearer, key_body, new_key

REPOSITORY = Path(__file__).parents[2]
URL = "http://127.0.0.1:5555"
DATABASE = "CASVC_DATABASE__URL"


@pytest.fixture(scope="module")
def issuer() -> Iterator[LocalIssuer]:
    with LocalIssuer() as started:
        yield started


@pytest.fixture(params=["sqlite", "postgresql"])
def environ(request: pytest.FixtureRequest) -> dict[str, str]:
    """The environment that names a database of either kind; SQLite needs none."""
    if request.param == "sqlite":
        return {}
    server: LocalPostgres = request.getfixturevalue("postgres")
    return {DATABASE: server.new_database()}


@pytest.fixture
def foundation(
    environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Foundation]:
    """A directory with a log of three entries."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    found(tmp_path / "ca", Plan(URL, URL))
    made = Foundation(tmp_path / "ca", lock_timeout=60)
    made.append(3)
    yield made
    made.database.close()


def size_of(foundation: Foundation) -> int:
    """The signed size of the log."""
    ((log,), _) = SqlInspection(foundation.database).logs()
    return log.head.tree_size


def fsck(folder: Path, environ: dict[str, str]) -> None:
    """Demand that everything agrees."""
    done = CliRunner().invoke(main, ["fsck", "--config", str(folder)], env=environ)
    assert done.exit_code == 0, done.output
    assert "Everything agrees." in done.stdout


@pytest.mark.parametrize("step", STEPS)
def test_kill_9_at_each_step_stores_all_or_nothing(
    foundation: Foundation, environ: dict[str, str], step: str
) -> None:
    foundation.append(252)  # the next entry completes a tile
    done = die_at(foundation, environ, step)
    assert done.returncode == -signal.SIGKILL, done.stderr
    stored = 256 if step == "after COMMIT" else 255
    assert size_of(foundation) == stored
    foundation.append(1)
    assert size_of(foundation) == stored + 1
    fsck(foundation.folder, environ)


@pytest.mark.parametrize("environ", ["sqlite"], indirect=True)
def test_a_disk_that_does_not_confirm_a_write_ends_the_process_and_the_next_one_reads_it_afresh(
    foundation: Foundation, environ: dict[str, str]
) -> None:
    done = die_at(foundation, environ, "fsync")
    assert done.returncode == os.EX_SOFTWARE, done.stderr
    assert size_of(foundation) == 3
    foundation.append(1)
    assert size_of(foundation) == 4
    fsck(foundation.folder, environ)


def die_at(foundation: Foundation, environ: dict[str, str], step: str) -> subprocess.CompletedProcess[bytes]:
    """Let another process append one entry, which it must not live to acknowledge."""
    foundation.database.close()
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.dying_worker", str(foundation.folder), step],
        cwd=REPOSITORY,
        env=environment(environ),
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.stdout == b""
    return done


@pytest.mark.parametrize("stored", [True, False])
def test_a_connection_lost_during_commit_is_never_appended_twice(
    foundation: Foundation, environ: dict[str, str], stored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = foundation.entry()
    original, left = ProcessConnections.open, [1]

    def opened(self: ProcessConnections) -> Any:
        connection = original(self)
        return Losing(connection, stored=stored) if left and left.pop() else connection

    foundation.database.close()
    monkeypatch.setattr(ProcessConnections, "open", opened)
    sequencer = foundation.sequencer()
    if stored:
        assert sequencer.append(entry).leaf_index == 3
    else:
        with pytest.raises(LogUnavailable):
            sequencer.append(entry)
        assert sequencer.append(entry).leaf_index == 3
    sequencer.close()
    assert size_of(foundation) == 4
    fsck(foundation.folder, environ)


def test_a_clock_that_steps_back_stops_the_log_until_it_is_right(
    foundation: Foundation, environ: dict[str, str]
) -> None:
    steps = {"by": 0}

    def clock() -> TimestampMs:
        return TimestampMs(machine_clock() + steps["by"])

    sequencer = foundation.sequencer(clock)
    before: Sequenced = sequencer.append(foundation.entry())
    steps["by"] = -1_500
    assert sequencer.append(foundation.entry()).timestamp >= before.timestamp, "small steps are bridged"
    steps["by"] = -3_600_000
    with pytest.raises(ClockBehind) as told:
        sequencer.append(foundation.entry())
    assert told.value.retry_after
    assert size_of(foundation) == 5
    steps["by"] = 0
    assert sequencer.append(foundation.entry()).leaf_index == 5
    sequencer.close()
    fsck(foundation.folder, environ)


# -- the service itself ------------------------------------------------------------------------------------


class Asking:
    """One who asks for certificates, each over a connection of its own."""

    def __init__(self, service: RunningService, issuer: LocalIssuer) -> None:
        self.url = f"{service.url}/api/v2/signingCert"
        self.headers = bearer(issuer.token(EMAIL))
        self.body = key_body(new_key(), EMAIL)

    def __call__(self) -> requests.Response:
        with http() as session:
            return session.post(self.url, json=self.body, headers=self.headers, timeout=60)


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Callable[[int], None]]:
    """A file system of so many megabytes in place of a folder; gives what changes its size."""

    def mount(options: str) -> None:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (
            "this test fills a real disk, a small tmpfs, which it must be allowed to mount: run it as root "
            f"with CAP_SYS_ADMIN (docker run --privileged). mount said: {done.stderr}"
        )

    aside = folder.with_name("aside")
    folder.rename(aside)
    folder.mkdir(mode=0o700)
    mount(f"size={megabytes}m,mode=700")
    try:
        shutil.copytree(aside, folder, dirs_exist_ok=True)
        yield lambda size: mount(f"remount,size={size}m")
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_is_told_with_503_and_room_mends_it(issuer: LocalIssuer, tmp_path: Path) -> None:
    service = production_service(tmp_path / "ca", issuers=issuer.issuer_file())
    with small_disk(service.directory / "state", 3) as resize:
        with running(service):
            ask = Asking(service, issuer)
            for _ in range(2000):
                reply = ask()
                if reply.status_code != 200:
                    break
            assert reply.status_code == 503, reply.text
            assert int(reply.headers["Retry-After"]) >= 1
            resize(64)
            wait_until(lambda: ask().status_code == 200, 60, "a certificate once there is room")
            with http() as session:
                audit(service, session, [])
        fsck(service.directory, {})


def holder_of_the_lock(service: RunningService) -> psutil.Process | None:
    """The stopped worker that holds the write lock."""
    inode = (service.directory / "state/ca.db.lock").stat().st_ino
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if "->" not in fields and fields[1] == "FLOCK" and fields[5].endswith(f":{inode}"):
            return next((each for each in service.workers() if each.pid == int(fields[4])), None)
    return None


def test_a_stopped_holder_of_the_lock_means_503_until_it_goes_on(issuer: LocalIssuer, tmp_path: Path) -> None:
    service = production_service(tmp_path / "ca", issuers=issuer.issuer_file(), workers=2)
    with running(service):
        load = Load(service.url, issuer.token(EMAIL))
        ask = Asking(service, issuer)
        with load.running():
            load.wait_for(20)
            deadline = time.monotonic() + 240
            while True:
                victim = service.workers()[0]
                suspend(victim)
                # Only one that was stopped within its transaction still has the lock.
                if (holder := holder_of_the_lock(service)) is not None and holder.pid == victim.pid:
                    break
                victim.resume()
                assert time.monotonic() < deadline, "the worker was never stopped while it held the lock"
                time.sleep(0.003)
            try:
                with ThreadPoolExecutor(2) as pool:
                    # They come while the holder is still stopped.
                    for reply in pool.map(lambda _: ask(), range(2)):
                        assert reply.status_code == 503, reply.text
                        assert int(reply.headers["Retry-After"]) >= 1
            finally:
                victim.resume()
            wait_until(lambda: ask().status_code == 200, 60, "a certificate once the holder goes on")
            load.wait_for(20)
        assert set(load.refused) <= {503}
        with http() as session:
            audit(service, session, load.acknowledged)
        fsck(service.directory, {})


def longer(grown: list[int], than: int) -> bool:
    return len(grown) > than


def test_postgresql_that_restarts_under_load_loses_nothing_acknowledged(
    issuer: LocalIssuer, postgres: LocalPostgres, tmp_path: Path
) -> None:
    environ = {DATABASE: postgres.new_database()}
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    folder = tmp_path / "ca"
    succeed("init", "--dir", folder, "--url", url, environ=environ)
    (folder / "issuers.yaml").write_text(issuer.issuer_file())
    command = [str(Path(sys.executable).parent / "ca-service"), "serve", "--config", str(folder / "ca.toml")]
    service = RunningService(
        directory=folder,
        url=url,
        command=[*command, "--bind", f"127.0.0.1:{port}", "--workers", "2"],
        environ={"CASVC_OIDC__PRIVATE_NETWORKS": '["127.0.0.0/8"]', **environ},
    )
    with running(service):
        load = Load(service.url, issuer.token(EMAIL))
        with load.running():
            for how in (signal.SIGINT, signal.SIGQUIT):
                load.wait_for(40)
                postgres.stop(how)
                refused = len(load.refused)
                wait_until(partial(longer, load.refused, refused), 60, "a refusal while the database is away")
                postgres.start()
            load.wait_for(40)
        assert set(load.refused) <= {503}, load.refused
        with http() as session:
            assert audit(service, session, load.acknowledged) >= len(load.acknowledged)
    fsck(folder, environ)
