"""Counting in several processes: nothing is lost or doubled when one is killed, and nothing piles up."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ca_service.telemetry.cells import CAPACITY
from ca_service.telemetry.metrics import PrometheusObserver
from ca_service.telemetry.multiprocess import PREFIX, MetricsDirectory

ISSUED = ("casvc_certificates_issued", ())
WORKERS = ("casvc_workers", ())
KEYS = ("casvc_issuer_keys", ("i",))


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[tuple[PrometheusObserver, MetricsDirectory]]:
    directory = MetricsDirectory(tmp_path)
    observer = PrometheusObserver()
    observer.share(directory)
    yield observer, directory
    directory.close()
    assert not list(tmp_path.iterdir())


def child(work: Callable[[], object]) -> tuple[int, int]:
    """A process that does some work and then waits to be killed; its pid, once the work is done."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os.write(writing, b".")
            signal.pause()
        finally:
            os._exit(1)
    os.close(writing)
    assert os.read(reading, 1) == b".", "the child failed"
    return pid, reading


def kill(process: tuple[int, int]) -> int:
    pid, reading = process
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(reading)
    return pid


def test_what_killed_workers_counted_stays_and_their_levels_go(
    shared: tuple[PrometheusObserver, MetricsDirectory],
) -> None:
    observer, directory = shared

    def work() -> None:
        observer.level("workers", 1)
        observer.level("issuer_keys", 3, issuer="i")
        for _ in range(5):
            observer.count("certificate_issued")
            observer.duration("log", 0.5)

    observer.level("issuer_keys", 2, issuer="i")
    workers = [child(work) for _ in range(3)]
    found = observer.samples()
    assert found[ISSUED] == [15.0]
    assert found[WORKERS] == [3.0], "levels of workers are added"
    assert found[KEYS] == [3.0], "or the highest counts"
    assert set(observer.processes()) == {os.getpid(), *(pid for pid, _ in workers)}

    observer.forget(kill(workers[0]))
    found = observer.samples()
    assert found[ISSUED] == [15.0]
    assert found["casvc_stage_seconds", ("log",)][0] == 7.5
    assert found[WORKERS] == [2.0]
    kill(workers[1])
    observer.forget(kill(workers[2]))  # and the one that nobody spoke of
    found = observer.samples()
    assert found[ISSUED] == [15.0]
    assert WORKERS not in found
    assert found[KEYS] == [2.0]
    assert found["casvc_workers_ended", ()] == [2.0]
    assert len(list(directory.path.iterdir())) == 4, "lock, sum, and this process's two files"


def test_months_of_recycled_workers_take_no_more_room_than_a_day(
    shared: tuple[PrometheusObserver, MetricsDirectory],
) -> None:
    observer, directory = shared
    sizes = []
    for _ in range(40):
        observer.forget(kill(child(lambda: observer.count("certificate_issued"))))
        sizes.append(sum(file.stat().st_size for file in directory.path.iterdir()))
    assert observer.samples()[ISSUED] == [40.0]
    assert max(sizes) - sizes[0] < 200
    assert max(sizes) < 8 * CAPACITY + 5000


def test_no_page_shows_a_worker_twice_or_not_at_all_while_it_is_added_up(
    shared: tuple[PrometheusObserver, MetricsDirectory],
) -> None:
    observer, _ = shared
    workers = [child(lambda: observer.count("certificate_issued")) for _ in range(25)]
    seen: list[float] = []
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            seen.append(observer.samples()[ISSUED][0])

    readers = [threading.Thread(target=look) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for worker in workers:
            observer.forget(kill(worker))
    finally:
        over.set()
        for reader in readers:
            reader.join()
    assert seen
    assert set(seen) == {25.0}


def test_a_worker_that_was_killed_while_it_named_a_number_is_added_up_all_the_same(
    shared: tuple[PrometheusObserver, MetricsDirectory],
) -> None:
    observer, directory = shared
    worker = child(lambda: observer.count("certificate_issued"))
    names = next(directory.path.glob(f"{worker[0]}-*.names"))
    with names.open("ab") as file:
        file.write(b'65 1 ["counter", "casvc_cert')
    observer.forget(kill(worker))
    assert observer.samples()[ISSUED] == [1.0]


def test_directories_of_services_that_were_killed_are_removed_and_no_others(tmp_path: Path) -> None:
    kept = MetricsDirectory(tmp_path)

    def make() -> None:
        MetricsDirectory(tmp_path)

    orphan = child(make)
    assert len(list(tmp_path.glob(f"{PREFIX}*"))) == 2
    MetricsDirectory(tmp_path).close()
    assert len(list(tmp_path.glob(f"{PREFIX}*"))) == 2, "all are in use"
    kill(orphan)
    MetricsDirectory(tmp_path).close()
    assert list(tmp_path.iterdir()) == [kept.path]
    kept.close()


def test_a_process_without_room_for_its_numbers_goes_on_alone(
    shared: tuple[PrometheusObserver, MetricsDirectory], monkeypatch: pytest.MonkeyPatch
) -> None:
    observer, _ = shared
    observer.count("certificate_issued")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    worker = child(lambda: observer.count("certificate_issued"))
    assert observer.samples()[ISSUED] == [1.0]
    kill(worker)
