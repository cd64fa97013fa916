"""The load generator: a process of its own that costs little, so that the server is what is measured.

    python -m scripts.benchmark.load PORT REQUESTS_FILE CLIENTS SECONDS [MOST]

Keeps CLIENTS connections to 127.0.0.1:PORT busy with prepared requests for SECONDS, one at a time on each,
or until MOST answers came, and prints a JSON object. It never asks another address, and stops by itself.
"""

import json
import selectors
import socket
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

_MOST_SECONDS = 120.0


class Client:
    """One keep-alive connection; `began` is when its running request was sent."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.received = b""
        self.began = 0.0
        self.socket = self._connect()

    def _connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def reconnect(self) -> None:
        self.socket.close()
        self.socket = self._connect()
        self.received = b""

    def send(self, request: bytes) -> None:
        self.began = time.perf_counter()
        self.socket.sendall(request)

    def receive(self) -> tuple[int, bool] | None:
        """The status of a complete answer and whether the connection goes on; None when more is to come."""
        octets = self.socket.recv(65536)
        if not octets:
            return 0, False
        self.received += octets
        head, found, body = self.received.partition(b"\r\n\r\n")
        if not found:
            return None
        lines = head.lower().split(b"\r\n")
        length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
        if len(body) < length:
            return None
        self.received = b""
        kept = lines[0].startswith(b"http/1.1") and b"connection: close" not in lines
        return int(head[9:12]), kept


def run(
    port: int, requests: Sequence[bytes], clients: int, seconds: float, most: int = 0
) -> dict[str, object]:
    """Load the server; returns counts by status, rate, and latencies in milliseconds of answers with 2xx."""
    selector = selectors.DefaultSelector()
    statuses: Counter[int] = Counter()
    latencies: list[float] = []
    following = 0
    for _ in range(clients):
        client = Client(port)
        selector.register(client.socket, selectors.EVENT_READ, client)
        client.send(requests[following % len(requests)])
        following += 1
    started = time.perf_counter()
    end = started + min(seconds, _MOST_SECONDS)
    most = most or sys.maxsize
    while (now := time.perf_counter()) < end and statuses.total() < most:
        for key, _ in selector.select(end - now):
            client = key.data
            answer = client.receive()
            if answer is None:
                continue
            status, goes_on = answer
            statuses[status] += 1
            if 200 <= status < 300:
                latencies.append(time.perf_counter() - client.began)
            if not goes_on:
                selector.unregister(client.socket)
                client.reconnect()
                selector.register(client.socket, selectors.EVENT_READ, client)
            client.send(requests[following % len(requests)])
            following += 1
    elapsed = time.perf_counter() - started
    for key in list(selector.get_map().values()):
        key.data.socket.close()
    latencies.sort()
    good = len(latencies)
    return {
        "good": good,
        "statuses": {str(status): count for status, count in sorted(statuses.items())},
        "seconds": elapsed,
        "rate": good / elapsed,
        "p50_ms": 1000 * latencies[good // 2] if good else 0.0,
        "p99_ms": 1000 * latencies[min(good - 1, good * 99 // 100)] if good else 0.0,
        "client_cpu_seconds": time.process_time(),
    }


def write_requests(path: Path, requests: Sequence[bytes]) -> None:
    """Store requests for the process that sends them: each after its length in four octets."""
    path.write_bytes(b"".join(len(request).to_bytes(4) + request for request in requests))


def read_requests(path: Path) -> list[bytes]:
    """Read what write_requests stored."""
    octets, found = path.read_bytes(), []
    place = 0
    while place < len(octets):
        length = int.from_bytes(octets[place : place + 4])
        found.append(octets[place + 4 : place + 4 + length])
        place += 4 + length
    return found


if __name__ == "__main__":
    port_, file_, clients_, seconds_, *most_ = sys.argv[1:]
    asked_ = read_requests(Path(file_))
    json.dump(run(int(port_), asked_, int(clients_), float(seconds_), int(*most_)), sys.stdout)
