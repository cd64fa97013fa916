"""Whoever can write to Redis, or takes its place, has nothing signed, answered wrongly or broken."""

import contextlib
import itertools
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import pytest

from tests.support.cluster import Cluster, somebody
from tests.support.processes import http, wait_until
from tests.support.signing import Issued


@dataclass(frozen=True)
class Known:
    """What is true whatever Redis says."""

    good: Issued
    revoked: Issued
    blocked: str


@pytest.fixture(scope="module")
def known(cluster: Cluster) -> Known:
    cluster.wait_ready()
    made = Known(cluster.issue(), cluster.issue(), somebody())
    cluster.nodes[0].service.admin("revoke", "certificate", made.revoked.serial)
    cluster.nodes[0].service.admin("block", "--identity", made.blocked, "--reason", "left")
    return made


def all_is_true(cluster: Cluster, known: Known) -> None:
    """Both nodes issue, refuse, answer and revoke as they should."""
    with http() as session:
        for node in cluster.nodes:
            emails = [somebody() for _ in range(8)]
            seen = {cluster.ask(session, node.url, email).status_code for email in emails}
            # A limit may be held that was not reached, or not be held that was.
            assert seen <= {200, 429}, seen
            refused = cluster.ask(session, node.url, known.blocked)
            assert refused.json()["details"][0]["reason"] in ("identity-blocked", "rate-limited")
    fresh = cluster.issue()
    cluster.nodes[1].service.admin("revoke", "certificate", fresh.serial)
    for node in cluster.nodes:
        assert (node.status(known.good), node.status(known.revoked)) == ("GOOD", "REVOKED")
        assert node.status(fresh) == "REVOKED"
        assert node.ready()[0] == 200


def channel(cluster: Cluster) -> str:
    with cluster.redis.client() as client:
        found: list[bytes] = wait_until(lambda: client.pubsub_channels("casvc:wake:*"), 60, "a subscription")
    return found[0].decode()


@contextlib.contextmanager
def meanwhile(work: Callable[[], None], stop: threading.Event) -> Iterator[None]:
    """Do this beside what the test does, until told to stop."""
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)


@contextlib.contextmanager
def flood(cluster: Cluster, known: Known) -> Iterator[None]:
    """Forged wake-ups without end, of every content and size, and for services that are none."""
    name, stop = channel(cluster), threading.Event()
    lies = itertools.cycle(
        [
            b"",
            f"unrevoke:{known.revoked.serial}".encode(),
            f'{{"revoked": "{known.good.serial}", "blocks": []}}'.encode(),
            b"\x00\xff" * 5000,
            b"*3\r\n$9\r\nsubscribe\r\n",
            b"x" * 1_000_000,
        ]
    )

    def publish() -> None:
        with cluster.redis.client() as client:
            while not stop.wait(0.002):
                client.publish(name, next(lies))

    with meanwhile(publish, stop):
        yield


@contextlib.contextmanager
def rubbish(cluster: Cluster, known: Known) -> Iterator[None]:
    """Values of other types and sizes under every key that there is, again and again."""
    stop = threading.Event()

    def spoil() -> None:
        with cluster.redis.client() as client:
            for number in itertools.count():
                if stop.wait(0.002):
                    return
                for key in client.scan_iter("casvc:*", count=100):
                    # In one step: a node that counts meanwhile would make the key anew.
                    with client.pipeline() as at_once:
                        at_once.delete(key)
                        if number % 4 == 0:
                            at_once.rpush(key, b"a", b"list")
                        else:
                            at_once.set(key, [b"9223372036854775807", b"-5", b"z" * 100_000][number % 4 - 1])
                        at_once.execute()

    try:
        with meanwhile(spoil, stop):
            yield
    finally:
        with cluster.redis.client() as client:
            client.flushall()


@contextlib.contextmanager
def flushed(cluster: Cluster, known: Known) -> Iterator[None]:
    """Everything is taken away, and every subscription with it."""
    with cluster.redis.client() as client:
        client.flushall()
        client.client_kill_filter(_type="pubsub")
        client.client_kill_filter(_type="normal", skipme=True)
    yield


@contextlib.contextmanager
def commanded(cluster: Cluster, *commands: tuple[str, ...], back: tuple[str, ...]) -> Iterator[None]:
    with cluster.redis.client() as client:
        for command in commands:
            client.execute_command(*command)
        try:
            yield
        finally:
            client.execute_command(*back)


def read_only(cluster: Cluster, known: Known) -> AbstractContextManager[None]:
    """READONLY: it has become a replica of nobody."""
    return commanded(cluster, ("REPLICAOF", "127.0.0.1", "1"), back=("REPLICAOF", "NO", "ONE"))


def full(cluster: Cluster, known: Known) -> AbstractContextManager[None]:
    """OOM: it takes nothing more."""
    return commanded(cluster, ("CONFIG", "SET", "maxmemory", "1"), back=("CONFIG", "SET", "maxmemory", "0"))


def impostor(answers: Callable[[], bytes]) -> Callable[[Cluster, Known], AbstractContextManager[None]]:
    """Another program on its port."""

    @contextlib.contextmanager
    def lie(cluster: Cluster, known: Known) -> Iterator[None]:
        cluster.redis.kill()
        listener = socket.create_server(("127.0.0.1", cluster.redis.port))

        def serve(asked: socket.socket) -> None:
            with asked, contextlib.suppress(OSError):
                while asked.recv(65_536):
                    asked.sendall(answers())

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    asked, _ = listener.accept()
                    threading.Thread(target=serve, args=(asked,), daemon=True).start()

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            cluster.wait_ready("DEGRADED")
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            thread.join(60)
            cluster.redis.start()

    return lie


LIES: dict[str, Callable[[Cluster, Known], AbstractContextManager[None]]] = {
    "forged wake-ups": flood,
    "rubbish": rubbish,
    "flushed": flushed,
    "read-only": read_only,
    "out of memory": full,
    "noise": impostor(lambda: os.urandom(500)),
    "friendly nonsense": impostor(lambda: b"+OK\r\n:0\r\n$-1\r\n*-1\r\n_\r\n#t\r\n"),
    "a web server": impostor(lambda: b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_redis_that_lies_changes_no_answer_and_breaks_nothing(
    cluster: Cluster, known: Known, name: str
) -> None:
    before = [len(node.service.printed()) for node in cluster.nodes]
    with LIES[name](cluster, known):
        all_is_true(cluster, known)
    cluster.wait_ready()
    all_is_true(cluster, known)
    for node, printed in zip(cluster.nodes, before, strict=True):
        assert "Traceback" not in node.service.printed()[printed:]


def test_nothing_in_redis_is_worth_having(cluster: Cluster, known: Known) -> None:
    cluster.issue()
    with cluster.redis.client() as client:
        stored = b"\n".join(key + b"=" + (client.get(key) or b"") for key in client.scan_iter())
    for secret in (known.good.serial, known.blocked, "example.com", "127.0.0.1"):
        assert secret.encode() not in stored
