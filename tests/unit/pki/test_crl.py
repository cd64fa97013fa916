"""CRLs say what was revoked, from when and why, in the one form that code-signing rules and clients want."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from ca_service.pki import der
from ca_service.pki.crl import Entry, build_crl, build_root_crl, resign_crl, verify_crl
from ca_service.vocabulary import RevocationReason, Serial
from tests.support.pki import AUTHORITY_KINDS, CRL_URL, NOW, authority, root_key_of

_WEEK = timedelta(days=7)
_REVOKED = int(NOW.timestamp()) - 86_399


def _crl(entries: list[Entry], kind: str = "ecdsa-p256", url: str | None = CRL_URL, number: int = 5) -> bytes:
    return build_crl(
        authority(kind),
        entries,
        number=number,
        this_update=NOW,
        next_update=NOW + _WEEK,
        url=url,
        expired_since=NOW if url else None,
    )


@pytest.mark.parametrize("kind", AUTHORITY_KINDS)
def test_a_shard_lists_its_entries_with_date_reason_and_equal_invalidity_date(kind: str) -> None:
    entries = [
        Entry(Serial(1 << index), _REVOKED + index, reason.number)
        for index, reason in enumerate(RevocationReason)
    ]
    crl = verify_crl(_crl(entries, kind), authority(kind).certificate, url=CRL_URL)
    assert len(crl) == len(entries)
    for entry, reason in zip(entries, RevocationReason, strict=True):
        found = crl.get_revoked_certificate_by_serial_number(entry.serial)
        assert found is not None
        moment = datetime.fromtimestamp(entry.revocation_date, UTC)
        assert found.revocation_date_utc == moment
        assert (
            found.extensions.get_extension_for_class(x509.InvalidityDate).value.invalidity_date_utc == moment
        )
        stated = [
            each.value.reason.value for each in found.extensions if isinstance(each.value, x509.CRLReason)
        ]
        assert stated == ([] if reason is RevocationReason.UNSPECIFIED else [reason.label])
        assert not any(extension.critical for extension in found.extensions)


def test_the_extensions_of_a_shard_bind_it_to_its_url_and_to_the_key_that_signs() -> None:
    crl = x509.load_der_x509_crl(_crl([]))
    assert (crl.last_update_utc, crl.next_update_utc) == (NOW, NOW + _WEEK)
    assert {extension.oid.dotted_string: extension.critical for extension in crl.extensions} == {
        "2.5.29.35": False,
        "2.5.29.20": False,
        "2.5.29.28": True,
        "2.5.29.60": False,
    }
    key_identifier = crl.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    assert key_identifier == authority().subject_key_identifier
    point = crl.extensions.get_extension_for_class(x509.IssuingDistributionPoint).value
    assert point.full_name == [x509.UniformResourceIdentifier(CRL_URL)]
    assert (point.only_contains_user_certs, point.only_contains_ca_certs, point.indirect_crl) == (
        True,
        False,
        False,
    )
    expired = crl.extensions.get_extension_for_oid(x509.ObjectIdentifier("2.5.29.60")).value
    assert expired.public_bytes() == b"\x18\x0f20261123080000Z"


def test_a_list_without_entries_is_left_out_instead_of_empty() -> None:
    tbs = x509.load_der_x509_crl(_crl([])).tbs_certlist_bytes
    # version, signature, issuer, thisUpdate, nextUpdate, [0] extensions
    assert [each.tag for each in der.elements(der.only(tbs, 0x30))] == [0x02, 0x30, 0x30, 0x17, 0x17, 0xA0]


def test_dates_from_2050_on_are_written_in_the_later_form() -> None:
    last_utc = 2_524_607_999
    early, late = Entry(Serial(5), last_utc, 1), Entry(Serial(6), last_utc + 1, 1)
    crl = x509.load_der_x509_crl(_crl([early, late]))
    assert [each.revocation_date_utc.year for each in crl] == [2049, 2050]
    assert b"\x17\x0d491231235959Z" in _crl([early])
    assert b"\x02\x01\x06\x18\x0f20500101000000Z" in _crl([late])


def test_serials_of_every_length_stay_positive() -> None:
    serials = [1, 127, 128, 255, 256, 2**63, 2**152 - 1, 2**159 - 1, 2**160 - 1]
    crl = verify_crl(_crl([Entry(Serial(each), _REVOKED, 1) for each in serials]), authority().certificate)
    assert [each.serial_number for each in crl] == serials


def test_the_roots_list_has_no_distribution_point_and_can_name_issuing_certificates() -> None:
    root = authority().root
    for entries in ([], [Entry(Serial(authority().certificate.serial_number), _REVOKED, 1)]):
        der_crl = build_root_crl(
            root, root_key_of(), number=1, this_update=NOW, next_update=NOW + 52 * _WEEK, revocations=entries
        )
        crl = verify_crl(der_crl, root)
        assert len(crl) == len(entries)
        assert [extension.oid.dotted_string for extension in crl.extensions] == ["2.5.29.35", "2.5.29.20"]


def test_a_list_of_another_issuer_key_or_shard_is_refused() -> None:
    crl = _crl([Entry(Serial(5), _REVOKED, 1)])
    with pytest.raises(ValueError, match="another issuer"):
        verify_crl(crl, authority().root)
    with pytest.raises(ValueError, match="signature"):
        verify_crl(crl[:-1] + bytes((crl[-1] ^ 1,)), authority().certificate)
    with pytest.raises(ValueError, match="does not name that URL"):
        verify_crl(crl, authority().certificate, url=CRL_URL.replace("0a", "0b"))
    with pytest.raises(ValueError, match="does not name that URL"):
        verify_crl(_crl([], url=None), authority().certificate, url=CRL_URL)
    with pytest.raises(ValueError, match="parsing"):
        verify_crl(crl[:-1], authority().certificate)


@pytest.mark.parametrize("kind", AUTHORITY_KINDS)
@pytest.mark.parametrize("count", [0, 1, 300])
def test_a_list_signed_again_is_the_one_that_would_be_built_from_its_entries(kind: str, count: int) -> None:
    entries = [
        Entry(Serial(1 << index % 158 | index + 1), _REVOKED + index, index % 2) for index in range(count)
    ]
    later = datetime(2051, 1, 1, tzinfo=UTC)  # in another form of time
    again = resign_crl(
        authority(kind), _crl(entries, kind), number=300, this_update=later, next_update=later + _WEEK
    )
    built = build_crl(
        authority(kind),
        entries,
        number=300,
        this_update=later,
        next_update=later + _WEEK,
        url=CRL_URL,
        expired_since=NOW,
    )
    theirs = verify_crl(again, authority(kind).certificate, url=CRL_URL)
    assert theirs.tbs_certlist_bytes == x509.load_der_x509_crl(built).tbs_certlist_bytes


def test_only_what_the_same_key_signed_is_signed_again() -> None:
    times = {"number": 6, "this_update": NOW, "next_update": NOW + _WEEK}
    listed = _crl([Entry(Serial(5), _REVOKED, 1)])
    altered = listed.replace(b"\x02\x01\x05\x17", b"\x02\x01\x07\x17")
    assert altered != listed
    for wrong in (altered, listed[:-1], b"", _crl([], "ecdsa-p384")):
        with pytest.raises(ValueError, match=r"."):
            resign_crl(authority(), wrong, **times)  # type: ignore[arg-type]
