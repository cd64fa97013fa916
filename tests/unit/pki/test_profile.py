"""Leaves are what the profile says, under authorities of every kind, for two signatures each."""

import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from ca_service.errors import ConfigurationError, TokenClaimInvalid
from ca_service.pki.authority_certificates import Authority
from ca_service.pki.keys import key_id, spki_der
from ca_service.pki.profile import build_certificate, build_precertificate, random_serial
from ca_service.vocabulary import SubjectKind, SubjectName
from tests.support.pki import (
    AUTHORITY_KINDS,
    CA_ISSUERS_URL,
    CRL_URL,
    NOW,
    OCSP_URL,
    authority,
    client_key,
    issue,
    leaf_profile,
    sct_list,
)


@pytest.mark.parametrize("kind", AUTHORITY_KINDS)
def test_a_leaf_has_exactly_the_extensions_of_the_profile_in_order(kind: str) -> None:
    leaf = issue(authority(kind)).certificate
    leaf.verify_directly_issued_by(authority(kind).certificate)
    assert leaf.version is x509.Version.v3
    assert list(leaf.subject) == []
    assert (leaf.not_valid_before_utc, leaf.not_valid_after_utc) == (NOW, NOW + timedelta(minutes=10))
    assert [(extension.oid.dotted_string, extension.critical) for extension in leaf.extensions] == [
        ("2.5.29.15", True),  # key usage
        ("2.5.29.37", False),  # extended key usage
        ("2.5.29.14", False),  # subject key identifier
        ("2.5.29.35", False),  # authority key identifier
        ("2.5.29.17", True),  # subject alternative name
        ("1.3.6.1.5.5.7.1.1", False),  # authority information access
        ("2.5.29.31", False),  # CRL distribution points
        ("1.3.6.1.4.1.57264.1.1", False),
        ("1.3.6.1.4.1.57264.1.8", False),
        ("1.3.6.1.4.1.57264.1.24", False),
        ("1.3.6.1.4.1.11129.2.4.2", False),  # the SCT list comes last
    ]


def test_the_values_of_a_leafs_extensions_read_back_as_they_were_meant() -> None:
    leaf = issue().certificate

    def value(kind: Any) -> Any:
        return leaf.extensions.get_extension_for_class(kind).value

    usage = value(x509.KeyUsage)
    assert usage == x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    assert list(value(x509.ExtendedKeyUsage)) == [ExtendedKeyUsageOID.CODE_SIGNING]
    assert value(x509.SubjectKeyIdentifier).digest.hex() == key_id(client_key().public_key())
    issuing_ski = authority().certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    assert value(x509.AuthorityKeyIdentifier) == (
        x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuing_ski.value)
    )
    assert value(x509.AuthorityInformationAccess) == x509.AuthorityInformationAccess(
        [
            x509.AccessDescription(
                AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(OCSP_URL)
            ),
            x509.AccessDescription(
                AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier(CA_ISSUERS_URL)
            ),
        ]
    )
    assert value(x509.CRLDistributionPoints) == x509.CRLDistributionPoints(
        [x509.DistributionPoint([x509.UniformResourceIdentifier(CRL_URL)], None, None, None)]
    )


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        (SubjectName(SubjectKind.EMAIL, "ada@example.com"), x509.RFC822Name("ada@example.com")),
        (
            SubjectName(SubjectKind.URI, "https://github.com/a/b/.github/workflows/r.yml@refs/heads/main"),
            x509.UniformResourceIdentifier("https://github.com/a/b/.github/workflows/r.yml@refs/heads/main"),
        ),
        (
            SubjectName(SubjectKind.USERNAME, "Zoë!example.com"),
            x509.OtherName(
                x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.7"), b"\x0c\x10" + "Zoë!example.com".encode()
            ),
        ),
    ],
)
def test_every_kind_of_subject_becomes_its_one_alternative_name(
    subject: SubjectName, expected: x509.GeneralName
) -> None:
    names = issue(subject=subject).certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert list(names.value) == [expected]


@pytest.mark.parametrize(
    "subject",
    [
        SubjectName(SubjectKind.EMAIL, ""),
        SubjectName(SubjectKind.EMAIL, "zoë@example.com"),
        SubjectName(SubjectKind.EMAIL, "ada@example.com\x00.evil.example"),
        SubjectName(SubjectKind.URI, "https://example.com/ü"),
        SubjectName(SubjectKind.USERNAME, "ada\n!example.com"),
        SubjectName(SubjectKind.USERNAME, "\ud800!example.com"),
    ],
)
def test_a_subject_that_no_certificate_can_carry_is_refused_without_repeating_it(
    subject: SubjectName,
) -> None:
    with pytest.raises(TokenClaimInvalid, match="cannot stand in a certificate") as refusal:
        build_precertificate(authority(), leaf_profile(subject=subject))
    assert not subject.value or subject.value not in str(refusal.value)


def test_the_poison_is_in_the_precertificate_only_and_in_nothing_that_is_logged() -> None:
    issued = issue()
    poison = "1.3.6.1.4.1.11129.2.4.3"
    signed = x509.load_der_x509_certificate(issued.precertificate.der)
    signed.verify_directly_issued_by(authority().certificate)
    last = list(signed.extensions)[-1]
    assert (last.oid.dotted_string, last.critical) == (poison, True)
    assert bytes.fromhex("060a2b06010401d679020403") not in issued.precertificate.tbs
    assert issued.certificate.tbs_precertificate_bytes == issued.precertificate.tbs


class _Counting(ec.EllipticCurvePrivateKey):
    """A key as in a hardware module: it only signs, and counts."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self.signatures = 0

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        self.signatures += 1
        return self._key.sign(data, signature_algorithm)

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._key.public_key()

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._key.curve

    @property
    def key_size(self) -> int:
        return self._key.key_size

    def exchange(self, algorithm: Any, peer_public_key: Any) -> bytes:
        raise NotImplementedError

    def private_numbers(self) -> Any:
        raise NotImplementedError

    def private_bytes(self, encoding: Any, format: Any, encryption_algorithm: Any) -> bytes:  # noqa: A002 - its name
        raise NotImplementedError

    def __copy__(self) -> "_Counting":
        return self

    def __deepcopy__(self, memo: Any) -> "_Counting":
        return self


def test_a_key_that_can_only_sign_is_enough_and_signs_twice_for_each_certificate() -> None:
    inner = authority().private_key
    assert isinstance(inner, ec.EllipticCurvePrivateKey)
    key = _Counting(inner)
    hardware = Authority.load(authority().chain, key)
    precertificate = build_precertificate(hardware, leaf_profile())
    assert key.signatures == 1
    build_certificate(hardware, precertificate, sct_list(hardware, precertificate))
    assert key.signatures == 2


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP521R1()),
        rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["p384", "p521", "rsa", "ed25519"],
)
def test_client_keys_of_every_kind_are_certified(key: Any) -> None:
    leaf = issue(spki=spki_der(key.public_key())).certificate
    assert leaf.public_key() == key.public_key()
    ski = leaf.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert ski.hex() == key_id(key.public_key())


def test_times_of_any_zone_are_written_in_utc_and_floored_to_the_second() -> None:
    elsewhere = (NOW + timedelta(microseconds=999_999)).astimezone(timezone(timedelta(hours=-8)))
    assert issue(not_before=elsewhere).certificate.not_valid_before_utc == NOW


def test_no_leaf_outlives_the_issuing_certificate() -> None:
    end = authority().not_after
    assert issue(not_after=end).certificate.not_valid_after_utc == end
    with pytest.raises(ConfigurationError, match=r"2040-01-01 00:00:00Z.*Rotate"):
        build_precertificate(authority(), leaf_profile(not_after=end + timedelta(seconds=1)))


def test_serials_are_positive_and_have_159_bits_of_the_random_source() -> None:
    assert random_serial(lambda octets: b"\xff" * octets) == 2**159 - 1
    answers = iter([b"\x00" * 20, b"\x00" * 19 + b"\x02"])
    assert random_serial(lambda _: next(answers)) == 1
    assert math.log2(random_serial(lambda octets: b"\x80" + b"\x00" * (octets - 1))) == 158


def test_a_leaf_of_2050_uses_the_later_form_of_time() -> None:
    chain = authority().chain
    late = Authority(chain[1], chain, authority().private_key)  # the root ends in 2051
    leaf = issue(
        late, not_before=datetime(2050, 6, 1, tzinfo=UTC), not_after=datetime(2050, 6, 2, tzinfo=UTC)
    )
    assert leaf.certificate.not_valid_before_utc == datetime(2050, 6, 1, tzinfo=UTC)
    assert b"\x18\x0f20500601000000Z" in leaf.der
