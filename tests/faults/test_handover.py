"""Clients that ask for certificates are brought to one worker, and go on when that one ends or hangs."""

import contextlib
import functools
from collections import Counter
from collections.abc import Iterator

import psutil
import pytest

from tests.support.issuer import LocalIssuer
from tests.support.processes import (
    UNLIMITED,
    RunningService,
    production_service,
    running,
    suspend,
    wait_until,
)
from tests.support.signers import Signers

EMAIL = "handed@example.com"
CLIENTS = 6


@pytest.fixture(scope="module")
def issuer() -> Iterator[LocalIssuer]:
    with LocalIssuer() as started:
        yield started


@pytest.fixture(scope="module")
def service(issuer: LocalIssuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    folder = tmp_path_factory.mktemp("handover") / "ca"
    made = production_service(folder, issuers=issuer.issuer_file(), workers=3, environ=UNLIMITED)
    with running(made) as started:
        yield started


@pytest.fixture
def signers(service: RunningService, issuer: LocalIssuer) -> Signers:
    wait_until(lambda: len(service.workers()) == 3, 60, "all workers")
    return Signers(service.url, issuer, EMAIL)


def places(service: RunningService) -> Counter[int]:
    """How many clients are connected to each worker."""
    port = int(service.url.rpartition(":")[2])
    found: Counter[int] = Counter()
    for worker in service.workers():
        with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
            for each in worker.net_connections("tcp"):
                if each.status == psutil.CONN_ESTABLISHED and each.laddr.port == port:
                    found[worker.pid] += 1
    return found


def together(service: RunningService, elsewhere: int = 0) -> int:
    """The worker that has all clients, and is another than that; 0 while none has."""
    found = places(service)
    return next((pid for pid, count in found.items() if count == CLIENTS and pid != elsewhere), 0)


def test_signers_that_keep_their_connections_come_together_and_go_on_when_their_worker_is_replaced(
    service: RunningService, signers: Signers
) -> None:
    with signers.asking(CLIENTS):
        first = wait_until(lambda: together(service), 60, "all with one worker")
        psutil.Process(first).terminate()
        wait_until(functools.partial(together, service, first), 60, "all with another worker")
        signers.wait_for_more(40)
    assert signers.failed == []
    assert signers.refused == 0


def test_when_their_worker_is_killed_they_come_together_at_another(
    service: RunningService, signers: Signers
) -> None:
    with signers.asking(CLIENTS):
        first = wait_until(lambda: together(service), 60, "all with one worker")
        psutil.Process(first).kill()
        wait_until(functools.partial(together, service, first), 60, "all with another worker")
    assert len(signers.failed) <= CLIENTS, "more than the requests that it had begun"


def test_when_their_worker_hangs_who_comes_later_does_not_wait_for_it(
    service: RunningService, issuer: LocalIssuer, signers: Signers
) -> None:
    with signers.asking(CLIENTS):
        hanging = psutil.Process(wait_until(lambda: together(service), 60, "all with one worker"))
        suspend(hanging)
        try:
            later = Signers(service.url, issuer, EMAIL)
            with later.asking(CLIENTS):
                later.wait_for_more(40)
        finally:
            hanging.resume()
        signers.wait_for_more()
    # Whoever was in the middle of a batch may be told that the log was busy.
    assert [failure for failure in (*signers.failed, *later.failed) if not failure.startswith("503")] == []
