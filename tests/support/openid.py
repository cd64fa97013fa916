"""OpenID providers that we did not write, in processes of their own on free loopback ports."""

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from tests.support.processes import environment, free_port, http

FOLDER = Path(__file__).parents[1] / "conformance" / "issuers"
# Newer than the system's may be: oauth2-mock-server asks for Node.js 22.
NODE = FOLDER / "node_modules" / ".bin" / "node"
_START_SECONDS = 120.0


class NodeServer:
    """A server script of tests/conformance/issuers; a context manager that always ends its process."""

    script = ""

    def __init__(self, *arguments: str | Path) -> None:
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None
        # Not one of those that the kernel chooses: somebody's connection could have it when it starts again.
        self._port = free_port()
        self.url = ""

    def start(self) -> Self:
        """Start it, on the port it had before, and return once it listens."""
        assert NODE.exists(), f"{NODE} is missing; run scripts/setup test"
        self._process = subprocess.Popen(
            [str(NODE), self.script, str(self._port), *map(str, self._arguments)],
            cwd=FOLDER,
            env=environment({"NODE_NO_WARNINGS": "1"}),
            # It ends with its standard input, so that even a killed test run leaves nothing behind.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], _START_SECONDS)
        line = self._process.stdout.readline() if ready else b""
        assert line, f"{self.script} did not start: exit code {self._process.poll()}"
        self.url = json.loads(line)["url"]
        return self

    def kill(self) -> None:
        """End it at once; its port refuses connections from then on. Again is nothing."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait(60)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process = None

    def freeze(self) -> None:
        """Let it accept connections and say nothing, as a machine that is overloaded does."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()


class OpenIdProvider(NodeServer):
    """oidc-provider with the public client `sigstore`; whoever login_hint names is logged in."""

    script = "provider.mjs"
    redirect_uri = "http://127.0.0.1/auth/callback"


class MockServer(NodeServer):
    """oauth2-mock-server; `issuer` names the issuers below its URL."""

    script = "mock.mjs"

    def __init__(self, *arguments: str | Path, trust: Path | None = None) -> None:
        super().__init__(*arguments)
        self.trust = trust
        self._issuers: dict[str, MockIssuer] = {}

    def issuer(self, name: str) -> "MockIssuer":
        """The issuer of this name, made once, with an RS256 key `first`."""
        if name not in self._issuers:
            self._issuers[name] = MockIssuer(self, name)
            self._issuers[name].rotate("first")
        return self._issuers[name]

    def asked(self, name: str = "") -> list[str]:
        """The paths that others asked for so far, in order; only those of one issuer when named."""
        paths: list[str] = self.call("GET", "/asked")["asked"]
        return [path for path in paths if path.startswith(f"/{name}/" if name else "/")]

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        with http() as session:
            reply = session.request(
                method, self.url + path, json=body, timeout=60, verify=str(self.trust) if self.trust else True
            )
        assert reply.status_code == 200, f"{path}: {reply.status_code} {reply.text}"
        return reply.json()


class MockIssuer:
    """One issuer of a MockServer, which signs what it is told."""

    def __init__(self, server: MockServer, name: str) -> None:
        self.server = server
        self.name = name
        self.url = f"{server.url}/{name}"

    def rotate(self, kid: str, alg: str = "RS256") -> None:
        """Publish one more key; `kid` names it for sign()."""
        self.server.call("POST", f"/{self.name}/control/rotate", {"kid": kid, "alg": alg})

    def sign(
        self, claims: Mapping[str, Any], header: Mapping[str, Any] | None = None, kid: str = "first"
    ) -> str:
        """The compact JWS over exactly these claims."""
        body = {"claims": claims, "header": header or {}, "kid": kid}
        return str(self.server.call("POST", f"/{self.name}/control/sign", body)["token"])

    def token(self, *, kid: str = "first", **claims: Any) -> str:
        """A token with the usual times and audience; `claims` add to them or replace them."""
        return self.sign({**standard_claims(self.url), **claims}, kid=kid)


def standard_claims(issuer: str) -> dict[str, Any]:
    """What every token for the service says: who made it, for whom, and when."""
    now = int(time.time())
    return {"iss": issuer, "sub": "someone", "aud": "sigstore", "iat": now, "nbf": now, "exp": now + 600}
