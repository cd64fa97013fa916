"""Delegates of the issuing key: made once for all processes, renewed in time, theirs alone."""

import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from ca_service.app.ocsp_delegates import OcspDelegates
from ca_service.errors import SignerUnavailable
from ca_service.files.turns import turn
from ca_service.pki.keys import spki_der
from ca_service.vocabulary import TimestampMs
from tests.support.pki import NOW, authority

DAY = timedelta(days=1)


class Clock:
    """Stands where a test puts it."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> TimestampMs:
        return TimestampMs(int(self.now.timestamp()) * 1000)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_delegate_is_what_the_standards_ask_for(tmp_path: Path, clock: Clock) -> None:
    by = authority()
    certificate = OcspDelegates(tmp_path, None, clock).signer(by).certificate
    certificate.verify_directly_issued_by(by.certificate)
    kinds = {type(each.value) for each in certificate.extensions}
    assert x509.OCSPNoCheck in kinds
    assert not kinds & {x509.AuthorityInformationAccess, x509.CRLDistributionPoints}
    usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.OCSP_SIGNING]
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert life <= 14 * DAY
    assert certificate.not_valid_before_utc < NOW < certificate.not_valid_after_utc


def test_no_delegate_outlives_its_authority(tmp_path: Path, clock: Clock) -> None:
    by = authority()
    clock.now = by.not_after - DAY
    delegates = OcspDelegates(tmp_path, None, clock)
    assert delegates.signer(by).not_after == by.not_after
    clock.now = by.not_after
    with pytest.raises(SignerUnavailable, match="has ended"):
        delegates.signer(by)


@pytest.mark.parametrize("secret", [None, b"a passphrase"])
def test_its_file_is_for_the_service_alone_and_encrypted_as_other_keys(
    tmp_path: Path, clock: Clock, secret: bytes | None
) -> None:
    folder = tmp_path / "state" / "deep"
    delegates = OcspDelegates(folder, secret, clock)
    signer = delegates.signer(authority())
    file = delegates.path(authority())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert (b"ENCRYPTED" in file.read_bytes()) is (secret is not None)
    key = load_pem_private_key(file.read_bytes(), secret)
    assert spki_der(key.public_key()) == spki_der(signer.certificate.public_key())
    assert OcspDelegates(folder, secret, clock).signer(authority()).certificate == signer.certificate


def test_processes_that_need_the_first_one_at_once_make_one(tmp_path: Path, clock: Clock) -> None:
    processes = [OcspDelegates(tmp_path, None, clock) for _ in range(6)]
    with ThreadPoolExecutor(len(processes)) as pool:
        certificates = list(pool.map(lambda one: one.signer(authority()).certificate, processes))
    assert len(set(certificates)) == 1


def test_it_is_renewed_once_at_half_its_life_and_every_process_uses_the_new_one(
    tmp_path: Path, clock: Clock
) -> None:
    by = authority()
    processes = [OcspDelegates(tmp_path, None, clock) for _ in range(4)]
    (first,) = {each.signer(by).certificate for each in processes}
    clock.now = NOW + 6 * DAY
    assert [each.renew([by]) for each in processes] == [0, 0, 0, 0]
    clock.now = NOW + 7 * DAY
    with ThreadPoolExecutor(len(processes)) as pool:
        list(pool.map(lambda one: one.renew([by]), processes))
    (second,) = {each.signer(by).certificate for each in processes}
    assert second != first
    assert second.public_key() != first.public_key(), "a new key with each certificate"
    assert [each.renew([by]) for each in processes] == [0, 0, 0, 0]
    assert second.not_valid_after_utc > NOW + 20 * DAY


def test_the_old_one_signs_on_while_another_process_makes_the_next(tmp_path: Path, clock: Clock) -> None:
    by = authority()
    delegates = OcspDelegates(tmp_path, None, clock)
    first = delegates.signer(by)
    clock.now = NOW + 8 * DAY
    with turn(delegates.path(by).with_suffix(".lock")) as mine:
        assert mine
        assert delegates.renew([by]) == 0
        assert delegates.signer(by) is first


@pytest.mark.parametrize("moment", [NOW + 14 * DAY, NOW - 2 * DAY])
def test_out_of_its_time_it_never_signs(tmp_path: Path, clock: Clock, moment: datetime) -> None:
    delegates = OcspDelegates(tmp_path, None, clock)
    first = delegates.signer(authority())
    clock.now = moment
    assert delegates.signer(authority()).certificate != first.certificate


@pytest.mark.parametrize(
    "damage", ["cut", "another authority's", "another key's", "open to all", "passphrase"]
)
def test_a_file_that_is_no_delegate_of_this_key_is_replaced(
    tmp_path: Path, clock: Clock, damage: str
) -> None:
    by = authority()
    delegates = OcspDelegates(tmp_path, b"secret" if damage == "passphrase" else None, clock)
    file = delegates.path(by)
    first = delegates.signer(by).certificate
    others = OcspDelegates(tmp_path / "other", None, clock)
    others.signer(authority(name="Other"))
    content = file.read_bytes()
    if damage == "cut":
        file.write_bytes(content[:300])
    elif damage == "another authority's":
        file.write_bytes(others.path(authority(name="Other")).read_bytes())
    elif damage == "another key's":
        others.signer(by)
        strange = others.path(by).read_bytes().split(b"-----BEGIN CERT")[0]
        file.write_bytes(strange + b"-----BEGIN CERT" + content.split(b"-----BEGIN CERT")[1])
    elif damage == "open to all":
        file.chmod(0o644)
    else:
        delegates = OcspDelegates(tmp_path, b"another", clock)
    fresh = OcspDelegates(tmp_path, None, clock) if damage != "passphrase" else delegates
    signer = fresh.signer(by)
    assert signer.certificate != first
    signer.certificate.verify_directly_issued_by(by.certificate)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_where_nothing_can_be_written_there_is_no_signer(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SignerUnavailable, match="cannot be"):
        OcspDelegates(tmp_path / "file" / "folder", None, clock).signer(authority())
