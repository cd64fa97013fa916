"""A backup from before a revocation takes the place of the database: nothing is signed until recovered."""

import shutil
import sqlite3
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography import x509

from ca_service.files.high_water_mark import MarkFile
from tests.support.issuer import LocalIssuer
from tests.support.processes import RunningService, production_service, running, succeed, wait_until
from tests.support.restored import ask, issued, ocsp_status, unready
from tests.support.signing import Issued
from tests.support.verifier import crl_url, fetch_crl


@pytest.fixture(scope="module")
def issuer() -> Iterator[LocalIssuer]:
    with LocalIssuer() as started:
        yield started


def back_up(service: RunningService, to: Path) -> None:
    """An online backup, as SQLite makes it."""
    with sqlite3.connect(service.directory / "state" / "ca.db") as source, sqlite3.connect(to) as target:
        source.backup(target)
    source.close()
    target.close()


def put_back(backup: Path, service: RunningService) -> None:
    """Restore it while the service is stopped."""
    database = service.directory / "state" / "ca.db"
    for file in (database, *(database.with_name(f"ca.db{end}") for end in ("-wal", "-shm"))):
        file.unlink(missing_ok=True)
    shutil.copy(backup, database)
    database.chmod(0o600)


def head_of(service: RunningService, session: requests.Session, shard: str) -> dict[str, Any]:
    """The signed tree head."""
    reply = session.get(f"{service.url}/ctlog/{shard}/ct/v1/get-sth", timeout=60)
    assert reply.status_code == 200, reply.text
    head: dict[str, Any] = reply.json()
    return head


def number_of(crl: x509.CertificateRevocationList) -> int:
    """Its CRL number."""
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def published(mirror: Path, one: Issued) -> list[x509.CertificateRevocationList]:
    """The CRLs in a mirror that list a certificate."""
    crls = [x509.load_der_x509_crl(file.read_bytes()) for file in mirror.glob("[0-9].crl")]
    return [
        crl
        for crl in crls
        if crl.get_revoked_certificate_by_serial_number(one.leaf.serial_number) is not None
    ]


def log_id_of_sct(one: Issued) -> bytes:
    """The log that the certificate's SCT is of."""
    extension = one.leaf.extensions.get_extension_for_class(x509.PrecertificateSignedCertificateTimestamps)
    (sct,) = extension.value
    return bytes(sct.log_id)


def audited(service: RunningService) -> list[str]:
    """What the audit records say was done, oldest first."""
    connection = sqlite3.connect(service.directory / "state" / "ca.db")
    try:
        return [row[0] for row in connection.execute("SELECT action FROM audit ORDER BY sequence")]
    finally:
        connection.close()


def sizes(service: RunningService) -> list[int]:
    """The log sizes that the mark holds."""
    mark = MarkFile(service.directory / "mark" / "high-water.json").read()
    return [seen.tree_size for seen in mark.logs.values()]


def test_nothing_is_signed_from_an_old_backup_and_recover_leads_out(
    tmp_path: Path, issuer: LocalIssuer, session: requests.Session
) -> None:
    service = production_service(tmp_path / "ca", issuers=issuer.issuer_file())
    backup, mirror = tmp_path / "yesterday.db", tmp_path / "mirror"
    mirror.mkdir()
    with running(service):
        kept, taken_back = (issued(service, session, issuer) for _ in range(2))
        back_up(service, backup)
        forgotten = issued(service, session, issuer)
        for number, one in enumerate((taken_back, forgotten)):
            service.admin("revoke", "certificate", one.serial, "--reason", "keyCompromise")
            (mirror / f"{number}.crl").write_bytes(fetch_crl(session, one.leaf))
        shard = service.shard()
        before = head_of(service, session, shard)
        assert before["tree_size"] == 3
    put_back(backup, service)

    # Behind the mark: nothing is signed, and everybody is told what exactly was seen.
    with unready(service, session):
        checks = session.get(f"{service.url}/readyz", timeout=60)
        assert checks.status_code == 503
        said = checks.json()["checks"]["high-water mark"]
        assert said.startswith("rolled-back: ")
        assert str(service.directory) not in checks.text
        logged = service.output.read_text()
        assert "had 3 entries" in logged
        assert "the database has 2" in logged
        assert "the revocation generation had come to 2; the database has 0" in logged
        refused = ask(service, session, issuer)
        assert refused.status_code == 503
        assert refused.json()["details"][0]["reason"] == "rolled-back"
        assert refused.json()["details"][0]["metadata"]["expected"] == "3 entries"
        for one in (kept, taken_back, forgotten):
            assert ocsp_status(session, one) == ("TRY_LATER", None)
        for one in (taken_back, forgotten):
            assert session.get(crl_url(one.leaf), timeout=60).status_code == 503
        assert head_of(service, session, shard)["tree_size"] == 2
        entries = session.get(f"{service.url}/ctlog/{shard}/ct/v1/get-entries?start=0&end=9", timeout=60)
        assert len(entries.json()["entries"]) == 2
        told = service.cli("revoke", "certificate", kept.serial)
        assert told.returncode == 3
        assert "ca-service recover" in told.stderr
        assert service.cli("doctor", "--offline").returncode == 1
    assert "behind the high-water mark" in service.output.read_text()

    # The way out: it asks for what is missing, and takes back what was published.
    asked = service.cli("recover", "--yes")
    assert asked.returncode == 1
    assert crl_url(taken_back.leaf) in asked.stderr
    foreign = mirror / "foreign.crl"
    foreign.write_bytes((service.directory / "authority" / "root.crl").read_bytes())
    did = service.cli("recover", "--crl", mirror, "--yes")
    assert did.returncode == 0, did.stdout + did.stderr
    assert "Revocations taken back: 2" in did.stdout
    assert f"not used: {foreign}" in did.stderr
    assert "nothing to recover" in service.admin("recover")

    with running(service):
        for one in (taken_back, forgotten):
            assert ocsp_status(session, one) == ("SUCCESSFUL", "REVOKED")
            crl = x509.load_der_x509_crl(fetch_crl(session, one.leaf))
            entry = crl.get_revoked_certificate_by_serial_number(one.leaf.serial_number)
            assert entry is not None
            assert entry.revocation_date_utc == one.leaf.not_valid_before_utc
            assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason == (
                x509.ReasonFlags.key_compromise
            )
            assert number_of(crl) > max(number_of(old) for old in published(mirror, one))
        assert ocsp_status(session, kept) == ("SUCCESSFUL", "GOOD")
        assert head_of(service, session, shard)["tree_size"] == 2
        again = issued(service, session, issuer)
        assert log_id_of_sct(again) != log_id_of_sct(kept)
        assert ocsp_status(session, again) == ("SUCCESSFUL", "GOOD")
        service.admin("revoke", "certificate", again.serial)
        assert ocsp_status(session, again) == ("SUCCESSFUL", "REVOKED")
        assert service.cli("doctor", "--offline").returncode == 0
    checked = service.cli("fsck", "--json")
    assert checked.returncode == 0, checked.stdout
    acts = audited(service)
    assert acts.index("recover") < acts.index("log-retire") < acts.index("log-open")


def test_a_second_service_with_the_same_key_and_another_database_is_refused(
    tmp_path: Path, issuer: LocalIssuer, session: requests.Session
) -> None:
    mark = tmp_path / "elsewhere" / "mark.json"
    environ = {"CASVC_HIGH_WATER_MARK__PATH": str(mark)}
    first = production_service(tmp_path / "first", issuers=issuer.issuer_file(), environ=environ)
    assert not mark.exists()
    succeed("recover", "--accept-missing-mark", "--yes", "--config", first.config, environ=environ)
    shutil.copytree(first.directory, tmp_path / "second")
    second = replace(
        first,
        directory=tmp_path / "second",
        command=[part.replace(str(first.directory), str(tmp_path / "second")) for part in first.command],
    )
    with running(first):
        issued(first, session, issuer)
    with unready(second, session):
        refused = ask(second, session, issuer)
        assert refused.status_code == 503
        assert refused.json()["details"][0]["reason"] == "rolled-back"
    with running(first):
        issued(first, session, issuer)


def test_a_lost_mark_stops_signing_until_somebody_answers_for_the_database(
    tmp_path: Path, issuer: LocalIssuer, session: requests.Session
) -> None:
    service = production_service(tmp_path / "ca", issuers=issuer.issuer_file(), workers=1)
    mark = service.directory / "mark" / "high-water.json"
    with running(service):
        certificate = issued(service, session, issuer)
        assert stat.S_IMODE(mark.stat().st_mode) == 0o600
        mark.unlink()
        refused = ask(service, session, issuer)
        assert refused.status_code == 503
        assert refused.json()["details"][0]["reason"] == "mark-missing"
        assert ocsp_status(session, certificate) == ("TRY_LATER", None)
        assert service.cli("recover").returncode == 3
        service.admin("recover", "--accept-missing-mark", "--yes")
        issued(service, session, issuer)
        assert ocsp_status(session, certificate) == ("SUCCESSFUL", "GOOD")


def test_a_machine_lost_with_its_mark_gets_back_what_was_published(
    tmp_path: Path, issuer: LocalIssuer, session: requests.Session
) -> None:
    service = production_service(tmp_path / "ca", issuers=issuer.issuer_file(), workers=1)
    backup, mirror = tmp_path / "yesterday.db", tmp_path / "mirror"
    mirror.mkdir()
    with running(service):
        kept = issued(service, session, issuer)
        back_up(service, backup)
        forgotten = issued(service, session, issuer)
        for number, one in enumerate((kept, forgotten)):
            service.admin("revoke", "certificate", one.serial, "--reason", "keyCompromise")
            (mirror / f"{number}.crl").write_bytes(fetch_crl(session, one.leaf))
        (shard,) = (line.split()[0] for line in service.admin("log", "list").splitlines())
    put_back(backup, service)
    shutil.rmtree(service.directory / "mark")

    # Who says that the database is the newest has nothing to take back; that is not the case here.
    contradictory = service.cli("recover", "--accept-missing-mark", "--crl", mirror, "--yes")
    assert contradictory.returncode == 2
    assert not (service.directory / "mark").exists()
    did = service.cli("recover", "--crl", mirror, "--yes")
    assert did.returncode == 0, did.stdout + did.stderr
    assert "Revocations taken back: 2" in did.stdout
    assert f"Log shard closed: {shard}\n" in did.stdout
    assert "Everything agrees" in service.admin("fsck")

    with running(service):
        for one in (kept, forgotten):
            assert ocsp_status(session, one) == ("SUCCESSFUL", "REVOKED")
            now = x509.load_der_x509_crl(fetch_crl(session, one.leaf))
            assert all(number_of(now) > number_of(crl) for crl in published(mirror, one))
        # Its next index may have been given away: another shard goes on.
        assert log_id_of_sct(issued(service, session, issuer)) != log_id_of_sct(kept)


def test_a_relaxed_mark_follows_within_seconds(
    tmp_path: Path, issuer: LocalIssuer, session: requests.Session
) -> None:
    service = production_service(
        tmp_path / "ca",
        issuers=issuer.issuer_file(),
        workers=1,
        environ={"CASVC_HIGH_WATER_MARK__STRICT": "false"},
    )
    with running(service):
        issued(service, session, issuer)
        wait_until(lambda: sizes(service) == [1], 60, "the mark follows the log")
