"""`rotate authority`: the next key is made whole, published at once, used from its time on, and on record."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from ca_service.app import authority_rotation, build_service, material
from ca_service.app.authorities import AuthoritiesInForce, read_authorities
from ca_service.app.authority_rotation import AuthorityRotation
from ca_service.app.rollback import guard_of
from ca_service.authority.ports import Actor
from ca_service.cli import main
from ca_service.cli.checkup import examine
from ca_service.cli.findings import FAILED, WARNING, Finding
from ca_service.errors import ConfigurationError
from ca_service.keys.file import read_private_key, write_private_key
from ca_service.settings import Settings, load_settings
from ca_service.store.audit import SqlAudit
from ca_service.store.database import Database
from ca_service.vocabulary import TimestampMs, parse_time
from tests.unit.cli.conftest import Host

ACTOR = Actor("local:tester", "host", "0" * 32)


def rotate(host: Host, *options: str, environ: dict[str, str] | None = None) -> Result:
    root = options if "--root-key" in options else (*options, "--root-key", str(root_key(host)))
    arguments = ["rotate", "authority", "--config", str(host.folder / "ca.toml"), *root]
    return CliRunner().invoke(main, arguments, env=environ)


def rotated(host: Host, *options: str) -> dict[str, str]:
    done = rotate(host, "--json", *options)
    assert done.exit_code == 0, done.output
    facts: dict[str, str] = json.loads(done.stdout)
    return facts


def root_key(host: Host) -> Path:
    return host.folder / "offline/root.key"


def settings_of(host: Host) -> Settings:
    return load_settings(host.folder / "ca.toml", {})


def audited(settings: Settings) -> list[tuple[str, str]]:
    """Each audit record's action and authority key; the chain must hold."""
    database = Database(settings.database.url, folder=settings.folder)
    try:
        records = SqlAudit(database, lambda: TimestampMs(0))
        records.verify()
        return [(one.action, json.loads(one.detail).get("authority_key")) for one in records.records()]
    finally:
        database.close()


def test_the_next_authority_is_published_before_it_issues_and_the_first_keeps_its_place(host: Host) -> None:
    before = {path: path.read_bytes() for path in host.folder.glob("*/*") if path.suffix in (".pem", ".key")}
    facts = rotated(host)
    assert parse_time(facts["starts"]) - datetime.now(UTC) > timedelta(days=6, hours=23)
    assert {path: path.read_bytes() for path in before} == before, "nothing is overwritten"

    folder = Path(facts["folder"])
    assert folder.parent == host.folder / "private/authorities"
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()} == {
        "chain.pem": 0o600,
        "issuing.key": 0o600,
    }
    assert [folder.stat().st_mode & 0o777, folder.parent.stat().st_mode & 0o777] == [0o700, 0o700]
    first, following = read_authorities(settings_of(host), None)
    assert following.key_id == facts["authority_key"]
    assert following.certificate.subject != first.certificate.subject, (
        "a key of its own has a name of its own"
    )
    assert following.root == first.root
    assert following.certificate.not_valid_before_utc == parse_time(facts["starts"])

    fresh = build_service(settings_of(host))
    try:
        assert fresh.authority.key_id == first.key_id
        authorities = fresh.trust.trusted_root()["certificateAuthorities"]
        assert isinstance(authorities, list)
        assert [each["validFor"]["start"] for each in authorities][1] == facts["starts"]
        assert len(fresh.trust.chains()) == 2
        der = fresh.trust.certificate_der(facts["authority_key"])
        assert der is not None
        assert x509.load_der_x509_certificate(der) == following.certificate
    finally:
        fresh.close()
    assert audited(settings_of(host)) == [("prepare-authority", facts["authority_key"])]
    again = rotate(host)
    assert (again.exit_code, "is prepared and issues from" in again.output) == (1, True)


def test_a_running_service_finds_it_without_a_restart(host: Host) -> None:
    settings, now, ticks = settings_of(host), [0], [0.0]
    begins = int(datetime.now(UTC).timestamp()) + 3600
    in_force = AuthoritiesInForce(settings, None, lambda: TimestampMs(now[0] * 1000), lambda: ticks[0])
    facts = rotated(host, "--starts", datetime.fromtimestamp(begins, UTC).isoformat())
    now[0] = begins - 1
    assert len(in_force.current()) == 1, "it looks once a second, not with each request"
    ticks[0] += 1.5
    assert [each.key_id for each in in_force.current()][1:] == [facts["authority_key"]]
    assert in_force.issuing().key_id != facts["authority_key"]
    now[0] = begins
    assert in_force.issuing().key_id == facts["authority_key"]


def test_a_key_that_has_issued_is_not_forgotten_when_its_folder_disappears(host: Host) -> None:
    settings, now, ticks = settings_of(host), [0], [0.0]
    facts = rotated(host)
    in_force = AuthoritiesInForce(settings, None, lambda: TimestampMs(now[0] * 1000), lambda: ticks[0])
    now[0] = int(parse_time(facts["starts"]).timestamp())
    away = host.folder / "away"
    Path(facts["folder"]).rename(away)
    ticks[0] += 2
    assert len(in_force.current()) == 2
    with pytest.raises(ConfigurationError, match="is gone from"):
        in_force.check()
    away.rename(facts["folder"])
    ticks[0] += 2
    in_force.check()
    now[0] = 0
    Path(facts["folder"]).rename(away)
    ticks[0] += 2
    assert len(in_force.current()) == 1, "one that has not begun may be taken back"


@pytest.mark.parametrize("broken", ["no key", "open key", "another's chain", "another name"])
def test_a_folder_that_is_wrong_changes_nothing_and_is_named(host: Host, broken: str) -> None:
    settings, ticks = settings_of(host), [0.0]
    in_force = AuthoritiesInForce(settings, None, lambda: TimestampMs(0), lambda: ticks[0])
    folder = Path(rotated(host)["folder"])
    if broken == "no key":
        (folder / "issuing.key").unlink()
    elif broken == "open key":
        (folder / "issuing.key").chmod(0o644)
    elif broken == "another's chain":
        (folder / "chain.pem").write_bytes(settings.authority.certificates.read_bytes())
    else:
        folder = folder.rename(folder.with_name("0" * 40))
    ticks[0] += 2
    assert len(in_force.current()) == 1
    with pytest.raises(ConfigurationError, match="rotated_dir") as refused:
        in_force.check()
    assert str(folder) in refused.value.message
    with pytest.raises(ConfigurationError, match="rotated_dir"):
        build_service(settings)


class Interrupted(BaseException):
    """The process ends here."""


def _rotation(settings: Settings, database: Database) -> AuthorityRotation:
    return AuthorityRotation(settings, database, _now, ACTOR, guard_of(settings, database))


def _now() -> TimestampMs:
    return TimestampMs(int(datetime.now(UTC).timestamp() * 1000))


STEPS: dict[str, tuple[object, str, bool]] = {
    "before the key is written": (authority_rotation, "write_private_key", False),
    "after the key is written": (authority_rotation, "write_private_key", True),
    "before the chain is written": (authority_rotation, "write_file", False),
    "after the chain is written": (authority_rotation, "write_file", True),
    "before it is on record": (SqlAudit, "append", False),
    "after it is on record": (SqlAudit, "append", True),
    "before it appears": (Path, "rename", False),
    "after it appears": (Path, "rename", True),
}


@pytest.mark.parametrize("step", STEPS)
def test_an_interruption_at_any_step_leaves_the_old_or_the_new_and_the_command_goes_on(
    host: Host, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    settings = settings_of(host)
    (first,) = read_authorities(settings, None)
    owner, name, after = STEPS[step]
    real: Callable[..., object] = getattr(owner, name)

    def interrupted(*arguments: object, **options: object) -> object:
        if after:
            real(*arguments, **options)
        raise Interrupted

    database = Database(settings.database.url, folder=settings.folder)
    key = read_private_key(root_key(host), None)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, interrupted)
            with pytest.raises(Interrupted):
                _rotation(settings, database).prepare(key)
    finally:
        database.close()
    left = read_authorities(settings, None)
    assert left[0].key_id == first.key_id
    assert len(left) == (2 if step == "after it appears" else 1), "all of it, or nothing"

    again = rotate(host)
    assert again.exit_code == (1 if step == "after it appears" else 0), again.output
    _, following = read_authorities(settings, None)
    assert audited(settings)[-1] == ("prepare-authority", following.key_id), "what is in force is on record"
    assert [path.name for path in (host.folder / "private/authorities").iterdir()] == [following.key_id]
    discarded = [key for action, key in audited(settings) if action == "discard-authority"]
    assert following.key_id not in discarded
    for action, prepared in audited(settings)[:-1]:
        assert action == "discard-authority" or prepared in discarded


def test_the_root_key_may_have_a_passphrase_of_its_own_and_must_be_the_root_s(
    host: Host, tmp_path: Path
) -> None:
    real = read_private_key(root_key(host), None)
    assert isinstance(real, ec.EllipticCurvePrivateKey)
    secret = BestAvailableEncryption(b"the root's own")
    sealed = tmp_path / "root.key"
    sealed.write_bytes(real.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret))
    sealed.chmod(0o600)
    unopened = rotate(host, "--root-key", str(sealed))
    assert unopened.exit_code == 2
    assert "CASVC_ROOT_PASSPHRASE" in unopened.output
    by_environment = rotate(
        host, "--root-key", str(sealed), environ={"CASVC_ROOT_PASSPHRASE": "the root's own"}
    )
    assert by_environment.exit_code == 0, by_environment.output
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("the root's own\n")
    passphrase.chmod(0o600)
    options = ("--root-key", str(sealed), "--root-passphrase-file", str(passphrase), "--now")
    assert rotate(host, *options).exit_code == 0

    stranger = tmp_path / "stranger.key"
    write_private_key(stranger, ec.generate_private_key(ec.SECP256R1()), None)
    refused = rotate(host, "--root-key", str(stranger), "--now")
    assert refused.exit_code == 2
    assert "is of the key" in refused.output
    past = rotate(host, "--starts", "2020-01-01")
    assert (past.exit_code, "now or later" in past.output) == (2, True)
    assert rotate(host, "--now", "--starts", "2030-01-01").exit_code == 2


def test_the_new_key_is_encrypted_as_the_others_are(host: Host) -> None:
    settings = load_settings(host.folder / "ca.toml", {"CASVC_KEYS__PASSPHRASE": "a passphrase"})
    database = Database(settings.database.url, folder=settings.folder)
    try:
        made = _rotation(settings, database).prepare(read_private_key(root_key(host), None), None, "p384")
    finally:
        database.close()
    assert b"ENCRYPTED" in (made.folder / "issuing.key").read_bytes()
    assert len(read_authorities(settings, material.passphrase(settings))) == 2
    public_key = made.authority.certificate.public_key()
    assert isinstance(public_key, ec.EllipticCurvePublicKey)
    assert public_key.curve.name == "secp384r1"


def test_doctor_warns_ninety_days_before_the_end_until_the_next_is_prepared(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(host)
    (first,) = read_authorities(settings, None)

    def found(days_left: float) -> list[Finding]:
        class Then(datetime):
            @classmethod
            def now(cls, tz: object = None) -> "Then":
                moment = first.issues_until - timedelta(days=days_left)
                return cls.fromtimestamp(moment.timestamp(), UTC)

        with monkeypatch.context() as patched:
            patched.setattr("ca_service.cli.checkup.datetime", Then)
            return [one for one in examine(settings, ask_issuers=False) if one.check == "issuing certificate"]

    assert {one.verdict for one in found(91)} == {"good"}
    (warned,) = found(89)
    assert (warned.verdict, "ca-service rotate authority" in warned.detail) == (WARNING, True)
    assert [one.verdict for one in found(-1)] == [FAILED]
    facts = rotated(host, "--starts", (first.issues_until - timedelta(days=30)).isoformat())
    prepared = found(89)
    assert {one.verdict for one in prepared} == {"good"}
    assert any(facts["authority_key"] in one.detail and "prepared" in one.detail for one in prepared)
