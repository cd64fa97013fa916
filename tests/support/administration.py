"""A service with administrators of every role, and the command line as they use it."""

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import requests
from click.testing import CliRunner, Result

from ca_service.cli import main
from tests.support.issuer import LocalIssuer
from tests.support.processes import (
    CA_SERVICE,
    RunningService,
    environment,
    free_port,
    http,
    production_service,
    running,
)
from tests.support.signing import bearer

AUDIENCE = "ca-service-admin"
FAILURES = 200
"""A minute, of one address: more than all tests together make from theirs."""


def cli(
    *arguments: str | Path,
    token: str | None = None,
    home: Path | None = None,
    stdin: str = "",
    certificates: Path | None = None,
) -> Result:
    """Run a verb in this process, with a token in the environment and nothing else of it."""
    kept: dict[str, str | None] = {
        name: None for name in os.environ if name.startswith("CASVC_") or name.lower().endswith("_proxy")
    }
    runner = CliRunner(
        env={
            **kept,
            "CASVC_TOKEN": token,
            "XDG_CONFIG_HOME": str(home or Path("/nonexistent")),
            "REQUESTS_CA_BUNDLE": str(certificates) if certificates else None,
        }
    )
    return runner.invoke(main, [str(argument) for argument in arguments], input=stdin)


@dataclass
class Administered:
    """A running service, who vouches for its signers, and who for its staff."""

    service: RunningService
    signers: LocalIssuer
    staff: LocalIssuer

    def token(self, who: str = "administrator", **claims: Any) -> str:
        """A token of the staff's provider: of somebody in the group ca-WHO."""
        usual = {"aud": AUDIENCE, "groups": [f"ca-{who}"], **claims}
        present = {name: value for name, value in usual.items() if value is not None}
        return self.staff.token(f"{who}@staff.example.com", claims=present)

    def ask(
        self, method: str, path: str, token: str | None, body: Any = None, **headers: str
    ) -> requests.Response:
        """Call /admin/v1."""
        with self.service.http() as session:
            return session.request(
                method,
                f"{self.service.url}/admin/v1{path}",
                json=body,
                headers={**headers, **(bearer(token) if token is not None else {})},
                timeout=60,
            )

    def audit(self) -> list[dict[str, Any]]:
        """Every audit record."""
        reply = self.ask("GET", "/audit?limit=1000", self.token("viewer"))
        assert reply.status_code == 200, reply.text
        records: list[dict[str, Any]] = reply.json()["records"]
        return records

    def remotely(self, *arguments: str | Path, who: str = "administrator") -> Result:
        """Run a verb with --server."""
        return cli(
            *arguments,
            *("--server", self.service.url),
            token=self.token(who),
            certificates=self.service.certificates,
        )

    def on_host(self, *arguments: str | Path) -> Result:
        """Run a verb with --config."""
        return cli(*arguments, "--config", self.service.config)

    def metric(self, name: str, **labels: str) -> float:
        """The value of one metric of all nodes, 0 before its first count."""
        inner = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
        wanted = re.escape(f"casvc_{name}_total" + (f"{{{inner}}}" if inner else ""))
        return sum(map(float, re.findall(rf"^{wanted} (\S+)$", self.service.metrics(), re.MULTILINE)))


def give_roles(config: Path, staff: LocalIssuer, signers: LocalIssuer) -> None:
    """Let the staff's groups decide who may what, in a settings file that names no role yet."""
    with config.open("a") as file:
        for role in ("viewer", "revoker", "administrator"):
            file.write(
                f'\n[[admin_role]]\nrole = "{role}"\nissuer = "{staff.url}"\n'
                f'claims = {{groups = "ca-{role}"}}\n'
            )
        # Signers may administer too, but never with the token that they sign with.
        file.write(
            f'\n[[admin_role]]\nrole = "viewer"\nissuer = "{signers.url}"\n'
            'claims = {email = "both@example.com"}\n'
        )


@contextmanager
def administered(folder: Path, environ: Mapping[str, str] | None = None) -> Iterator[Administered]:
    """Start a service whose staff comes from an issuer that is in no issuer file; one worker."""
    with LocalIssuer() as signers, LocalIssuer() as staff:
        service = production_service(folder / "ca", issuers=signers.issuer_file(), workers=1)
        service.environ = {
            **service.environ,
            "CASVC_METRICS__BIND": f"127.0.0.1:{free_port()}",
            **(environ or {}),
        }
        give_roles(service.config, staff, signers)
        with running(service):
            yield Administered(service, signers, staff)


class Login:
    """`ca-service login --no-browser` in a process of its own, and the address that it printed."""

    def __init__(self, url: str, home: Path, *options: str) -> None:
        self.process = subprocess.Popen(
            [str(CA_SERVICE), "login", "--server", url, "--no-browser", *options],
            env=environment({"XDG_CONFIG_HOME": str(home)}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        first = self.process.stderr.readline()
        assert first.startswith("Open this address"), first + self.process.stderr.read()
        self.address = self.process.stderr.readline().strip()

    def end(self) -> tuple[int, str, str]:
        """Wait for its end: exit code, standard output, standard error."""
        out, err = self.process.communicate(timeout=240)
        return self.process.returncode, out, err


def follow(browser: requests.Session, reply: requests.Response) -> requests.Response:
    """Follow redirects as a browser does, to the last page."""
    for _ in range(20):
        if not reply.is_redirect:
            return reply
        reply = browser.get(urljoin(reply.url, reply.headers["Location"]), allow_redirects=False, timeout=60)
    raise AssertionError(f"redirects without end: {reply.url}")


def log_in_at_dev_idp(address: str, email: str, decision: str = "allow") -> requests.Response:
    """Fill in the form of the development identity provider; returns the page that the login ends with."""
    with http() as browser:
        form = browser.get(address, timeout=60)
        found = re.search(r'name="csrf_token" value="([^"]+)"', form.text)
        assert found, form.text
        data = {"csrf_token": unescape(found[1]), "email": email, "decision": decision}
        return follow(browser, browser.post(address, data=data, allow_redirects=False, timeout=60))
