"""The root's CRL: renewed with the root key alone, never backwards, and served without a restart."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from ca_service.cli.founding import Plan, found
from ca_service.keys.file import private_key_pem
from ca_service.pki.crl import verify_crl
from ca_service.settings import load_settings
from tests.unit.cli.conftest import URL, Host, run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found(tmp_path / "authority", Plan(URL, URL))
    return tmp_path / "authority"


def sign(folder: Path, *more: str | Path) -> dict[str, object]:
    done = run("root-crl", "--config", folder, "--root-key", folder / "offline/root.key", "--json", *more)
    assert done.exit_code == 0, done.output
    facts: dict[str, object] = json.loads(done.stdout)
    return facts


def crl_of(path: Path) -> x509.CertificateRevocationList:
    return x509.load_der_x509_crl(path.read_bytes())


def number_of(crl: x509.CertificateRevocationList) -> int:
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def chain_of(folder: Path) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates((folder / "authority/chain.pem").read_bytes())


def test_each_list_has_a_higher_number_and_a_year_to_go(folder: Path) -> None:
    file = folder / "authority/root.crl"
    assert number_of(crl_of(file)) == 1, "made by init"
    assert sign(folder)["number"] == 2
    facts = sign(folder)
    assert facts["number"] == 3
    crl = verify_crl(file.read_bytes(), chain_of(folder)[-1])
    assert number_of(crl) == 3
    assert crl.next_update_utc is not None
    assert crl.next_update_utc - crl.last_update_utc == timedelta(days=365)
    assert list(crl) == []


def test_signed_elsewhere_it_counts_on_from_what_lies_there(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "root.crl"
    assert sign(folder, "--out", out)["number"] == 2
    assert sign(folder, "--out", out)["number"] == 3, "the first may be on its way already"
    assert number_of(crl_of(folder / "authority/root.crl")) == 1


def test_a_revoked_issuing_certificate_stays_on_every_later_list(folder: Path, tmp_path: Path) -> None:
    issuing = chain_of(folder)[0]
    (tmp_path / "issuing.pem").write_bytes(issuing.public_bytes(Encoding.PEM))
    date = issuing.not_valid_before_utc
    facts = sign(
        *(folder, "--revoke", tmp_path / "issuing.pem", "--reason", "superseded"),
        *("--revocation-date", date.isoformat()),
    )
    assert facts["revoked"] == 1
    sign(folder)
    crl = crl_of(folder / "authority/root.crl")
    (entry,) = crl
    assert (entry.serial_number, entry.revocation_date_utc) == (issuing.serial_number, date)
    assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.value == "superseded"


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (("--root-key", "{folder}/private/issuing.key"), "the root key given is"),
        (("--number", "1"), "not higher than"),
        (("--revoke", "{folder}/authority/stranger.pem"), "no certificate that this root issued"),
        (("--revoke", "{folder}/authority/root.pem"), "a root cannot"),
        (("--revocation-date", "2099-01-01", "--revoke", "{folder}/authority/chain.pem"), "future"),
    ],
)
def test_what_would_be_wrong_changes_nothing(
    folder: Path, tmp_path: Path, more: tuple[str, ...], sentence: str
) -> None:
    found(tmp_path / "stranger", Plan(URL, URL))
    stranger = chain_of(tmp_path / "stranger")[0]
    (folder / "authority/stranger.pem").write_bytes(stranger.public_bytes(Encoding.PEM))
    (folder / "authority/root.pem").write_bytes(chain_of(folder)[-1].public_bytes(Encoding.PEM))
    before = (folder / "authority/root.crl").read_bytes()
    given = [each.format(folder=folder) for each in more]
    done = run("root-crl", "--config", folder, "--root-key", folder / "offline/root.key", *given)
    assert done.exit_code == 2, done.output
    assert sentence in done.stderr
    assert (folder / "authority/root.crl").read_bytes() == before


def test_a_lost_list_needs_a_number_that_a_person_answers_for(folder: Path) -> None:
    (folder / "authority/root.crl").unlink()
    done = run("root-crl", "--config", folder, "--root-key", folder / "offline/root.key")
    assert done.exit_code == 2
    assert "root.crl cannot be read" in done.stderr
    assert sign(folder, "--number", "17")["number"] == 17


def test_the_root_key_is_opened_by_its_own_passphrase(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder / "offline/root.key"
    key = load_pem_private_key(file.read_bytes(), None)
    file.write_bytes(private_key_pem(key, b"of the root"))  # type: ignore[arg-type]  # an EC key, as init makes it
    assert run("root-crl", "--config", folder, "--root-key", file).exit_code == 2
    secret = tmp_path / "passphrase"
    secret.write_text("of the root\n")
    secret.chmod(0o600)
    assert sign(folder, "--root-passphrase-file", secret)["number"] == 2
    monkeypatch.setenv("CASVC_ROOT_PASSPHRASE", "of the root")
    assert sign(folder)["number"] == 3


def test_a_running_service_serves_the_next_list_and_never_an_older_or_broken_one(host: Host) -> None:
    file = host.folder / "authority/root.crl"
    first = file.read_bytes()
    (listed,) = [each for each in host.service.publication.index() if each.url.endswith("/root.crl")]
    key = listed.url.rsplit("/", 2)[1]

    def served() -> bytes:
        published = host.service.publication.crl(key, "root")
        assert published is not None
        return published.der

    assert served() == first
    sign(host.folder)
    second = file.read_bytes()
    assert served() == second != first
    (listed,) = [each for each in host.service.publication.index() if each.url.endswith("/root.crl")]
    assert listed.number == 2
    for wrong in (first, second[:100], b""):
        file.write_bytes(wrong)
        assert served() == second
    file.unlink()
    assert served() == second
    file.write_bytes(second)
    assert sign(host.folder)["number"] == 3
    assert served() == file.read_bytes() != second


@pytest.mark.parametrize(("days", "verdict"), [(90, "good"), (59, "warning")])
def test_doctor_says_in_time_that_it_runs_out(folder: Path, days: int, verdict: str) -> None:
    sign(folder, "--days", str(days))
    report = json.loads(run("doctor", "--config", folder, "--offline", "--json").stdout)
    (found_it,) = [one for one in report["checks"] if one["check"] == "root CRL"]
    assert found_it["verdict"] == verdict, found_it
    assert ("root-crl" in found_it["detail"]) is (verdict == "warning")


def test_doctor_tells_how_long_the_delegate_signs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ca_service.app.authorities import read_authorities
    from ca_service.app.ocsp_delegates import OcspDelegates
    from ca_service.cli.host import clock

    monkeypatch.setenv("CASVC_OCSP__SIGNER", "delegated")

    def said() -> str:
        report = json.loads(run("doctor", "--config", folder, "--offline", "--json").stdout)
        (found_it,) = [one for one in report["checks"] if one["check"] == "OCSP responder"]
        assert found_it["verdict"] == "good", found_it
        return str(found_it["detail"])

    assert "made when it is first needed" in said()
    authorities = read_authorities(load_settings(folder / "ca.toml", {}), None)
    signer = OcspDelegates(folder / "state", None, clock).signer(authorities.issuing(clock() // 1000))
    assert f"{signer.not_after:%Y-%m-%dT%H:%M:%SZ}" in said()
    assert signer.not_after > datetime.now(UTC) + timedelta(days=13)
