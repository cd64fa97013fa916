"""Debian's certspotter follows the log as it follows public ones: it verifies ours, and tells when it lies.

It is a daemon whose exit status says nothing, so it is judged by the position it verified, by the entries it
could not read, and by its output. E-mail addresses are no names it watches for: it verifies them, no more.
"""

import base64
import contextlib
import hashlib
import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.processes import RunningService, dev_service, environment, http, running, wait_until
from tests.support.signing import issue
from tests.support.tokens import TokenDesk

EMAIL = "certspotter@example.com"
SECONDS = 400
"""What it could not fetch at its start it asks for again after five minutes."""
Change = Callable[[str, dict[str, Any]], dict[str, Any]]


@dataclass
class Monitor:
    """certspotter with its state in a folder of its own."""

    folder: Path
    logs: dict[str, bytes]
    """The key of each log (DER), by its URL."""
    output: list[str] = field(default_factory=list)

    @property
    def said(self) -> str:
        """What it printed, without what it says of being stopped by us."""
        return "".join(line for line in self.output if "context canceled" not in line)

    def state(self, spki: bytes) -> dict[str, Any]:
        """What it keeps of the log with this key."""
        name = base64.urlsafe_b64encode(hashlib.sha256(spki).digest()).decode().rstrip("=")
        # Not there yet, or just being written.
        with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
            state: dict[str, Any] = json.loads((self.folder / f"state/logs/{name}/state.json").read_text())
            return state
        return {}

    def verified(self, spki: bytes | None = None) -> int:
        """The size up to which it has verified a log, by default the only one; -1 before it has any."""
        state = self.state(spki or next(iter(self.logs.values())))
        return int(state["verified_position"]["size"]) if state.get("verified_sth") else -1

    def malformed(self) -> list[Path]:
        return [file for file in self.folder.glob("state/logs/*/malformed_entries/*") if file.is_file()]

    def follow(self, until: Callable[[], object]) -> None:
        """Run it until something is so: it asks at its start, and then only every five minutes."""
        self._configure()
        running = subprocess.Popen(
            [
                *("certspotter", "-logs", "list.json", "-watchlist", "watch", "-state_dir", "state"),
                *("-stdout", "-verbose"),
            ],
            cwd=self.folder,
            env=environment({"HOME": str(self.folder), "CERTSPOTTER_CONFIG_DIR": str(self.folder / "cfg")}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert running.stdout is not None
        reader = threading.Thread(target=self.output.extend, args=(running.stdout,))
        reader.start()
        try:
            wait_until(until, SECONDS, "certspotter comes to a verdict")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.said}") from None
        finally:
            running.terminate()
            running.wait(60)
            reader.join(60)
            running.stdout.close()

    def _configure(self) -> None:
        since = "2026-01-01T00:00:00Z"
        logs = [
            {
                "key": base64.b64encode(spki).decode(),
                "log_id": base64.b64encode(hashlib.sha256(spki).digest()).decode(),
                "mmd": 86400,
                "url": f"{url}/",
                "description": f"the log under test at {url}",
                "state": {"usable": {"timestamp": since}},
            }
            for url, spki in self.logs.items()
        ]
        (self.folder / "cfg").mkdir(exist_ok=True)
        (self.folder / "watch").write_text(".\n")
        (self.folder / "list.json").write_text(
            json.dumps(
                {
                    "version": "1",
                    "log_list_timestamp": since,
                    "operators": [{"name": "test", "email": [], "logs": logs}],
                }
            )
        )


@dataclass(frozen=True)
class Log:
    """The log of the shared service, with a few entries, and the key it signs with."""

    url: str
    key: ec.EllipticCurvePrivateKey

    @property
    def spki(self) -> bytes:
        return self.key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def size(self) -> int:
        with http() as session:
            size: int = session.get(f"{self.url}/ct/v1/get-sth", timeout=60).json()["tree_size"]
            return size


@pytest.fixture
def log(service: RunningService, tokens: TokenDesk, session: requests.Session) -> Log:
    token = tokens.token(EMAIL)
    for _ in range(5):
        issue(session, service.url, token, EMAIL)
    return log_of(service, service.shard())


def log_of(service: RunningService, shard: str) -> Log:
    """A shard with the key it signs with."""
    key = serialization.load_pem_private_key(
        (service.directory / f"private/log-{shard}.key").read_bytes(), None
    )
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return Log(f"{service.url}/ctlog/{shard}", key)


@contextlib.contextmanager
def liar(log: Log, change: Change) -> Iterator[str]:
    """A server that repeats what the log answers, each JSON document changed first; its URL."""

    class Liar(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with http() as session:
                reply = session.get(f"{log.url}{self.path}", timeout=60)
            call = self.path.partition("?")[0].rpartition("/")[2]
            body = json.dumps(change(call, reply.json())).encode() if reply.ok else reply.content
            self.send_response(reply.status_code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the name that it has there
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Liar)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def as_it_is(call: str, document: dict[str, Any]) -> dict[str, Any]:
    return document


def assert_content(monitor: Monitor, size: int) -> None:
    assert monitor.verified() == size
    assert monitor.malformed() == []
    assert "error" not in monitor.said.lower(), monitor.said


def test_an_honest_log_is_verified_to_its_end_and_followed(
    log: Log, service: RunningService, tokens: TokenDesk, session: requests.Session, tmp_path: Path
) -> None:
    monitor = Monitor(tmp_path, {log.url: log.spki})
    size = log.size()
    monitor.follow(lambda: monitor.verified() >= size)
    assert_content(monitor, log.size())

    issue(session, service.url, tokens.token(EMAIL), EMAIL)
    size = log.size()
    monitor.follow(lambda: monitor.verified() >= size)
    assert_content(monitor, size)


def test_a_second_shard_is_followed_beside_the_first(tmp_path: Path) -> None:
    with running(dev_service(tmp_path / "ca", workers=1)) as own, http() as session:

        def shards() -> dict[str, Log]:
            """Each by its URL, as the list of trusted logs names them."""
            listed = session.get(f"{own.url}/trust/trusted_root.json", timeout=60).json()["ctlogs"]
            names = [str(each["baseUrl"]).rpartition("/")[2] for each in listed]
            return {f"{own.url}/ctlog/{name}": log_of(own, name) for name in names}

        def issue_one() -> None:
            issue(session, own.url, TokenDesk(own).token(EMAIL), EMAIL)

        issue_one()
        ((url, first),) = shards().items()
        monitor = Monitor(tmp_path, {url: first.spki})
        monitor.follow(lambda: monitor.verified() == 1)
        own.admin("log", "rotate", "--now")
        wait_until(lambda: len(shards()) == 2, SECONDS, "the second shard in the list of trusted logs")
        both = shards()
        (second,) = (each for each in both.values() if each.url != url)

        def into_second() -> int:
            issue_one()
            return second.size()

        wait_until(into_second, SECONDS, "a certificate in the second shard", pause=0.5)
        monitor.logs = {each.url: each.spki for each in both.values()}
        sizes = [first.size(), second.size()]
        monitor.follow(lambda: [monitor.verified(first.spki), monitor.verified(second.spki)] == sizes)
        assert monitor.malformed() == []
        assert "error" not in monitor.said.lower(), monitor.said


def test_the_server_between_changes_nothing_by_itself(log: Log, tmp_path: Path) -> None:
    with liar(log, as_it_is) as url:
        monitor = Monitor(tmp_path, {url: log.spki})
        size = log.size()
        monitor.follow(lambda: monitor.verified() >= size)
    assert_content(monitor, size)


def test_a_tampered_leaf_is_reported(log: Log, tmp_path: Path) -> None:
    def tamper(call: str, document: dict[str, Any]) -> dict[str, Any]:
        if call == "get-entries":
            entry = document["entries"][2]
            leaf = bytearray(base64.b64decode(entry["leaf_input"]))
            leaf[80] ^= 1  # inside the TBSCertificate
            entry["leaf_input"] = base64.b64encode(leaf).decode()
        return document

    with liar(log, tamper) as url:
        monitor = Monitor(tmp_path, {url: log.spki})
        monitor.follow(lambda: "root hash" in monitor.said and monitor.malformed())
    assert monitor.verified() < log.size()
    assert "does not match" in monitor.said


def test_a_root_that_is_not_of_the_entries_is_reported_though_the_log_signed_it(
    log: Log, tmp_path: Path
) -> None:
    def lie(call: str, document: dict[str, Any]) -> dict[str, Any]:
        if call == "get-sth":
            root = hashlib.sha256(b"another tree").digest()
            signed = (
                b"\x00\x01" + document["timestamp"].to_bytes(8) + document["tree_size"].to_bytes(8) + root
            )
            signature = log.key.sign(signed, ec.ECDSA(hashes.SHA256()))
            document["sha256_root_hash"] = base64.b64encode(root).decode()
            document["tree_head_signature"] = base64.b64encode(
                b"\x04\x03" + len(signature).to_bytes(2) + signature
            ).decode()
        return document

    with liar(log, lie) as url:
        monitor = Monitor(tmp_path, {url: log.spki})
        monitor.follow(lambda: "root hash" in monitor.said)
    assert monitor.verified() < log.size()
    assert "does not match" in monitor.said


def test_a_head_that_the_log_did_not_sign_is_refused(log: Log, tmp_path: Path) -> None:
    def forge(call: str, document: dict[str, Any]) -> dict[str, Any]:
        if call == "get-sth":
            document["timestamp"] += 1
        return document

    with liar(log, forge) as url:
        monitor = Monitor(tmp_path, {url: log.spki})
        monitor.follow(lambda: "signature" in monitor.said.lower())
    assert monitor.verified() < 0
