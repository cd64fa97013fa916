"""What deploy/ says is run as it stands there: the image's build and programs, compose, Kubernetes, systemd.

No container engine is needed: commands, variables, users, folders and what may be written are taken from the
files, and namespaces stand in for the rest.
"""

import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from tests.support.confined import confined
from tests.support.postgres import LocalPostgres
from tests.support.processes import environment, free_port, http, wait_until

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PASSPHRASE = "for this test alone\n"


@dataclass
class Program:
    """A command of a file in deploy/, with the folders it sees."""

    command: Sequence[str]
    environ: Mapping[str, str]
    user: int = 10001
    writable: dict[str, Path] = field(default_factory=dict)
    readable: dict[str, Path] = field(default_factory=dict)

    def line(self) -> list[str]:
        return confined(self.command, user=self.user, writable=self.writable, readable=self.readable)

    def run(self) -> str:
        done = subprocess.run(
            self.line(), env=dict(self.environ), capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextlib.contextmanager
    def serving(
        self, url: str, output: Path, first: Callable[[], object] = lambda: None
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Run it until it is ready, then for the block; it must end well when it is told to.

        `first` is called once it answers, which it may do before it is ready.
        """
        with output.open("wb") as written:
            process = subprocess.Popen(
                self.line(), env=dict(self.environ), stdin=subprocess.DEVNULL, stdout=written, stderr=written
            )
        try:
            with http() as session:

                def answers(path: str) -> bool:
                    assert process.poll() is None, output.read_text()
                    with contextlib.suppress(requests.ConnectionError):
                        return session.get(f"{url}{path}", timeout=60).status_code == 200
                    return False

                wait_until(lambda: answers("/healthz"), 120, "the service answers")
                first()
                wait_until(lambda: answers("/readyz"), 120, "the service is ready")
            yield process
            process.send_signal(signal.SIGTERM)
            assert process.wait(120) == 0, output.read_text()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait(60)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """/opt/ca-service of the image, made by the build stage's own instructions from what it copies."""
    folder = tmp_path_factory.mktemp("image")
    source, built = folder / "source", folder / "ca-service"
    source.mkdir()
    text = (DEPLOY / "container" / "Containerfile").read_text().replace("\\\n", " ")
    stage = text.split("\nFROM ")[1]
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    environ = environment({"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"})
    environ.pop("VIRTUAL_ENV", None)
    for line in stage.splitlines():
        instruction, _, rest = line.partition(" ")
        if instruction == "ENV":
            environ |= dict(word.split("=", 1) for word in shlex.split(rest))
            environ["UV_PROJECT_ENVIRONMENT"] = str(built)
        elif instruction == "COPY":
            *names, to = rest.split()
            for name in names:
                assert name in allowed, f"{name} is not sent to the engine"
                if (ROOT / name).is_dir():
                    shutil.copytree(ROOT / name, source / to, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(ROOT / name, source / to)
        elif instruction == "RUN" and rest.startswith("uv "):
            environ["UV_PYTHON"] = sys.executable
            done = subprocess.run(
                shlex.split(rest), cwd=source, env=environ, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
    assert (built / "bin" / "ca-service").exists()
    return built


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with LocalPostgres() as server:
        yield server.new_database()


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / "container" / "compose.yaml").read_text())
    return loaded


def containerized(
    service: Mapping[str, Any], image: Path, folders: Mapping[str, Path], port: int, database: str
) -> Program:
    """A service of the compose file; `folders` are its volumes and secrets, by what they are called there."""
    environ = {name: value for name, value in service["environment"].items() if name != "CASVC_REDIS__URL"}
    environ |= {
        "CASVC_DATABASE__URL": database,
        "CASVC_METRICS__BIND": "",
        "PATH": f"/opt/ca-service/bin:{os.environ['PATH']}",
        "TMPDIR": "/srv/tmp",
        "HOME": "/nonexistent",
    }
    words = [
        re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", word).replace("0.0.0.0:5555", f"0.0.0.0:{port}")
        for word in service["command"]
    ]
    volumes = dict(each.split(":")[:2] for each in service["volumes"])
    return Program(
        ["ca-service", *words],
        environ,
        writable={
            "/srv/tmp": folders["tmp"],
            **{inside: folders[name] for name, inside in volumes.items() if name in folders},
        },
        readable={"/opt/ca-service": image, "/run/secrets": folders["secrets"]},
    )


@pytest.fixture(scope="module")
def founded(
    image: Path, database: str, compose: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Path]:
    """The compose file's volumes after its init job."""
    folder = tmp_path_factory.mktemp("compose")
    folders = {name: folder / name for name in ("authority", "mark", "tmp", "secrets")}
    for each in folders.values():
        each.mkdir(mode=0o700)
    secret = folders["secrets"] / "ca_passphrase"
    secret.write_text(PASSPHRASE)
    secret.chmod(0o400)
    init = compose["services"]["init"]
    assert init["environment"]["CASVC_ISSUERS"] == "/srv/issuers.yaml"
    made = containerized(init, image, folders, 0, database).run()
    assert "https://ca.example.com" in (folders["authority"] / "ca.toml").read_text()
    assert "not encrypted" not in made
    return folders


def test_the_compose_file_founds_migrates_and_serves(
    founded: Mapping[str, Path], image: Path, database: str, compose: dict[str, Any], tmp_path: Path
) -> None:
    port = free_port()
    services = compose["services"]
    programs = {
        name: containerized(services[name], image, founded, port, database)
        for name in ("migrate", "ca-service")
    }
    for program in programs.values():
        # The one file that is mounted into /srv; without it the directory's own.
        program.environ = {name: v for name, v in program.environ.items() if name != "CASVC_ISSUERS"}
    programs["migrate"].run()
    with programs["ca-service"].serving(f"http://127.0.0.1:{port}", tmp_path / "output") as process:
        check = services["ca-service"]["healthcheck"]["test"]
        asked = [sys.executable, *(word.replace(":5555", f":{port}") for word in check[2:])]
        subprocess.run(asked, check=True, timeout=60)
        # Nothing runs with more than the container gives.
        if "unshare" in programs["ca-service"].line():
            status = Path(f"/proc/{process.pid}/status").read_text()
            assert "CapEff:\t0000000000000000" in status
            assert "NoNewPrivs:\t1" in status
    assert not list(founded["tmp"].iterdir()), "something was left in /tmp"


def test_kubernetes_pods_migrate_and_serve_from_what_is_mounted(
    founded: Mapping[str, Path], image: Path, database: str, tmp_path: Path
) -> None:
    authority, port = founded["authority"], free_port()
    mounts = {name: tmp_path / name for name in ("settings", "authority", "keys", "secrets", "mark", "tmp")}
    for each in mounts.values():
        each.mkdir(mode=0o700)
    for name in ("ca.toml", "issuers.yaml"):
        shutil.copy(authority / name, mounts["settings"])
    for folder, to in (("authority", "authority"), ("private", "keys")):
        # A mount point must be there: the kubelet makes it.
        (mounts["settings"] / folder).mkdir()
        for file in (authority / folder).iterdir():
            if file.is_file():
                shutil.copy(file, mounts[to])
    shutil.copy(founded["secrets"] / "ca_passphrase", mounts["secrets"] / "passphrase")
    secrets = {"database-url": database, "redis-url": ""}

    def pod(file: str) -> Program:
        (document,) = yaml.safe_load_all((DEPLOY / "kubernetes" / file).read_text())
        (container,) = document["spec"]["template"]["spec"]["containers"]
        environ = {
            each["name"]: each["value"]
            if "value" in each
            else secrets[each["valueFrom"]["secretKeyRef"]["key"]]
            for each in container["env"]
        }
        environ["CASVC_METRICS__BIND"] = ""
        program = Program(
            ["ca-service", *(word.replace(":5555", f":{port}") for word in container["args"])],
            {**environ, "PATH": f"/opt/ca-service/bin:{os.environ['PATH']}", "TMPDIR": "/srv/tmp"},
            writable={"/srv/tmp": mounts["tmp"]},
            readable={"/opt/ca-service": image},
        )
        for each in container["volumeMounts"]:
            if each["mountPath"].startswith("/srv/"):
                places = program.readable if each.get("readOnly") else program.writable
                places[each["mountPath"]] = mounts[each["name"]]
        return program

    pod("migrate.yaml").run()
    node, asked = pod("stateful-set.yaml"), pod("stateful-set.yaml")
    # The volume of a new node's mark is empty: somebody has to say that the database is the newest.
    asked.command = (
        *("ca-service", "recover", "--config", "/srv/ca/ca.toml"),
        *("--accept-missing-mark", "--yes"),
    )
    with node.serving(f"http://127.0.0.1:{port}", tmp_path / "output", asked.run):
        assert (mounts["mark"] / "high-water.json").exists()


def test_the_unit_says_that_it_is_ready_reloads_and_stops(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = (DEPLOY / "systemd" / "ca-service.service").read_text()
    (start,) = re.findall(r"^ExecStart=(.+)$", unit, re.MULTILINE)
    (reload,) = re.findall(r"^ExecReload=(.+)$", unit, re.MULTILINE)
    names = re.findall(r"^StateDirectory=(.+)$", unit, re.MULTILINE)[0].split()
    states = {f"/var/lib/{name}": tmp_path / name for name in names}
    for each in (*states.values(), tmp_path / "tmp"):
        each.mkdir(mode=0o700)
    port = free_port()
    environ = {
        "PATH": os.environ["PATH"],
        "TMPDIR": "/srv/tmp",
        "CASVC_HIGH_WATER_MARK__PATH": "/var/lib/ca-service-mark/high-water.json",
    }
    writable = {**states, "/srv/tmp": tmp_path / "tmp"}
    readable = {"/opt/ca-service": image}
    words = shlex.split(start)
    init = [words[0], "init", "--dir", "/var/lib/ca-service"]
    Program(init, environ, writable=writable, readable=readable).run()
    assert (tmp_path / "ca-service-mark" / "high-water.json").exists()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        # An abstract name: no file that the program would have to see.
        told.bind(f"\0ca-service-test-{port}")
        told.settimeout(120)
        environ |= {
            "NOTIFY_SOCKET": f"@ca-service-test-{port}",
            "CASVC_SERVER__BIND": f"127.0.0.1:{port}",
            "CASVC_SERVER__WORKERS": "1",
        }
        program = Program(words, environ, writable=writable, readable=readable)
        output = tmp_path / "output"
        with program.serving(f"http://127.0.0.1:{port}", output) as process:
            assert "READY=1" in told.recv(4096).decode()
            assert reload == "/bin/kill -HUP $MAINPID"
            process.send_signal(signal.SIGHUP)
            wait_until(lambda: "is in force" in output.read_text(), 60, "the issuer file was read anew")
