"""The log as files beside the running service: the octets that HTTP answers, and none lost by kill -9."""

import functools
import json
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.e2e.conftest import ONE_NODE, TWO_NODES
from tests.support import static_log
from tests.support.cluster import somebody
from tests.support.processes import RunningService, dev_service, run, running, succeed, wait_until
from tests.support.signing import issue
from tests.support.tokens import IssuerDesk, TokenDesk, Tokens


@pytest.fixture(scope="module")
def exporting(
    place: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningService]:
    """A service with two workers, or two nodes, each of which keeps the log as files."""
    if place == TWO_NODES:
        yield request.getfixturevalue("two_nodes")
        return
    service = dev_service(
        tmp_path_factory.mktemp("exporting") / "ca", environ={"CASVC_LOG__EXPORT_DIR": "public"}
    )
    with running(service) as started:
        yield started


@pytest.fixture
def desk(place: str, exporting: RunningService, request: pytest.FixtureRequest) -> Tokens:
    return (
        TokenDesk(exporting) if place == ONE_NODE else IssuerDesk(request.getfixturevalue("cluster").signers)
    )


def issue_some(service: RunningService, desk: Tokens, session: requests.Session, count: int) -> None:
    for _ in range(count):
        email = somebody()
        issue(session, service.url, desk.token(email), email)


def log_key(service: RunningService, folder: Path) -> ec.EllipticCurvePublicKey:
    key = serialization.load_pem_public_key((service.export_trust(folder) / "ctlog.pub").read_bytes())
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return key


def logged_size(service: RunningService, session: requests.Session) -> int:
    size: int = session.get(f"{service.url}/ctlog/{service.shard()}/ct/v1/get-sth", timeout=60).json()[
        "tree_size"
    ]
    return size


def folders(service: RunningService) -> list[Path]:
    """Where each node keeps the files of the log."""
    return [machine.directory / "public" / service.shard() for machine in service.machines]


def published(service: RunningService, size: int) -> bool:
    """Whether the files of every node are those of the log of this size."""
    checkpoints = [files / "checkpoint" for files in folders(service)]
    return all(file.exists() and int(file.read_text().split("\n")[1]) == size for file in checkpoints)


def test_files_and_answers_are_the_same_octets_and_pass_an_audit(
    exporting: RunningService, desk: Tokens, session: requests.Session, tmp_path: Path
) -> None:
    base = f"{exporting.url}/ctlog/{exporting.shard()}"
    files = exporting.directory / "public" / exporting.shard()
    key = log_key(exporting, tmp_path / "trust")

    issue_some(exporting, desk, session, 40)
    first = logged_size(exporting, session)
    wait_until(lambda: published(exporting, first), 60, "the first certificates are published")
    exporting.kill()
    exporting.start()
    issue_some(exporting, desk, session, 230)
    size = first + 230
    wait_until(lambda: published(exporting, size), 60, "all certificates are published")

    stored = {str(file.relative_to(files)): file.read_bytes() for file in files.rglob("*") if file.is_file()}
    for path, content in stored.items():
        reply = session.get(f"{base}/{path}", headers={"Accept-Encoding": "identity"}, timeout=60)
        assert (reply.status_code, reply.content) == (200, content), path
    assert "tile/data/000" in stored
    assert not (files / "tile/data/000.p").exists(), "the full tile is there, so partial ones are not kept"

    def over_http(path: str) -> bytes:
        reply = session.get(f"{base}/{path}", timeout=60)
        assert reply.status_code == 200, path
        return reply.content

    origin = base.partition("://")[2]
    of_answers = static_log.audit(over_http, origin, key)
    for folder in folders(exporting):
        of_files = static_log.audit(functools.partial(read, folder), origin, key)
        assert of_files.size == of_answers.size == size
        assert of_files.files == of_answers.files
    described = json.loads(stored["log.v3.json"])
    assert described["monitoring_url"] == f"{base}/"


def read(folder: Path, path: str) -> bytes:
    return (folder / path).read_bytes()


@pytest.fixture
def file_server(exporting: RunningService) -> Iterator[str]:
    """A plain file server over the published folder; its URL."""
    serve = functools.partial(QuietFiles, directory=str(exporting.directory / "public"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), serve)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


class QuietFiles(SimpleHTTPRequestHandler):
    """Serves files, and says nothing."""

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the name that it has there
        """Say nothing."""


def test_inclusion_is_proven_by_the_service_and_by_a_plain_file_server(
    exporting: RunningService, desk: Tokens, session: requests.Session, tmp_path: Path, file_server: str
) -> None:
    email = somebody()
    leaf = issue(session, exporting.url, desk.token(email), email).write(tmp_path) / "leaf.pem"
    size = logged_size(exporting, session)
    wait_until(lambda: published(exporting, size), 60, "the certificate is published")
    trust = exporting.export_trust(tmp_path / "trust")
    trusting = exporting.trusting
    for where in ((), ("--log-url", f"{file_server}/{exporting.shard()}")):
        said = json.loads(
            succeed("verify-inclusion", leaf, "--trust", trust, *where, "--json", environ=trusting)
        )
        assert (said["included"], said["tree_size"]) == (True, size)
    bundle = tmp_path / "bundle.json"
    succeed("verify-inclusion", leaf, "--trust", trust, "--save", bundle, environ=trusting)
    assert "in the log" in succeed("verify-inclusion", leaf, "--trust", trust, "--bundle", bundle)
    nowhere = run("verify-inclusion", leaf, "--trust", trust, "--log-url", f"{file_server}/nowhere")
    assert nowhere.returncode == 3


def test_the_command_makes_the_same_folder_anywhere(
    exporting: RunningService, desk: Tokens, session: requests.Session, tmp_path: Path
) -> None:
    issue_some(exporting, desk, session, 3)
    size = logged_size(exporting, session)
    files = exporting.directory / "public" / exporting.shard()
    wait_until(lambda: published(exporting, size), 60, "the certificates are published")
    said = exporting.admin("log", "export", "--dir", tmp_path / "elsewhere")
    assert f"{size} entries published" in said
    elsewhere = tmp_path / "elsewhere" / exporting.shard()
    names = [str(file.relative_to(elsewhere)) for file in elsewhere.rglob("*") if file.is_file()]
    assert {"checkpoint", "log.v3.json"} < set(names)
    for name in names:
        assert (elsewhere / name).read_bytes() == (files / name).read_bytes()
    assert "0 files written" in exporting.admin("log", "export"), "into the service's own folder"
    (tampered,) = [name for name in names if name.startswith("issuer/")][:1]
    (elsewhere / tampered).write_bytes(b"tampered")
    (tmp_path / "elsewhere" / f".{exporting.shard()}.cursor").unlink()
    refused = exporting.cli("log", "export", "--dir", tmp_path / "elsewhere")
    assert refused.returncode == 1
    assert "other content" in refused.stderr
