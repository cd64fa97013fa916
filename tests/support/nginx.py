"""A real nginx with the configuration that deploy/ ships, on free loopback ports."""

import contextlib
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import requests

from tests.support.processes import free_port, http, wait_until
from tests.support.tls import TlsAuthority

SHIPPED = Path(__file__).parents[2] / "deploy" / "nginx"


@dataclass(frozen=True)
class ShippedNginx:
    """Its folder, where it answers, and who vouches for its https side."""

    folder: Path
    url: str
    status_url: str
    certificates: Path

    @property
    def main_file(self) -> Path:
        return self.folder / "nginx.conf"


def configured(folder: Path, nodes: Sequence[str], *, requests_a_second: int | None = None) -> ShippedNginx:
    """Write the shipped configuration for nodes HOST:PORT with other ports, names and folders.

    All tests ask from one address: it may ask for so many certificates and do so many acts, if told.
    """
    snippets = folder / "snippets"
    snippets.mkdir(parents=True)
    (snippets / "ca-service-proxy.conf").write_text((SHIPPED / "ca-service-proxy.conf").read_text())
    upstream = (SHIPPED / "ca-service-upstream.conf").read_text()
    shipped_node = "server 127.0.0.1:5555 max_fails=2 fail_timeout=5s;"
    assert shipped_node in upstream
    lines = [shipped_node.replace("127.0.0.1:5555", node) for node in nodes]
    if len(nodes) > 1:  # as the file says
        assert "server 10.0.0.11:5555 max_fails=0 backup;" in upstream
        lines += [f"server {node} max_fails=0 backup;" for node in nodes]
    (snippets / "ca-service-upstream.conf").write_text(upstream.replace(shipped_node, "\n    ".join(lines)))
    trust = TlsAuthority.new("Example TLS")
    key, certificate = trust.server("127.0.0.1", folder / "tls")
    bundle = folder / "trust.pem"
    bundle.write_text(trust.pem)
    secure, plain = free_port(), free_port()
    text = (SHIPPED / "ca-service.conf").read_text()
    for shipped, here in (
        ("zone=ca_signing:10m rate=20r/s", f"zone=ca_signing:10m rate={requests_a_second or 20}r/s"),
        ("zone=ca_admin:10m rate=10r/s", f"zone=ca_admin:10m rate={requests_a_second or 10}r/s"),
        ("/etc/nginx/tls/ca.example.com.pem", str(certificate)),
        ("/etc/nginx/tls/ca.example.com.key", str(key)),
        ("/var/cache/nginx/", f"{folder}/"),
        ("/var/log/nginx/ca-service.log", f"{folder}/access.log"),
        ("    listen [::]:443 ssl;\n", ""),
        ("    listen [::]:80;\n", ""),
        ("listen 443 ssl", f"listen 127.0.0.1:{secure} ssl"),
        ("listen 80;", f"listen 127.0.0.1:{plain};"),
    ):
        assert shipped in text, shipped
        text = text.replace(shipped, here)
    (folder / "ca-service.conf").write_text(text)
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    nginx = ShippedNginx(folder, f"https://127.0.0.1:{secure}", f"http://127.0.0.1:{plain}", bundle)
    nginx.main_file.write_text(
        f"daemon off;\nuser root;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log;\nevents {{}}\n"
        f"http {{\n{temporary}include ca-service.conf;\n}}\n"
    )
    return nginx


def checked(nginx: ShippedNginx) -> str:
    """Let nginx judge the configuration; returns what it says, empty when nothing is wrong."""
    done = subprocess.run(
        ["nginx", "-t", "-q", "-e", "stderr", "-p", str(nginx.folder), "-c", str(nginx.main_file)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stderr or ("" if done.returncode == 0 else f"exit {done.returncode}")


@contextlib.contextmanager
def serving(nginx: ShippedNginx) -> Iterator[ShippedNginx]:
    """Run it for a with block; it is ready once it answers."""
    process = subprocess.Popen(
        ["nginx", "-e", f"{nginx.folder}/error.log", "-p", str(nginx.folder), "-c", str(nginx.main_file)],
        stdin=subprocess.DEVNULL,
    )
    try:
        with http() as session:

            def answers() -> bool:
                assert process.poll() is None, (nginx.folder / "error.log").read_text()
                with contextlib.suppress(requests.ConnectionError):
                    return session.get(nginx.status_url, timeout=60).status_code == 404
                return False

            wait_until(answers, 60, "an answer of nginx")
        yield nginx
    finally:
        process.terminate()
        process.wait(60)
