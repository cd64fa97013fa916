"""One service that trusts a federation of issuers, each a real one in a process or thread of its own."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.openid import MockServer, OpenIdProvider
from tests.support.processes import RunningService, free_port, production_service, running
from tests.support.scripted import ScriptedServer

SHIPPED = Path(__file__).parents[3] / "config" / "issuers.yaml"

# Issuers of the mock server by name, and what the issuer file says of each.
MOCKED: Mapping[str, Mapping[str, Any]] = {
    "people": {"type": "email"},
    "strict": {"type": "email", "strict-audience": True},
    "narrow": {"type": "email", "algorithms": ["ES256"]},
    "rotating": {"type": "email"},
    "federated": {"type": "email", "issuer-claim": "$.federated_claims.connector_id"},
    "uri": {"type": "uri", "subject-domain": "http://127.0.0.1"},
    "username": {"type": "username", "subject-domain": "127.0.0.1"},
    "spiffe": {"type": "spiffe", "spiffe-trust-domain": "example.com"},
    "chainguard": {"type": "chainguard-identity"},
    "github": {"type": "ci-provider", "ci-provider": "github-workflow"},
    "gitlab": {"type": "ci-provider", "ci-provider": "gitlab-pipeline"},
    "circleci": {"type": "ci-provider", "ci-provider": "circleci-job"},
    "buddy": {"type": "ci-provider", "ci-provider": "buddy-pipeline"},
}
# Issuers of the scripted server, all of type email; each faulty one is for one test, because what failed is
# not asked again for some seconds.
FAULTY = tuple(f"faulty-{number}" for number in range(40))
SCRIPTED = ("raw", "weak", "several", "storm", "aside", *FAULTY)


@pytest.fixture(scope="session")
def provider() -> Iterator[OpenIdProvider]:
    """A full OpenID Provider."""
    with OpenIdProvider() as started:
        yield started


@pytest.fixture(scope="session")
def mock() -> Iterator[MockServer]:
    """Issuers that sign any claims."""
    with MockServer() as started:
        yield started


@pytest.fixture(scope="session")
def scripted() -> Iterator[ScriptedServer]:
    """Issuers that misbehave."""
    with ScriptedServer() as started:
        yield started


@pytest.fixture(scope="session")
def issuer_file(provider: OpenIdProvider, mock: MockServer, scripted: ScriptedServer) -> dict[str, Any]:
    """The issuer file of the federation: its own issuers, and the build systems as they are shipped."""
    exact: dict[str, Any] = {
        provider.url: {"type": "email"},
        **{f"{mock.url}/{name}": members for name, members in MOCKED.items()},
        **{f"{scripted.url}/{name}": {"type": "email"} for name in SCRIPTED},
        # Nobody is there, from the start on.
        f"http://127.0.0.1:{free_port()}": {"type": "email"},
    }
    wildcards: dict[str, Any] = {
        f"{mock.url}/cluster-*": {"type": "kubernetes"},
        f"{scripted.url}/meta/*": {"type": "email"},
    }
    return {
        "oidc-issuers": {
            url: {"issuer-url": url, "client-id": "sigstore", **members} for url, members in exact.items()
        },
        "meta-issuers": {url: {"client-id": "sigstore", **members} for url, members in wildcards.items()},
        "ci-issuer-metadata": yaml.safe_load(SHIPPED.read_text())["ci-issuer-metadata"],
    }


@pytest.fixture(scope="session")
def federation(
    tmp_path_factory: pytest.TempPathFactory, issuer_file: Mapping[str, Any]
) -> Iterator[RunningService]:
    """The service that trusts them all; it has one worker, so that each issuer is fetched once."""
    text = yaml.safe_dump(dict(issuer_file), sort_keys=False)
    folder = tmp_path_factory.mktemp("federation") / "ca"
    with running(production_service(folder, issuers=text, workers=1)) as started:
        yield started
