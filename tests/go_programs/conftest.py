"""cosign 2, cosign 3 and a registry for images, as `scripts/test-go-programs` has built them."""

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from tests.support.processes import RunningService, environment, free_port, wait_until
from tests.support.rekor import LocalRekor
from tests.support.tokens import TokenDesk

Finished = subprocess.CompletedProcess[str]


@dataclass
class Signer:
    """Somebody who signs with one cosign, as docs/how-to/point-clients-at-it.md says."""

    generation: int
    program: Path
    service: RunningService
    rekor: LocalRekor
    trust: Path
    tokens: TokenDesk

    @property
    def issuer(self) -> str:
        return f"{self.service.url}/dev-idp"

    def environ(self) -> dict[str, str]:
        extra = {"HOME": str(self.trust.parent), "SIGSTORE_NO_CACHE": "true"}
        if self.generation == 2:
            key = self.trust.parent / "rekor.pub"
            extra |= {
                "SIGSTORE_ROOT_FILE": str(self.trust / "fulcio.pem"),
                "SIGSTORE_CT_LOG_PUBLIC_KEY_FILE": str(self.trust / "ctlog.pub"),
                "SIGSTORE_REKOR_PUBLIC_KEY": str(key),
            }
        return environment(extra)

    def run(self, *arguments: str | Path) -> Finished:
        return subprocess.run(
            [self.program, *arguments],
            env=self.environ(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def sign(self, verb: str, *arguments: str | Path, token: str) -> Finished:
        """Sign with a token; `arguments` name what, and where to write."""
        if self.generation == 2:
            where = ["--fulcio-url", self.service.url, "--rekor-url", self.rekor.url]
        else:
            where = ["--signing-config", str(self.trust / "signing_config.json"), *self.believing()]
        return self.run(verb, "--yes", *where, "--identity-token", token, *arguments)

    def believing(self) -> list[str]:
        """What a verifier names besides the identity."""
        if self.generation == 2:
            return ["--rekor-url", self.rekor.url]
        return ["--trusted-root", str(self.trust / "trusted_root.json")]

    def verify(self, verb: str, email: str, *arguments: str | Path, issuer: str | None = None) -> Finished:
        expected = ["--certificate-identity", email, "--certificate-oidc-issuer", issuer or self.issuer]
        if self.generation == 2:
            return self.run(verb, "--rekor-url", self.rekor.url, *expected, *arguments)
        return self.run(verb, *self.believing(), *expected, *arguments)


@pytest.fixture(scope="session")
def programs() -> Path:
    """The folder with v2/cosign, v3/cosign, fulcio and crane."""
    return Path(os.environ["CASVC_TEST_GO_PROGRAMS"])


@pytest.fixture(params=[2, 3], ids=["cosign 2", "cosign 3"])
def signer(
    request: pytest.FixtureRequest,
    programs: Path,
    service: RunningService,
    rekor: LocalRekor,
    trust: Path,
    tokens: TokenDesk,
) -> Signer:
    """One of each generation."""
    generation: int = request.param
    return Signer(generation, programs / f"v{generation}" / "cosign", service, rekor, trust, tokens)


@pytest.fixture(scope="session")
def image(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """A function that pushes an image of a name to a registry on loopback, and returns its reference."""
    folder, port = tmp_path_factory.mktemp("registry"), free_port()
    layer = folder / "layer.tar"
    subprocess.run(["tar", "-cf", layer, "-C", Path(__file__).parent, "__init__.py"], check=True)
    environ = environment({"HOME": str(folder)})
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(
            [programs / "crane", "registry", "serve", "--address", f"127.0.0.1:{port}"],
            env=environ | {"PORT": str(port)},
            stdout=log,
            stderr=log,
        ) as registry,
    ):

        def is_there() -> bool:
            try:
                return requests.get(f"http://127.0.0.1:{port}/v2/", timeout=10).ok
            except requests.ConnectionError:
                return False

        def push(name: str) -> str:
            tag = f"127.0.0.1:{port}/{name}:1"
            pushed = subprocess.run(
                [programs / "crane", "append", "--insecure", "-f", layer, "-t", tag],
                env=environ,
                capture_output=True,
                text=True,
                check=True,
            )
            return pushed.stdout.strip()

        try:
            wait_until(is_there, 30, "the registry")
            yield push
        finally:
            registry.terminate()
