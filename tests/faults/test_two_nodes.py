"""Two nodes lose a worker, a node, the database, the way to it, Redis: what was given out stays.

Each is broken under load, watched, mended without a hand on the nodes, and the whole log is audited after it.
"""

import contextlib
import signal
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import psutil
import psycopg
import pytest

from tests.support.cluster import Cluster, Load, Node, question, said, verdict
from tests.support.processes import http, wait_until
from tests.support.signing import Issued
from tests.support.verifier import crl_url, ocsp_get_url, ocsp_url

PATIENT = 120.0
TOLD_TO_WAIT = {"503", "502", "504", "429"}
"""What signers are told while something is broken; they ask again."""


@pytest.fixture(autouse=True)
def _whole_before_and_after(cluster: Cluster) -> Iterator[None]:
    cluster.wait_ready()
    yield
    cluster.wait_ready()


@contextlib.contextmanager
def loaded(cluster: Cluster) -> Iterator[Load]:
    """Under load before, meanwhile and afterwards; then nothing that was given out is missing."""
    with Load(cluster) as load:
        load.more(15)
        yield load
        cluster.wait_ready()
        load.more(15)
    assert set(load.refused) <= TOLD_TO_WAIT, load.refused
    cluster.nothing_lost(load.issued)


def test_a_worker_is_killed(cluster: Cluster) -> None:
    with loaded(cluster) as load:
        for node in cluster.nodes:
            killed = node.service.workers()[0]
            killed.kill()
            load.more(10)
            wait_until(partial(_replaced, node, killed.pid), PATIENT, "another worker in its place")


def _replaced(node: Node, killed: int) -> bool:
    now = {process.pid for process in node.service.workers()}
    return len(now) == 2 and killed not in now


def test_a_whole_node_is_killed_and_comes_back(cluster: Cluster) -> None:
    first, second = cluster.nodes
    with loaded(cluster) as load:
        revoked = cluster.issue()
        first.service.kill()
        load.more(20)  # nginx asks the other one
        assert said(second) == "READY"
        # Whoever published before: the other one does now.
        second.service.admin("revoke", "certificate", revoked.serial)
        assert second.status(revoked) == "REVOKED"
        dirty = "SELECT count(*) FROM crl_shards WHERE generation <> published_generation"
        wait_until(lambda: cluster.sql(dirty) == [(0,)], PATIENT, "published by the one that is left")
        first.service.start()
        assert first.status(revoked) == "REVOKED"


HOLDERS = """
SELECT pid, xact_start FROM pg_stat_activity JOIN pg_locks USING (pid)
WHERE application_name = 'ca-service' AND state = 'idle in transaction' AND granted
  AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND relation = 'tree_heads'::regclass AND mode = 'RowShareLock'
"""

WAITING = """
SELECT count(*) >= 2 FROM pg_stat_activity WHERE application_name = 'ca-service' AND wait_event_type = 'Lock'
"""


def test_a_worker_hangs_with_the_logs_lock_and_the_others_go_on(cluster: Cluster) -> None:
    hanging, well = cluster.nodes
    with loaded(cluster) as load:
        victim = hanging.service.workers()[0]
        held = wait_until(
            lambda: stopped_with_the_lock(cluster, victim), 240, "stopped while it held the lock"
        )
        try:
            open_ones = "SELECT pid FROM pg_stat_activity"
            wait_until(lambda: (held,) not in cluster.sql(open_ones), PATIENT, "its session is ended for it")
            for _ in range(5):
                cluster.issue(well.url)
        finally:
            victim.resume()
        load.more(10)


def stopped_with_the_lock(cluster: Cluster, victim: psutil.Process) -> int | None:
    """Stop the worker so that it gets the log's lock after it; the process of its session, or None."""
    with psycopg.connect(cluster.postgres.conninfo(cluster.nodes[0].database)) as before_all:
        before_all.execute("SELECT 1 FROM tree_heads FOR UPDATE")
        wait_until(lambda: cluster.sql(WAITING) == [(True,)], PATIENT, "workers wait for the log's lock")
        victim.suspend()
    asked = time.monotonic()
    since: dict[tuple[Any, ...], float] = {}
    while (now := time.monotonic()) < asked + 2.5:
        # Whoever runs comes to the end of its transaction; its session holds the lock in another one then.
        since = {holder: since.get(holder, now) for holder in cluster.sql(HOLDERS)}
        for (process, _), first in since.items():
            if now - first > 1.5:
                return int(process)
        time.sleep(0.05)
    victim.resume()
    return None


def test_postgresql_crashes_and_starts_again(cluster: Cluster) -> None:
    with loaded(cluster):
        cluster.postgres.stop(signal.SIGQUIT)
        try:
            for node in cluster.nodes:
                status, document = node.ready()
                assert (status, document["status"]) == (503, "NOT_READY")
                assert document["checks"]["database"].startswith("store-unavailable: ")
                for secret in ("127.0.0.1", "postgres", str(node.service.directory), node.database):
                    assert secret not in str(document)
                with http() as session:
                    assert session.get(f"{node.url}/healthz", timeout=60).status_code == 200
        finally:
            cluster.postgres.start()


def test_sessions_are_ended_by_the_server(cluster: Cluster) -> None:
    end = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE application_name = 'ca-service' AND pid <> pg_backend_pid()"
    )
    with loaded(cluster) as load:
        for _ in range(4):
            assert cluster.sql(end) != [(0,)]
            load.more(5)


@pytest.mark.parametrize("how", ["dies", "hangs"])
def test_the_way_of_one_node_to_the_database_is_cut(cluster: Cluster, how: str) -> None:
    well, cut = cluster.nodes
    with loaded(cluster) as load:
        known = cluster.issue()
        if how == "dies":
            cut.proxy.die()
        else:
            cut.proxy.hang()
        try:
            wait_until(lambda: said(cut) == "NOT_READY", PATIENT, "the node that is cut off says so")
            assert said(well) == "READY"
            load.more(10)
            assert cut.status(known) == "TRY_LATER"
            assert well.status(known) == "GOOD"
            if how == "dies":
                assert asked_through_nginx(cluster, known) == {"GOOD"}, "nginx asks the one that knows"
            well.service.admin("revoke", "certificate", known.serial)
            assert well.status(known) == "REVOKED"
            assert cut.status(known) == "TRY_LATER", "better than an old answer"
        finally:
            cut.proxy.recover()
        wait_until(lambda: cut.status(known) == "REVOKED", PATIENT, "found again without a hand")


def asked_through_nginx(cluster: Cluster, issued: Issued) -> set[str]:
    """What verifiers learn who ask many times, by POST and by GET."""
    found = set()
    with cluster.session() as session:
        for _ in range(20):
            by_post = session.post(ocsp_url(issued.leaf), data=question(issued), timeout=60)
            by_get = session.get(ocsp_get_url(issued.leaf, question(issued)), timeout=60)
            found |= {verdict(by_post.content), verdict(by_get.content)}
            assert session.get(crl_url(issued.leaf), timeout=60).status_code == 200
    return found


def test_redis_is_stopped_and_starts_again(cluster: Cluster) -> None:
    with loaded(cluster) as load:
        cluster.redis.kill()
        try:
            cluster.wait_ready("DEGRADED")
            for node in cluster.nodes:
                status, document = node.ready()
                assert status == 200
                assert document["checks"]["redis"].startswith("away: ")
                assert "127.0.0.1" not in str(document)
            load.more(20)
            taken_back = cluster.issue()
            cluster.nodes[0].service.admin("revoke", "certificate", taken_back.serial)
            assert [node.status(taken_back) for node in cluster.nodes] == ["REVOKED", "REVOKED"]
            dirty = "SELECT count(*) FROM crl_shards WHERE generation <> published_generation"
            wait_until(lambda: cluster.sql(dirty) == [(0,)], PATIENT, "published without a wake-up")
        finally:
            cluster.redis.start()

    def heard() -> bool:
        with cluster.redis.client() as client:
            (channel,) = client.pubsub_channels("casvc:wake:*") or [b""]
            subscribed: int = client.pubsub_numsub(channel)[0][1]
        return subscribed == 4

    wait_until(heard, PATIENT, "every worker subscribed again")


def test_redis_is_paused_and_requests_do_not_wait_for_it(cluster: Cluster) -> None:
    with loaded(cluster) as load:
        cluster.redis.pause()
        try:
            cluster.wait_ready("DEGRADED")
            load.more(20)
        finally:
            cluster.redis.resume()
