"""Find, revoke and status on one host: what is revoked is shown so, and only signed answers are believed."""

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import select

from ca_service.cli import fetching, revocation_check, verdicts
from ca_service.errors import StatusUnanswered
from ca_service.pki.keys import spki_der
from ca_service.store.database import Database
from ca_service.store.schema import audit
from tests.unit.cli.conftest import URL, Host, run


def bundle(certificate: x509.Certificate) -> str:
    raw = base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()
    return json.dumps({"mediaType": "x", "verificationMaterial": {"certificate": {"rawBytes": raw}}})


def test_a_certificate_is_good_until_it_is_revoked_and_then_never_again(host: Host) -> None:
    good = run("status", host.leaf_file, "--config", host.config)
    assert good.exit_code == 0, good.output
    assert good.stdout.startswith(f"{host.serial}: good")
    revoked = run(
        "revoke",
        "certificate",
        host.leaf_file,
        "--config",
        host.config,
        "--reason",
        "KEYcompromise",
        "--json",
    )
    assert revoked.exit_code == 0, revoked.output
    stands = json.loads(revoked.stdout)
    assert (stands["serial"], stands["reason"]) == (host.serial, "keyCompromise")
    not_before = host.leaf.not_valid_before_utc.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert stands["revocation_date"] == not_before
    after = run("status", host.leaf_file, "--config", host.config, "--json")
    assert after.exit_code == 1
    answer = json.loads(after.stdout)
    assert (answer["status"], answer["source"]) == ("revoked", "ocsp")
    assert (answer["reason"], answer["revocation_date"]) == ("keyCompromise", not_before)
    assert answer["remarks"] == []


@pytest.mark.parametrize("form", ["upper", "colons", "der", "bundle", "stdin"])
def test_a_certificate_is_named_by_serial_or_file_in_any_form(host: Host, tmp_path: Path, form: str) -> None:
    stdin = None
    subject = str(tmp_path / form)
    if form == "upper":
        subject = host.serial.upper()
    elif form == "colons":
        subject = ":".join(host.serial[i : i + 2] for i in range(0, len(host.serial), 2))
    elif form == "der":
        Path(subject).write_bytes(host.leaf.public_bytes(Encoding.DER))
    elif form == "bundle":
        Path(subject).write_text(bundle(host.leaf))
    else:
        subject, stdin = "-", host.leaf_file.read_bytes()
    assert run("status", subject, "--config", host.config, stdin=stdin).exit_code == 0
    assert run("revoke", "certificate", subject, "--config", host.config, stdin=stdin).exit_code == 0
    assert run("status", subject, "--config", host.config, stdin=stdin).exit_code == 1


def test_status_falls_back_to_the_crl_when_ocsp_gives_no_answer(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = fetching.fetch

    def without_ocsp(url: str, body: bytes | None = None, content_type: str | None = None) -> bytes:
        if body is not None:
            raise ValueError("it answered 503")
        return answered(url, body, content_type)

    monkeypatch.setattr(fetching, "fetch", without_ocsp)
    good = run("status", host.leaf_file, "--config", host.config)
    assert good.exit_code == 0
    assert "CRL of" in good.stdout
    assert "it answered 503" in good.stderr
    run("revoke", "certificate", host.serial, "--config", host.config, "--reason", "superseded")
    revoked = run("status", host.leaf_file, "--config", host.config)
    assert revoked.exit_code == 1
    assert "superseded" in revoked.stdout


@pytest.mark.parametrize("place", [100, -1])
def test_nobody_is_believed_who_is_not_the_authority(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    other = tmp_path / "other"
    assert run("init", "--dir", other, "--url", URL).exit_code == 0
    foreign = run("status", host.leaf_file, "--config", other)
    assert foreign.exit_code == 1
    assert "not issued by this authority" in foreign.stderr
    answered = fetching.fetch

    def altered(url: str, body: bytes | None = None, content_type: str | None = None) -> bytes:
        answer = bytearray(answered(url, body, content_type))
        # 100 is of what is signed, in an OCSP answer as in a CRL; the last octet of the enclosed certificate.
        answer[place] ^= 1
        return bytes(answer)

    monkeypatch.setattr(fetching, "fetch", altered)
    refused = run("status", host.leaf_file, "--config", host.config)
    assert refused.exit_code == 3
    assert "no trustworthy answer" in refused.stderr


def test_an_old_answer_is_not_believed(host: Host) -> None:
    issuer = host.service.authority.certificate
    question = revocation_check.question_of(host.leaf, issuer)
    later = datetime.now(UTC) + timedelta(days=400)
    with pytest.raises(StatusUnanswered, match="out of date"):
        revocation_check.ask(question, later)
    with pytest.raises(StatusUnanswered, match="from the future"):
        revocation_check.ask(question, datetime.now(UTC) - timedelta(hours=1))


def test_a_list_of_another_shard_proves_nothing(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    answered = fetching.fetch
    (shard,) = [crl.url for crl in host.service.publication.index() if "root" not in crl.url]

    def moved(url: str, body: bytes | None = None, content_type: str | None = None) -> bytes:
        if body is not None:
            raise ValueError("it answered 503")
        return answered(shard, None, None)

    monkeypatch.setattr(fetching, "fetch", moved)
    question = revocation_check.question_of(host.leaf, host.service.authority.certificate)
    elsewhere = verdicts.Question(question.serial, question.issuer, None, shard + "x")
    with pytest.raises(StatusUnanswered, match="for other certificates"):
        revocation_check.ask(elsewhere, datetime.now(UTC))


def test_an_unknown_serial_is_unknown_and_cannot_be_revoked(host: Host) -> None:
    unknown = run("status", "0102", "--config", host.config)
    assert unknown.exit_code == 1
    assert "0102: unknown" in unknown.stdout
    refused = run("revoke", "certificate", "0102", "--config", host.config)
    assert refused.exit_code == 1
    assert "0102" in refused.stderr
    assert run("status", "no-such-file.pem", "--config", host.config).exit_code == 2
    assert run("status", "xyz", "--config", host.config).exit_code == 2


def test_a_date_in_the_future_is_refused_and_one_before_issue_becomes_not_before(host: Host) -> None:
    future = run(
        "revoke", "certificate", host.serial, "--config", host.config, "--revocation-date", "2099-01-01"
    )
    assert future.exit_code == 2
    assert "future" in future.stderr
    nonsense = run("revoke", "certificate", host.serial, "--config", host.config, "--revocation-date", "soon")
    assert nonsense.exit_code == 2
    early = run(
        "revoke",
        "certificate",
        host.serial,
        "--config",
        host.config,
        "--revocation-date",
        "2020-01-01",
        "--json",
    )
    expected = host.leaf.not_valid_before_utc.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert json.loads(early.stdout)["revocation_date"] == expected


def test_find_selects_and_prints_what_other_commands_accept(host: Host) -> None:
    key = hashes.Hash(hashes.SHA256())
    spki = host.leaf.public_key()
    key.update(spki_der(spki))
    key_sha256 = key.finalize().hex()
    today = host.leaf.not_valid_before_utc
    for selector in (
        ("--identity", "ADA@example.com"),
        ("--identity", "*@example.com"),
        ("--issuer", f"{URL}/dev-idp"),
        ("--key-sha256", key_sha256),
        ("--log-index", f"{host.service.settings.log.shard}:0"),
        ("--serial", host.serial.upper()),
        (
            "--since",
            (today - timedelta(days=1)).isoformat(),
            "--until",
            (today + timedelta(days=1)).isoformat(),
        ),
    ):
        found = run("find", "--config", host.config, "--json", *selector)
        assert found.exit_code == 0, (selector, found.output)
        (row,) = json.loads(found.stdout)
        assert (row["serial"], row["key_sha256"]) == (host.serial, key_sha256)
    nothing = run("find", "--config", host.config, "--identity", "eve@example.com", "--json")
    assert (nothing.exit_code, json.loads(nothing.stdout)) == (1, [])
    assert run("find", "--config", host.config).exit_code == 2
    assert run("find", "--config", host.config, "--since", "yesterday").exit_code == 2
    table = run("find", "--config", host.config, "--serial", host.serial)
    assert host.serial in table.stdout
    assert "ada@example.com" in table.stdout


def test_a_database_that_cannot_be_asked_is_exit_code_3_or_a_fault_of_settings(host: Host) -> None:
    host.service.close()
    database = host.folder / "state/ca.db"
    database.unlink()
    gone = run("find", "--config", host.config, "--serial", host.serial)
    assert gone.exit_code == 2
    assert "ca-service init" in gone.stderr
    database.write_bytes(b"not a database, but long enough to be looked at" * 100)
    broken = run("find", "--config", host.config, "--serial", host.serial)
    assert broken.exit_code == 3
    assert "Traceback" not in broken.stderr


def test_revoking_is_recorded_with_the_local_user(host: Host) -> None:
    run("revoke", "certificate", host.serial, "--config", host.config, "--comment", "ticket 4711")
    database = Database("sqlite:///state/ca.db", folder=host.folder)
    with database.reading() as connection:
        rows = connection.execute(select(audit)).all()
    database.close()
    assert any("local:" in str(row) and "ticket 4711" in str(row) for row in rows)
