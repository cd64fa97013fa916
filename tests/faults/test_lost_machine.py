"""The machine is lost; what was backed up from it under load goes on elsewhere, and forgets no revocation."""

import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import pytest
import requests

from tests.support.issuer import LocalIssuer
from tests.support.postgres import LocalPostgres
from tests.support.processes import CA_SERVICE, RunningService, free_port, http, running, succeed, wait_until
from tests.support.restored import ask, dump, issued, ocsp_status, restore, unready
from tests.support.signing import Issued
from tests.support.verifier import crl_url, fetch_crl

DATABASE = "CASVC_DATABASE__URL"


@pytest.fixture(scope="module")
def issuer() -> Iterator[LocalIssuer]:
    with LocalIssuer() as started:
        yield started


@dataclass
class Machine:
    """A service whose mark lies on another disk, and what restores its backups elsewhere."""

    service: RunningService
    folder: Path
    server: LocalPostgres | None

    @classmethod
    def founded(cls, folder: Path, issuer: LocalIssuer, server: LocalPostgres | None) -> "Machine":
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        environ = {
            "CASVC_HIGH_WATER_MARK__PATH": str(folder / "another-disk/mark.json"),
            "CASVC_OIDC__PRIVATE_NETWORKS": '["127.0.0.0/8"]',
        }
        if server is not None:
            environ[DATABASE] = server.new_database()
        succeed("init", "--dir", folder / "ca", "--url", url, environ=environ)
        (folder / "ca/issuers.yaml").write_text(issuer.issuer_file())
        command = [str(CA_SERVICE), "serve", "--config", str(folder / "ca/ca.toml"), "--workers", "2"]
        return cls(RunningService(folder / "ca", url, command, environ), folder, server)

    def back_up(self, name: str) -> Path:
        """As the how-to says: PostgreSQL's own program first, then ours."""
        if self.server is not None:
            dump(self.service.environ[DATABASE], self.folder / f"{name}.dump")
        self.service.admin("backup", "--out", self.folder / name)
        return self.folder / name

    def restored(self, backup: Path, name: str) -> RunningService:
        """The service from a backup, in a new directory and a new database, at the same addresses."""
        directory = self.folder / name
        shutil.copytree(backup, directory)
        environ = dict(self.service.environ)
        if self.server is not None:
            environ[DATABASE] = restore(backup.with_name(f"{backup.name}.dump"), self.server)
        command = [part.replace(str(self.folder / "ca"), str(directory)) for part in self.service.command]
        return replace(self.service, directory=directory, command=command, environ=environ, process=None)


@dataclass
class Load:
    """Signers who go on without a pause."""

    service: RunningService
    issuer: LocalIssuer
    certificates: list[Issued] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        with http() as session:
            while not self.stop.is_set():
                self.certificates.append(issued(self.service, session, self.issuer))

    def __enter__(self) -> Self:
        self.threads = [threading.Thread(target=self.run) for _ in range(2)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def grown(self, by: int) -> None:
        """Wait until so many more were issued."""
        size = len(self.certificates) + by
        wait_until(lambda: len(self.certificates) >= size, 120, "certificates under load")


def mirror_lists(mirror: Path, session: requests.Session, certificates: list[Issued]) -> None:
    """Keep the newest CRL of each shard that the certificates name, as a mirror does."""
    mirror.mkdir(exist_ok=True)
    for url, one in {crl_url(one.leaf): one for one in certificates}.items():
        (mirror / url.rpartition("/")[2]).write_bytes(fetch_crl(session, one.leaf))


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_backups_under_load_are_restored_elsewhere(
    engine: str,
    tmp_path: Path,
    issuer: LocalIssuer,
    session: requests.Session,
    request: pytest.FixtureRequest,
) -> None:
    server = request.getfixturevalue("postgres") if engine == "postgresql" else None
    machine, mirror = Machine.founded(tmp_path, issuer, server), tmp_path / "mirror"
    service = machine.service
    with running(service):
        with Load(service, issuer) as load:
            load.grown(5)
            older = machine.back_up("older")
            load.grown(5)
        kept, taken_back, forgotten = load.certificates[0], load.certificates[1], load.certificates[-1]
        for one in (taken_back, forgotten):
            service.admin("revoke", "certificate", one.serial, "--reason", "keyCompromise")
        mirror_lists(mirror, session, load.certificates)
        newest = machine.back_up("newest")
        service.kill()
    shutil.rmtree(service.directory)

    for backup in (older, newest):
        assert not [path for path in backup.rglob("*") if "mark" in path.name or path.name == "root.key"]
        assert {path.stat().st_mode & 0o077 for path in backup.rglob("*.key")} == {0}

    # The newest backup is all there was: it goes on as if nothing had happened.
    service = machine.restored(newest, "newest-restored")
    assert service.cli("fsck").returncode == 0
    with running(service):
        assert ocsp_status(session, kept) == ("SUCCESSFUL", "GOOD")
        for one in (taken_back, forgotten):
            assert ocsp_status(session, one) == ("SUCCESSFUL", "REVOKED")
        mirror_lists(mirror, session, [*load.certificates, issued(service, session, issuer)])

    # An older one has forgotten what is public: nothing is signed from it.
    service = machine.restored(older, "older-restored")
    assert service.cli("fsck", "--no-mark").returncode == 0
    assert service.cli("fsck").returncode == 1
    with unready(service, session):
        assert session.get(f"{service.url}/readyz", timeout=60).status_code == 503
        refused = ask(service, session, issuer)
        assert refused.status_code == 503
        assert refused.json()["details"][0]["reason"] == "rolled-back"
        assert ocsp_status(session, taken_back) == ("TRY_LATER", None)
    assert "Revocations taken back: 2" in service.admin("recover", "--crl", mirror, "--yes")
    assert service.cli("fsck").returncode == 0
    with running(service):
        assert ocsp_status(session, kept) == ("SUCCESSFUL", "GOOD")
        for one in (taken_back, forgotten):
            assert ocsp_status(session, one) == ("SUCCESSFUL", "REVOKED")
        again = issued(service, session, issuer)
        assert ocsp_status(session, again) == ("SUCCESSFUL", "GOOD")
    assert service.cli("fsck").returncode == 0
