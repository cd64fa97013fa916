"""cosign 2, cosign 3 and a registry for images, as `scripts/test-go-programs` has built them."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

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


@pytest.fixture
def cosign_3(
    programs: Path, service: RunningService, rekor: LocalRekor, trust: Path, tokens: TokenDesk
) -> Signer:
    """Somebody with cosign 3."""
    return Signer(3, programs / "v3" / "cosign", service, rekor, trust, tokens)


@pytest.fixture(params=[2, 3], ids=["cosign 2", "cosign 3"])
def signer(request: pytest.FixtureRequest, programs: Path, cosign_3: Signer) -> Signer:
    """One of each generation."""
    generation: int = request.param
    return replace(cosign_3, generation=generation, program=programs / f"v{generation}" / "cosign")


@contextmanager
def _serving(command: list[str | Path], folder: Path, url: str) -> Iterator[None]:
    """A program while it answers at a URL."""
    environ = environment({"HOME": str(folder)})
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, env=environ, stdout=log, stderr=log) as process,
    ):

        def answers() -> bool:
            assert process.poll() is None, (folder / "log").read_text()
            try:
                return requests.get(url, timeout=10).ok
            except requests.ConnectionError:
                return False

        try:
            wait_until(answers, 30, url)
            yield
        finally:
            process.terminate()


@dataclass
class Outside:
    """Somebody whom export-trust is told of: an address, and a file with a key or a chain."""

    url: str
    file: Path

    def __str__(self) -> str:
        return f"{self.url}={self.file}"


@pytest.fixture(scope="session")
def rekor_2(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    """A Rekor 2 with an Ed25519 key."""
    folder = tmp_path_factory.mktemp("rekor-2")
    key, ports = ed25519.Ed25519PrivateKey.generate(), [str(free_port()) for _ in range(3)]
    pkcs8 = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "key.pem").write_bytes(pkcs8)
    public = folder / "key.pub"
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    url = f"http://127.0.0.1:{ports[0]}"
    command: list[str | Path] = [
        *(programs / "posix", "serve", "--hostname", "127.0.0.1", "--checkpoint-interval", "1s"),
        *("--http-port", ports[0], "--grpc-port", ports[1], "--http-metrics-port", ports[2]),
        *("--storage-dir", folder / "log-files", "--signer-filepath", folder / "key.pem"),
    ]
    with _serving(command, folder, f"{url}/healthz"):
        yield Outside(url, public)


@pytest.fixture(scope="session")
def tsa(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    """A timestamp authority (RFC 3161) with a chain of its own."""
    folder, port = tmp_path_factory.mktemp("tsa"), str(free_port())
    url = f"http://127.0.0.1:{port}/api/v1/timestamp"
    command: list[str | Path] = [
        *(programs / "timestamp-server", "serve", "--host", "127.0.0.1", "--port", port),
        *("--scheme", "http", "--timestamp-signer", "memory", "--disable-ntp-monitoring"),
    ]
    with _serving(command, folder, f"{url}/certchain"):
        chain = folder / "chain.pem"
        chain.write_bytes(requests.get(f"{url}/certchain", timeout=60).content)
        yield Outside(url, chain)


@pytest.fixture(scope="session")
def image(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """A function that pushes an image of a name to a registry on loopback, and returns its reference."""
    folder, port = tmp_path_factory.mktemp("registry"), free_port()
    layer = folder / "layer.tar"
    subprocess.run(["tar", "-cf", layer, "-C", Path(__file__).parent, "__init__.py"], check=True)
    environ = environment({"HOME": str(folder)})
    command: list[str | Path] = [programs / "crane", "registry", "serve", "--address", f"127.0.0.1:{port}"]
    with _serving(command, folder, f"http://127.0.0.1:{port}/v2/"):

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

        yield push
