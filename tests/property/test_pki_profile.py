"""Whatever a leaf says, its certificate and its precertificate say the same, and other readers read it so."""

from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from ca_service.pki.extensions import FULCIO_OIDS
from ca_service.pki.profile import build_certificate, build_precertificate
from ca_service.pki.sct import POISON, SCT_LIST, scts_of, verify_sct
from ca_service.vocabulary import Serial, SubjectKind, SubjectName
from tests.support.pki import AUTHORITY_KINDS, authority, client_key, leaf_profile, log_key, sct_list

_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=300)
_ASCII = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=300)
_SUBJECTS = st.one_of(
    _ASCII.map(lambda text: SubjectName(SubjectKind.EMAIL, f"{text}@example.com")),
    _ASCII.map(lambda text: SubjectName(SubjectKind.URI, f"https://{text}")),
    _TEXT.map(lambda text: SubjectName(SubjectKind.USERNAME, f"{text}!example.com")),
)
_LEAVES = st.fixed_dictionaries(
    {
        "subject": _SUBJECTS,
        "extensions": st.dictionaries(st.sampled_from(sorted(FULCIO_OIDS)), _TEXT | st.just(""), max_size=23),
        "serial": st.integers(1, 2**159 - 1).map(Serial),
        "not_before": st.integers(0, 13 * 365 * 86_400).map(
            lambda seconds: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
        ),
        "crl_url": _ASCII.map(lambda text: f"http://{text}"),
    }
)


@settings(max_examples=150)
@given(_LEAVES, st.sampled_from(AUTHORITY_KINDS), st.integers(0, 2**40 - 1))
def test_certificate_and_precertificate_are_one_statement(
    leaf: dict[str, Any], kind: str, index: int
) -> None:
    by = authority(kind)
    leaf["not_after"] = leaf["not_before"] + timedelta(minutes=10)
    profile = leaf_profile(**leaf)
    precertificate = build_precertificate(by, profile)
    der = build_certificate(by, precertificate, sct_list(by, precertificate, index=index))
    certificate, poisoned = (
        x509.load_der_x509_certificate(der),
        x509.load_der_x509_certificate(precertificate.der),
    )

    certificate.verify_directly_issued_by(by.certificate)
    poisoned.verify_directly_issued_by(by.certificate)
    # The reference reader takes the SCT list out and encodes the rest anew: byte for byte what was logged.
    assert certificate.tbs_precertificate_bytes == precertificate.tbs
    assert _without_last(poisoned, POISON) == _without_last(certificate, SCT_LIST)
    assert [sct.leaf_index for sct in scts_of(certificate)] == [index]
    verify_sct(certificate, by.certificate, log_key().public_key())

    assert certificate.serial_number == profile.serial
    assert (certificate.not_valid_before_utc, certificate.not_valid_after_utc) == (
        profile.not_before,
        profile.not_after,
    )


def _without_last(certificate: x509.Certificate, oid: str) -> list[tuple[str, bool, bytes]]:
    *others, last = [
        (each.oid.dotted_string, each.critical, each.value.public_bytes()) for each in certificate.extensions
    ]
    assert last[0] == oid
    return others


@settings(max_examples=50)
@given(_LEAVES)
def test_the_tbs_is_what_the_reference_builder_makes(leaf: dict[str, Any]) -> None:
    profile = leaf_profile(**{**leaf, "not_after": leaf["not_before"] + timedelta(minutes=10)})
    ours = build_precertificate(authority(), profile)
    builder = (
        x509.CertificateBuilder()
        .issuer_name(authority().certificate.subject)
        .subject_name(x509.Name([]))
        .public_key(client_key().public_key())
        .serial_number(profile.serial)
        .not_valid_before(profile.not_before)
        .not_valid_after(profile.not_after)
    )
    for extension in list(x509.load_der_x509_certificate(ours.der).extensions)[:-1]:
        builder = builder.add_extension(extension.value, extension.critical)
    made = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    assert made.tbs_certificate_bytes == ours.tbs
