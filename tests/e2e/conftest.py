"""Where end-to-end tests run: on one node with SQLite, and again on two behind nginx; or alone, and why."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.support.cluster import Cluster
from tests.support.processes import RunningService, http
from tests.support.rekor import LocalRekor
from tests.support.tokens import IssuerDesk, TokenDesk, Tokens
from tests.support.two_nodes import ONE_NODE as ONE_NODE
from tests.support.two_nodes import TWO_NODES as TWO_NODES

_OWN_PROCESS = "one server's processes and sockets, which nginx keeps clients away from"
_COMMAND = "commands and files on one machine, before or without a server"
_DEV = "`ca-service dev` and its provider, which are for one machine"

ALONE = {
    "test_bench": "scripts/bench starts what it measures itself",
    "test_clients_behind_nginx": "what nginx keeps from nodes, by the shipped limits, however many they are",
    "test_connections": _OWN_PROCESS,
    "test_demo": "a script that starts a service itself",
    "test_deployed": "the shipped compose file, manifests and unit say themselves how many nodes there are",
    "test_dev_idp": _DEV,
    "test_founding": _COMMAND,
    "test_gunicorn_file": _OWN_PROCESS,
    "test_how_to": "commands of guides, and what verifiers do with the files of two authorities",
    "test_issuer_reload": "SIGHUP to one server, whose issuer file is its own; of two see test_two_nodes",
    "test_login": _DEV,
    "test_observation": "one node's page of metrics; how pages add up is Prometheus's work",
    "test_overload": _OWN_PROCESS,
    "test_privacy": "what one server prints, also when its SQLite file is gone or its code has a defect",
    "test_rolling_restart": "two nodes alone: while the only one is restarted, requests are lost",
    "test_serve": _OWN_PROCESS,
    "test_tls": "TLS without nginx",
    "test_errors::test_the_request_id_of_the_caller_is_kept": "nginx gives each request an id of its own",
    "test_issuer_policies::test_a_policy_of_an_issuer_that_is_not_in_the_file_stops_the_start": _COMMAND,
    "test_issuer_policies::test_doctor_asks_each_issuer_and_says_what_it_found": _COMMAND,
    "test_malformed_ocsp::test_the_lists_are_long_enough_to_mean_something": "asks nobody",
}
"""The modules, and single tests of others, that do not run on two nodes as well, and why not."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a test that runs on one node alone without a reason."""
    for item in items:
        if item.path.parent != Path(__file__).parent or not isinstance(item, pytest.Function):
            continue
        names = {item.path.stem, f"{item.path.stem}::{item.originalname}"}
        reason = names & set(ALONE)
        if {"place", "cluster"} & set(item.fixturenames):
            if reason:
                raise pytest.UsageError(f"{item.nodeid} runs on two nodes: take it out of ALONE")
        elif not reason:
            raise pytest.UsageError(f"{item.nodeid} runs on one node: take the fixture `place`, or say why")


@pytest.fixture(scope="module", params=[ONE_NODE, TWO_NODES])
def place(request: pytest.FixtureRequest) -> str:
    """On what a test runs; each that takes this, or one of the next three, does so on both."""
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def service(place: str, request: pytest.FixtureRequest) -> RunningService:
    """`ca-service dev`, or both nodes by nginx; shared by the run: use an identity of your own."""
    found: RunningService = request.getfixturevalue("one_node" if place == ONE_NODE else "two_nodes")
    return found


@pytest.fixture(scope="module")
def tokens(place: str, request: pytest.FixtureRequest) -> Tokens:
    """Identity tokens for the shared service."""
    if place == ONE_NODE:
        return TokenDesk(request.getfixturevalue("one_node"))
    cluster: Cluster = request.getfixturevalue("cluster")
    return IssuerDesk(cluster.signers)


@pytest.fixture(scope="module")
def trust(service: RunningService, rekor: LocalRekor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `export-trust` writes for the shared service and the Rekor."""
    folder = tmp_path_factory.mktemp("trust")
    key = rekor.write_key(folder / "rekor.pub")
    return service.export_trust(folder / "files", {rekor.url: key})


@pytest.fixture
def session(request: pytest.FixtureRequest) -> Iterator[requests.Session]:
    """An HTTP session of this test's own, which trusts nginx where there is one."""
    with http() as opened:
        if "place" in request.fixturenames and request.getfixturevalue("place") == TWO_NODES:
            cluster: Cluster = request.getfixturevalue("cluster")
            opened.verify = str(cluster.nginx.certificates)
        yield opened
