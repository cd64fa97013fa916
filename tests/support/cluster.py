"""Two nodes on one PostgreSQL and one Redis, behind the nginx that deploy/ ships: all real, on loopback."""

import base64
import contextlib
import re
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import psycopg
import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from tests.support import merkle
from tests.support.administration import FAILURES, give_roles
from tests.support.issuer import POLICY, LocalIssuer, issuer_file_of
from tests.support.nginx import ShippedNginx, configured, serving
from tests.support.postgres import LocalPostgres
from tests.support.processes import CA_SERVICE, RunningService, free_port, http, succeed, wait_until
from tests.support.redis_server import LocalRedis
from tests.support.signing import Issued, bearer, key_body, new_key, read_chain
from tests.support.tcp_proxy import TcpProxy

LIMIT = 60
"""Certificates a minute for one identity."""

NOT_COPIED = ("offline", "state")
"""What stays on the first node: the root's key, and what each machine makes for itself."""


@dataclass
class Node:
    """One machine: its service, its way to the database, its metrics."""

    service: RunningService
    proxy: TcpProxy
    database: str

    @property
    def url(self) -> str:
        return self.service.url

    def ready(self) -> tuple[int, dict[str, Any]]:
        """What /readyz says."""
        with http() as session:
            reply = session.get(f"{self.url}/readyz", timeout=60)
        document: dict[str, Any] = reply.json()
        return reply.status_code, document

    def metric(self, name: str) -> float:
        """The sum of a counter over its labels."""
        with http() as session:
            bind = self.service.environ["CASVC_METRICS__BIND"]
            text = session.get(f"http://{bind}/metrics", timeout=60).text
        return sum(map(float, re.findall(rf"^casvc_{name}(?:\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE)))

    def status(self, issued: Issued) -> str:
        """GOOD, REVOKED or UNKNOWN, or why there is no answer, asked of this node by POST."""
        with http() as session:
            reply = session.post(
                f"{self.url}/ocsp",
                data=question(issued),
                headers={"Content-Type": "application/ocsp-request"},
                timeout=60,
            )
        return verdict(reply.content)


def question(issued: Issued) -> bytes:
    """An OCSP request without a nonce, so that answers may be kept."""
    asked = ocsp.OCSPRequestBuilder().add_certificate(issued.leaf, issued.issuing, hashes.SHA256()).build()
    return asked.public_bytes(Encoding.DER)


def verdict(der: bytes) -> str:
    """What an OCSP response says, in a word."""
    answer = ocsp.load_der_ocsp_response(der)
    if answer.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        return answer.response_status.name
    return answer.certificate_status.name


@dataclass
class Cluster:
    """Everything that runs."""

    postgres: LocalPostgres
    redis: LocalRedis
    signers: LocalIssuer
    staff: LocalIssuer
    choosy: LocalIssuer
    """Whose tokens get a certificate only by a policy."""
    nginx: ShippedNginx
    nodes: Sequence[Node]

    @property
    def url(self) -> str:
        return self.nginx.url

    def session(self) -> requests.Session:
        """A session that trusts nginx's certificate."""
        session = http()
        session.verify = str(self.nginx.certificates)
        return session

    def ask(self, session: requests.Session, url: str, email: str) -> requests.Response:
        """Ask for a certificate at nginx or at a node."""
        token = self.signers.token(email, claims={"jti": uuid4().hex})
        return session.post(
            f"{url}/api/v2/signingCert", json=key_body(KEY, email), headers=bearer(token), timeout=60
        )

    def issue(self, url: str | None = None) -> Issued:
        """A certificate for somebody new."""
        with self.session() as session:
            return Issued(read_chain(self.ask(session, url or self.url, somebody())), KEY)

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Ask the database as its administrator, past the nodes' proxies."""
        name = self.nodes[0].database
        with psycopg.connect(self.postgres.conninfo(name), autocommit=True) as connection:
            return connection.execute(statement.encode()).fetchall()

    def wait_ready(self, status: str = "READY") -> None:
        """Until every node says so."""
        for node in self.nodes:
            wait_until(lambda node=node: said(node) == status, 120, f"{node.url} is {status}")  # type: ignore[misc]

    def nothing_lost(self, acknowledged: Sequence[Issued]) -> None:
        """Every certificate that was given out is in the log, once, and known to every node."""
        found = self.nodes[0].service.admin("fsck", "--json")
        assert '"findings": []' in found or '"findings":[]' in found, found
        leaves = [self.leaves(node) for node in self.nodes]
        assert leaves[0] == leaves[1]
        indices = [index_of(issued.leaf) for issued in acknowledged]
        assert len(set(indices)) == len(indices)
        for issued, index in zip(acknowledged, indices, strict=True):
            assert issued.leaf.tbs_precertificate_bytes in leaves[0][index]
        # That each entry of the log is known to OCSP is part of fsck; here what a node says of some.
        for node in self.nodes:
            assert {node.status(one) for one in acknowledged[:: len(acknowledged) // 20 + 1]} <= {"GOOD"}

    def leaves(self, node: Node) -> list[bytes]:
        """The whole log as this node shows it, checked against its newest head."""
        base = f"{node.url}/ctlog/{node.service.shard()}/ct/v1"
        found: list[bytes] = []
        with http() as session:
            head = session.get(f"{base}/get-sth", timeout=60).json()
            while len(found) < head["tree_size"]:
                end = head["tree_size"] - 1
                page = session.get(f"{base}/get-entries?start={len(found)}&end={end}", timeout=60).json()
                found += [base64.b64decode(entry["leaf_input"]) for entry in page["entries"]]
        root = merkle.root_of([merkle.leaf_hash(leaf) for leaf in found])
        assert base64.b64encode(root).decode() == head["sha256_root_hash"]
        return found


KEY = new_key()


def somebody() -> str:
    """An identity that nobody had before, so that no limit concerns it."""
    return f"{uuid4().hex}@example.com"


def said(node: Node) -> str:
    """The status of /readyz, or that there is none."""
    try:
        return str(node.ready()[1]["status"])
    except (requests.RequestException, ValueError):
        return "SILENT"


def index_of(leaf: x509.Certificate) -> int:
    """The place in the log that the SCT names."""
    scts = leaf.extensions.get_extension_for_class(x509.PrecertificateSignedCertificateTimestamps).value
    return int.from_bytes(scts[0].extension_bytes[3:])


@dataclass
class Load:
    """Signers that ask through nginx, each for somebody new every time, until the block ends."""

    cluster: Cluster
    clients: int = 4
    issued: list[Issued] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._threads = [threading.Thread(target=self._sign, daemon=True) for _ in range(self.clients)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(180)
            assert not thread.is_alive(), "a request without an end"

    def more(self, count: int = 30) -> None:
        """Until so many more were given out."""
        goal = len(self.issued) + count
        wait_until(
            lambda: len(self.issued) >= goal, 180, f"{count} more certificates; refused {self.refused}"
        )

    def _sign(self) -> None:
        with self.cluster.session() as session:
            while not self._stop.is_set():
                try:
                    reply = self.cluster.ask(session, self.cluster.url, somebody())
                except requests.RequestException as error:
                    self.refused[type(error).__name__] += 1
                    continue
                if reply.status_code == 200:
                    self.issued.append(Issued(read_chain(reply), KEY))
                else:
                    self.refused[str(reply.status_code)] += 1
                # Some dozens a second: what is given out while a node starts is looked at, each of it.
                self._stop.wait(0.05)


def _configure(config: Path, values: dict[str, dict[str, str]]) -> None:
    text = config.read_text()
    for section, members in values.items():
        before, head, rest = text.partition(f"[{section}]\n")
        assert head, section
        mine, further, others = rest.partition("\n[")
        for name, value in members.items():
            mine = f"{name} = {value}\n" + re.sub(rf"(?m)^{name} = .*\n", "", mine)
        text = before + head + mine + further + others
    config.write_text(text)


def _copy(one: Path, two: Path) -> None:
    """As docs/how-to/run-several-nodes.md says."""
    two.mkdir(mode=0o700)
    left_out = [f"--exclude=./{name}" for name in NOT_COPIED]
    packed = subprocess.run(
        ["tar", "-C", str(one), *left_out, "-cf", "-", "."], capture_output=True, check=True, timeout=60
    )
    subprocess.run(["tar", "-C", str(two), "-xpf", "-"], input=packed.stdout, check=True, timeout=60)


@contextlib.contextmanager
def running_cluster(
    folder: Path,
    *,
    environ: Mapping[str, str] | None = None,
    postgres: LocalPostgres | None = None,
    before_start: Callable[[RunningService], object] = lambda first: None,
) -> Iterator[Cluster]:
    """Make and start all of it; `environ` is added to that of both nodes and of commands.

    `before_start` is called with the first node when the second was copied and neither runs.
    """
    ports = [free_port(), free_port()]
    with contextlib.ExitStack() as stack:
        postgres = postgres or stack.enter_context(LocalPostgres())
        redis = stack.enter_context(LocalRedis())
        signers, staff, choosy = (stack.enter_context(LocalIssuer()) for _ in range(3))
        nginx = configured(folder / "nginx", [f"127.0.0.1:{port}" for port in ports], requests_a_second=5000)
        url = postgres.new_database()
        name = url.rpartition("/")[2]
        one, two = folder / "one", folder / "two"
        succeed(
            *("init", "--dir", one, "--url", nginx.url, "--status-url", nginx.status_url),
            *("--organization", "Example"),
            environ={"CASVC_DATABASE__URL": url},
        )
        (one / "issuers.yaml").write_text(issuer_file_of(signers, choosy))
        _configure(
            one / "ca.toml",
            {
                "redis": {"url": f'"{redis.url}"'},
                "limits": {"identity_per_minute": str(LIMIT)},
                "server": {"trusted_proxies": '["127.0.0.0/8"]'},
                "oidc": {"private_networks": '["127.0.0.0/8"]'},
            },
        )
        give_roles(one / "ca.toml", staff, signers)
        with (one / "ca.toml").open("a") as file:
            file.write(POLICY.format(issuer=choosy.url))
        _copy(one, two)
        nodes = []
        for directory, port in zip((one, two), ports, strict=True):
            proxy = stack.enter_context(TcpProxy(postgres.port))
            through = url.replace(f":{postgres.port}/", f":{proxy.port}/")
            _configure(directory / "ca.toml", {"database": {"url": f'"{through}"'}})
            service = RunningService(
                directory=directory,
                url=f"http://127.0.0.1:{port}",
                command=[
                    *(str(CA_SERVICE), "serve", "--config", str(directory / "ca.toml")),
                    *("--bind", f"127.0.0.1:{port}", "--workers", "2"),
                ],
                environ={
                    "CASVC_METRICS__BIND": f"127.0.0.1:{free_port()}",
                    "CASVC_ADMIN__FAILURES_PER_MINUTE": str(FAILURES),
                    "CASVC_LOG__EXPORT_DIR": "public",
                    # For commands: nginx has a certificate that nobody knows.
                    "REQUESTS_CA_BUNDLE": str(nginx.certificates),
                    **(environ or {}),
                },
            )
            nodes.append(Node(service, proxy, name))
        before_start(nodes[0].service)
        for node in nodes:
            node.service.spawn()
            stack.callback(node.service.stop)
        for node in nodes:
            node.service.wait_ready()
        stack.enter_context(serving(nginx))
        yield Cluster(postgres, redis, signers, staff, choosy, nginx, nodes)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes, shared by the run; each test leaves them as it found them."""
    with running_cluster(tmp_path_factory.mktemp("cluster")) as started:
        yield started
