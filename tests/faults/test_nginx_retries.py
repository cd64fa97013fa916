"""Which requests the shipped nginx asks of another node, and which it must never ask twice."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from tests.support.nginx import ShippedNginx, configured, serving
from tests.support.processes import free_port, http

ASKED = 30
ACTS = 16
"""Fewer than one address may do at once."""
READS = (
    "/ctlog/2026/ct/v1/get-sth",
    "/api/v2/configuration",
    "/api/v2/trustBundle",
    "/trust/trusted_root.json",
)
STATUS = ("/ocsp/MEYw", "/crl/index.json", "/ca/00.crt")


@dataclass
class Node:
    """A server that says 200, 503, or nothing at all once it has the request; it keeps what it was asked."""

    says: str
    asked: list[str] = field(default_factory=list)

    @contextmanager
    def serving(self) -> Iterator[str]:
        """HOST:PORT of the server while the block runs."""
        node = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                node.asked.append(f"{self.command} {self.path} {body.decode()}")
                if node.says == "nothing":
                    self.close_connection = True
                    return
                self.send_response(int(node.says))
                self.send_header("Cache-Control", "no-store")
                self.send_header("X-Accel-Expires", "0")
                self.send_header("X-Node-Says", node.says)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_POST = do_HEAD = do_GET  # noqa: N815 - names that http.server looks for

            def log_message(self, *_: object) -> None:
                """Nothing on the terminal."""

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            server.daemon_threads = True
            thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
            thread.start()
            try:
                yield f"127.0.0.1:{server.server_address[1]}"
            finally:
                server.shutdown()
                thread.join()


@dataclass
class Pair:
    """nginx in front of a node that does its work and one that does not."""

    nginx: ShippedNginx
    session: requests.Session
    well: Node
    ill: Node | None
    stop_the_other: Callable[[], None]

    def post(self, url: str, number: int) -> requests.Response:
        return self.session.post(url, data=f"number {number}", timeout=60)


Paired = Callable[[str], Pair]


@pytest.fixture
def paired(tmp_path: Path) -> Iterator[Paired]:
    """Makes a pair of which one node says this; "refused" has nobody listen there."""
    with ExitStack() as stack:

        def make(says: str) -> Pair:
            well, ill = Node("200"), Node(says)
            away = says == "refused"
            there = f"127.0.0.1:{free_port()}" if away else stack.enter_context(ill.serving())
            other = stack.enter_context(ExitStack())
            nodes = [there, other.enter_context(well.serving())]
            nginx = configured(tmp_path / "nginx", nodes, requests_a_second=5000)
            stack.enter_context(serving(nginx))
            session = stack.enter_context(http())
            session.verify = str(nginx.certificates)
            return Pair(nginx, session, well, None if away else ill, other.close)

        yield make


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("says", ["503", "nothing", "refused"])
def test_what_one_node_cannot_tell_the_other_does(paired: Paired, says: str, method: str) -> None:
    pair = paired(says)
    for number in range(ASKED):
        for base, paths in ((pair.nginx.url, READS), (pair.nginx.status_url, STATUS)):
            for path in paths:
                reply = pair.session.request(method, f"{base}{path}?{number}", timeout=60)
                assert reply.status_code == 200, (path, reply.text)
    if pair.ill is not None:
        assert pair.ill.asked, "it was asked before it was left out"
        assert len(pair.ill.asked) < len(pair.well.asked) / 2, "it is left out for a while, not asked in turn"


@pytest.mark.parametrize("says", ["503", "nothing", "refused"])
def test_a_question_by_post_may_be_asked_again(paired: Paired, says: str) -> None:
    pair = paired(says)
    for number in range(ASKED):
        assert pair.post(f"{pair.nginx.status_url}/ocsp", number).status_code == 200
    assert len(pair.well.asked) == ASKED


@pytest.mark.parametrize("path", ["/api/v2/signingCert", "/admin/v1/revocations/certificate"])
@pytest.mark.parametrize("says", ["503", "nothing"])
def test_what_a_node_was_told_to_do_is_never_told_to_another(paired: Paired, says: str, path: str) -> None:
    pair = paired(says)
    assert pair.ill is not None
    refused = 0
    for number in range(ACTS):
        reply = pair.post(f"{pair.nginx.url}{path}", number)
        if reply.status_code == 200:
            continue
        refused += 1
        assert reply.status_code == 503
        if says == "nothing":
            assert int(reply.headers["Retry-After"]) >= 1
            assert reply.json()["details"][0]["reason"] == "unavailable"
    once = sorted(f"POST {path} number {number}" for number in range(ACTS))
    assert sorted(pair.well.asked + pair.ill.asked) == once
    assert refused == len(pair.ill.asked) > 0


def test_what_no_node_took_is_told_to_another(paired: Paired) -> None:
    pair = paired("refused")
    for number in range(ASKED):
        assert pair.post(f"{pair.nginx.url}/api/v2/signingCert", number).status_code == 200
    assert len(pair.well.asked) == ASKED


def test_a_node_with_too_much_to_do_is_still_asked_about_status(paired: Paired) -> None:
    """Who reads the log must not be able to have nodes left out where verifiers ask."""
    pair = paired("503")
    assert pair.ill is not None
    pair.well.says = "503"
    for number in range(ASKED):
        assert pair.session.get(f"{pair.nginx.url}{READS[0]}?{number}", timeout=60).status_code == 503
    pair.well.says = pair.ill.says = "200"
    for number in range(ASKED):
        for path in STATUS:
            url = f"{pair.nginx.status_url}{path}?{number}"
            assert pair.session.get(url, timeout=60).status_code == 200


def test_when_no_node_can_tell_each_answer_is_a_nodes_own_and_the_first_good_one_is_seen(
    paired: Paired,
) -> None:
    """What all nodes share, as their database, is down: two failures of each must not hide the reason."""
    pair = paired("503")
    assert pair.ill is not None
    pair.well.says = "503"
    asks: list[Callable[[], requests.Response]] = [
        partial(pair.session.get, f"{base}{path}", timeout=60)
        for base, paths in ((pair.nginx.url, READS), (pair.nginx.status_url, STATUS))
        for path in paths
    ]
    asks += [partial(pair.post, f"{pair.nginx.status_url}/ocsp", 1)]
    asks += [partial(pair.post, f"{pair.nginx.url}/api/v2/signingCert", 1)]
    for _ in range(ACTS):
        for ask in asks:
            reply = ask()
            assert (reply.status_code, reply.headers.get("X-Node-Says")) == (503, "503")
    most = ACTS * (2 * len(asks) - 1)  # what acts is sent once
    assert len(pair.well.asked) + len(pair.ill.asked) <= most
    pair.well.says = pair.ill.says = "200"
    for ask in asks:
        assert ask().status_code == 200


def test_where_no_node_listens_nginx_says_when_to_come_back(paired: Paired) -> None:
    pair = paired("refused")
    pair.stop_the_other()
    for number in range(ACTS):
        for reply in (
            pair.session.get(f"{pair.nginx.url}{READS[0]}?{number}", timeout=60),
            pair.post(f"{pair.nginx.url}/api/v2/signingCert", number),
        ):
            assert reply.status_code == 503
            assert int(reply.headers["Retry-After"]) >= 1
            assert reply.json()["details"][0]["reason"] == "unavailable"
