"""What all tests share: no proxies, no sockets in unit tests, one service per run, times per folder."""

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from hypothesis import HealthCheck, settings

from tests.support.processes import RunningService, dev_service, http, running
from tests.support.rekor import LocalRekor
from tests.support.tokens import TokenDesk

pytest_plugins = ["tests.support.databases", "tests.support.cluster", "tests.support.two_nodes"]

HERE = Path(__file__).parent
WITHOUT_SOCKETS = ("unit", "property")

collect_ignore = [] if "CASVC_TEST_GO_PROGRAMS" in os.environ else ["go_programs"]
"""What scripts/test-go-programs runs: it builds programs that nobody has in a package."""

# Seconds that each folder's tests may take on two cores, added up over the processes of the run, which hinder
# each other: it is over in little more than half of that. Over it is reported, not failed: machines differ.
BUDGETS = {
    "unit": 120,
    "property": 150,
    "contract": 120,
    "vectors": 20,
    "conformance": 300,
    "faults": 420,
    "fuzz": 80,
    "e2e": 600,
}

# A slow machine is not a wrong answer: nothing here fails for the time it took.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

_spent: dict[str, float] = defaultdict(float)

for _name in [name for name in os.environ if name.lower() in ("http_proxy", "https_proxy", "all_proxy")]:
    del os.environ[_name]


def _folder(path: Path) -> str:
    return path.relative_to(HERE).parts[0]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Unit and property tests run with sockets off: they test what does no input or output."""
    for item in items:
        if _folder(item.path) in WITHOUT_SOCKETS:
            item.add_marker(pytest.mark.disable_socket)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add up how long each folder takes."""
    _spent[report.nodeid.split("/")[1]] += report.duration


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print each folder's time beside its budget."""
    terminalreporter.section("time per folder")
    for folder, seconds in sorted(_spent.items()):
        budget = BUDGETS.get(folder, 60)
        verdict = "" if seconds <= budget else "   over its budget"
        terminalreporter.write_line(f"{folder:12} {seconds:6.1f} s of {budget:4} s{verdict}")


@pytest.fixture(scope="session")
def one_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """`ca-service dev` with two workers, shared by the run: use an identity of your own in each test."""
    with running(dev_service(tmp_path_factory.mktemp("service") / "ca")) as started:
        yield started


@pytest.fixture(scope="session")
def service(one_node: RunningService) -> RunningService:
    """The shared service; end-to-end tests have two nodes behind nginx as well by this name."""
    return one_node


@pytest.fixture(scope="session")
def tokens(service: RunningService) -> TokenDesk:
    """Identity tokens for the shared service."""
    return TokenDesk(service)


@pytest.fixture(scope="session")
def rekor() -> Iterator[LocalRekor]:
    """A Rekor v1 on loopback."""
    with LocalRekor() as started:
        yield started


@pytest.fixture(scope="session")
def trust(service: RunningService, rekor: LocalRekor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `export-trust` writes for the shared service and the Rekor."""
    folder = tmp_path_factory.mktemp("trust")
    key = rekor.write_key(folder / "rekor.pub")
    return service.export_trust(folder / "files", {rekor.url: key})


@pytest.fixture
def session() -> Iterator[requests.Session]:
    """An HTTP session of this test's own."""
    with http() as opened:
        yield opened
