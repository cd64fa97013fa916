"""Certificates of two, nine and twelve years ago, judged by today's openssl at today's time.

The keys that issued them issue no more, and still sign what is said about them.
"""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from pyhanko_certvalidator.errors import InsufficientRevinfoError, PathValidationError, RevokedError
from sigstore.models import TrustedRoot

from ca_service.authority.issuance import shard_name
from ca_service.cli import fetching
from ca_service.pki.authority_certificates import years_later
from ca_service.pki.keys import key_id
from tests.conformance.conftest import CASES, ISSUED, NOT_TRUSTED_AFTER, TAKES_OVER, Life
from tests.conformance.test_pki_pkilint import lint
from tests.conformance.test_pyhanko import judge
from tests.support.verifier import ca_issuers_url, crl_url, openssl, read_ocsp_answer

_DER = Encoding.DER
TEN_YEARS, SECOND = timedelta(days=3652), timedelta(seconds=1)


def verify(folder: Path, *options: str, crls: tuple[str, ...] = ("shard.crl", "root.crl"), code: int) -> str:
    named = [argument for name in crls for argument in ("-CRLfile", name)]
    return openssl(
        *("verify", "-x509_strict", "-extended_crl", "-crl_check_all", *options),
        *("-CAfile", "root.pem", "-untrusted", "issuing.pem", *named, "leaf.pem"),
        folder=folder,
        code=code,
    )


@pytest.mark.parametrize("case", CASES)
def test_openssl_accepts_todays_list_of_every_years_shard(life: Life, case: str) -> None:
    folder = life.evidence[case]
    if case.endswith("good"):
        assert "leaf.pem: OK" in verify(folder, "-no_check_time", code=0)
    else:
        assert "certificate revoked" in verify(folder, "-no_check_time", code=2)
    # Without checks of time, nobody has looked at the list's own: it is of today.
    crl = x509.load_der_x509_crl((folder / "shard.crl").read_bytes())
    assert crl.next_update_utc is not None
    assert crl.last_update_utc <= datetime.now(UTC) < crl.next_update_utc
    expired = crl.extensions.get_extension_for_oid(x509.ObjectIdentifier("2.5.29.60")).value
    assert isinstance(expired, x509.UnrecognizedExtension)
    written = datetime.strptime(expired.value[2:].decode(), "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
    assert written <= life.issued[case].leaf.not_valid_after_utc, "it tells that the expired stay listed"


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("answer_of", ["answer", "delegated"])
def test_openssl_accepts_todays_answer_about_every_year(life: Life, case: str, answer_of: str) -> None:
    folder, leaf = life.evidence[case], life.issued[case].leaf
    digest = "sha256" if answer_of == "answer" else "sha1"
    text = openssl(
        *("ocsp", "-issuer", "issuing.pem", f"-{digest}", "-cert", "leaf.pem", "-no_nonce"),
        *("-respin", f"{answer_of}.der", "-CAfile", "root.pem"),
        folder=folder,
    )
    answer = read_ocsp_answer(text, "leaf.pem")
    assert "Status times invalid" not in text
    if case.endswith("good"):
        assert answer.status == "good"
    else:
        date = leaf.not_valid_before_utc + (timedelta(0) if case.endswith("before") else NOT_TRUSTED_AFTER)
        assert answer.status == "revoked"
        assert answer.date
        assert datetime.strptime(answer.date, "%b %d %H:%M:%S %Y %Z").replace(tzinfo=UTC) == date
    parsed = ocsp.load_der_ocsp_response((folder / f"{answer_of}.der").read_bytes())
    (cutoff,) = [each.value for each in parsed.single_extensions if each.oid.dotted_string.endswith("48.1.6")]
    # The extension's DER: GeneralizedTime, ten years before the answer or more (RFC 6960 §4.4.4).
    found = re.search(rb"(\d{14})Z", cutoff.public_bytes())
    assert found
    written = datetime.strptime(found[1].decode(), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    assert parsed.produced_at_utc - written >= TEN_YEARS
    assert written <= leaf.not_valid_after_utc, "that it is good is said of a certificate still known"


def test_the_first_intermediate_is_past_its_issuing_period_and_still_valid(life: Life) -> None:
    folder = life.evidence["twelve-years-good"]
    issuing = life.issued["twelve-years-good"].issuing
    assert years_later(issuing.not_valid_before_utc, 3) < datetime.now(UTC) < issuing.not_valid_after_utc
    assert life.past.service.authority.certificate != issuing
    # At the present time, with the times of the root's list checked.
    openssl(
        *("verify", "-x509_strict", "-crl_check", "-CAfile", "root.pem", "-CRLfile", "root.crl"),
        "issuing.pem",
        folder=folder,
    )


@pytest.mark.parametrize("case", CASES)
def test_pyhanko_compares_the_date_with_the_moment_of_signing(life: Life, case: str) -> None:
    issued, folder = life.issued[case], life.evidence[case]
    crls = [(folder / name).read_bytes() for name in ("shard.crl", "root.crl")]
    answer = (folder / "answer-sha1.der").read_bytes()
    signed, later = life.signed(case), issued.leaf.not_valid_before_utc + NOT_TRUSTED_AFTER + SECOND
    if case.endswith("before"):
        with pytest.raises(RevokedError):
            judge(issued, crls=crls, ocsps=[], moment=signed)
    else:
        judge(issued, crls=crls, ocsps=[], moment=signed)
    # From an answer alone it draws conclusions only when the date is not after the moment.
    for given, ocsps in ((crls, []), (crls[1:], [answer])):
        if case.endswith("good"):
            judge(issued, crls=given, ocsps=ocsps, moment=later)
        else:
            with pytest.raises(RevokedError):
                judge(issued, crls=given, ocsps=ocsps, moment=later)


@pytest.mark.parametrize("case", [case for case in CASES if not case.startswith("today")])
def test_pyhanko_does_not_believe_a_delegate_that_is_younger_than_the_moment(life: Life, case: str) -> None:
    """A known deviation, for which the issuing key signs unless told otherwise."""
    folder = life.evidence[case]
    evidence = {
        "crls": [(folder / "root.crl").read_bytes()],
        "ocsps": [(folder / "delegated.der").read_bytes()],
    }
    with pytest.raises((InsufficientRevinfoError, PathValidationError)) as refused:
        judge(life.issued[case], **evidence, moment=life.signed(case))
    assert not isinstance(refused.value, RevokedError)


@pytest.mark.parametrize("case", CASES)
def test_pkilint_finds_nothing_in_what_all_the_keys_signed(life: Life, case: str) -> None:
    folder = life.evidence[case]
    for certificate in life.issued[case].chain:
        lint("certificate", certificate.public_bytes(_DER))
    for name in ("shard", "other", "root"):
        lint("crl", (folder / f"{name}.crl").read_bytes())
    for name in ("answer", "answer-sha1", "delegated"):
        lint("ocsp", (folder / f"{name}.der").read_bytes())


def test_openssl_at_the_time_of_signing_refuses_a_younger_list(life: Life) -> None:
    """A known deviation: for openssl a list says nothing about the time before it was made."""
    moment = str(int(life.signed("two-years-good").timestamp()))
    refusal = verify(life.evidence["two-years-good"], "-attime", moment, code=2)
    assert "CRL is not yet valid" in refusal


def test_openssl_says_revoked_for_what_was_signed_before_the_date_too(life: Life) -> None:
    """A known deviation: to be listed is enough for openssl, whatever the date."""
    entry = x509.load_der_x509_crl((life.evidence["two-years-after"] / "shard.crl").read_bytes())
    listed = entry.get_revoked_certificate_by_serial_number(life.issued["two-years-after"].leaf.serial_number)
    assert listed is not None
    assert life.signed("two-years-after") < listed.revocation_date_utc
    assert "certificate revoked" in verify(life.evidence["two-years-after"], "-no_check_time", code=2)


def test_each_key_has_its_own_name_lists_and_addresses_and_the_old_ones_are_served(life: Life) -> None:
    past = life.past
    issuing = {year: life.issued[f"{year}-good"].issuing for year in ISSUED}
    assert len({certificate.subject for certificate in issuing.values()}) == len(ISSUED)
    assert len({certificate.issuer for certificate in issuing.values()}) == 1
    for year, certificate in issuing.items():
        leaf = life.issued[f"{year}-good"].leaf
        assert past.get(ca_issuers_url(leaf)) == certificate.public_bytes(_DER)
        name = shard_name(int(leaf.not_valid_before_utc.timestamp()), leaf.serial_number, 16)
        assert crl_url(leaf).endswith(f"/crl/{key_id(certificate.public_key())}/{name}.crl")
    roots = past.json(f"/ctlog/{past.service.settings.log.shard}/ct/v1/get-roots")
    assert len(roots["certificates"]) == 1, "one root for all"


def test_the_list_of_one_key_proves_nothing_about_the_certificates_of_another(
    life: Life, tmp_path: Path
) -> None:
    mine, other = life.evidence["two-years-good"], life.evidence["nine-years-good"]
    for name in ("leaf.pem", "issuing.pem", "root.pem", "root.crl"):
        (tmp_path / name).write_bytes((mine / name).read_bytes())
    (tmp_path / "shard.crl").write_bytes((other / "shard.crl").read_bytes())
    assert "unable to get certificate CRL" in verify(tmp_path, "-no_check_time", code=2)


def test_stock_clients_take_every_intermediate_from_trusted_root_and_one_to_come_when_it_has(
    life: Life, tmp_path: Path
) -> None:
    past = life.past
    document = past.json("/trust/trusted_root.json")
    file = tmp_path / "trusted_root.json"
    file.write_text(json.dumps(document))
    theirs = {certificate.subject for certificate in TrustedRoot.from_file(str(file)).get_fulcio_certs()}
    assert {life.issued[case].issuing.subject for case in CASES} < theirs
    assert len(theirs) == len(TAKES_OVER) + 2, "every issuing certificate, and the root"

    chain = document["certificateAuthorities"][0]
    for ahead, known in ((timedelta(days=-1), True), (timedelta(days=1), False)):
        start = (datetime.now(UTC) + ahead).strftime("%Y-%m-%dT%H:%M:%SZ")
        changed = {**document, "certificateAuthorities": [{**chain, "validFor": {"start": start}}]}
        file.write_text(json.dumps(changed))
        if known:
            assert TrustedRoot.from_file(str(file)).get_fulcio_certs()
        else:
            with pytest.raises(Exception, match="Fulcio certificates not found"):
                TrustedRoot.from_file(str(file)).get_fulcio_certs()


def test_our_own_status_and_trust_files_know_every_key(
    life: Life, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = life.past.client

    def fetch(url: str, body: bytes | None = None, content_type: str | None = None) -> bytes:
        return life.past.get(url) if body is None else life.past.post(url, body, str(content_type))

    monkeypatch.setattr(fetching, "fetch", fetch)
    for case in CASES:
        for subject in (life.issued[case].serial, str(life.evidence[case] / "leaf.pem")):
            said = json.loads(life.past.cli("status", subject, "--json", codes=(0, 1)))
            assert said["status"] == ("good" if case.endswith("good") else "revoked")
            assert said["remarks"] == []
    unknown = life.past.cli("status", "5b0d3d3c1a0f4e5d9c8b7a69584736251403f2e1", "--json", codes=(1,))
    assert json.loads(unknown)["status"] == "unknown"

    life.past.cli("export-trust", "--out", str(tmp_path))
    exported = (tmp_path / "fulcio.pem").read_bytes()
    assert exported == client.get("/trust/fulcio.pem").data
    first, *_, last = x509.load_pem_x509_certificates(exported)
    assert first == life.issued["today-good"].issuing, "the one that issues comes first"
    assert last == life.issued["today-good"].root


def test_the_whole_life_is_in_order_for_fsck_and_on_record(life: Life) -> None:
    assert "Everything agrees" in life.past.cli("fsck")
    checks = json.loads(life.past.cli("doctor", "--offline", "--json"))["checks"]
    assert len([one for one in checks if one["check"] == "earlier authority"]) == len(TAKES_OVER)
    assert not [one for one in checks if one["check"].startswith("issuing") and one["verdict"] != "good"]
    life.past.cli("audit", "--verify")
    actions = [json.loads(line)["action"] for line in life.past.cli("audit", "--json").splitlines()]
    assert actions.count("prepare-authority") == len(TAKES_OVER)
