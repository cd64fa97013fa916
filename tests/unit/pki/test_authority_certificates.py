"""The authority's certificates follow the profile, and a wrong chain or key is refused with what is wrong."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ca_service.errors import ConfigurationError
from ca_service.pki.authority_certificates import Authority, create_intermediate, create_root
from ca_service.pki.chain_checks import check_chain
from ca_service.pki.keys import key_id
from tests.support.pki import FOUNDED, ROOT_CRL_URL, authority, public_good, root_key_of, signing_key


def _value(certificate: x509.Certificate, kind: Any) -> Any:
    return certificate.extensions.get_extension_for_class(kind).value


def test_the_root_is_a_self_signed_ca_for_25_years_without_extended_key_usage() -> None:
    root = authority().root
    root.verify_directly_issued_by(root)
    assert root.not_valid_after_utc == datetime(2051, 1, 1, tzinfo=UTC)
    assert {extension.oid._name: extension.critical for extension in root.extensions} == {
        "basicConstraints": True,
        "keyUsage": True,
        "subjectKeyIdentifier": False,
    }
    assert [attribute.oid for attribute in root.subject] == [NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME]


def test_the_issuing_certificate_signs_code_only_and_names_the_roots_crl() -> None:
    issuing, root = authority().chain
    issuing.verify_directly_issued_by(root)
    assert issuing.not_valid_after_utc == datetime(2040, 1, 1, tzinfo=UTC)
    assert {extension.oid._name: extension.critical for extension in issuing.extensions} == {
        "basicConstraints": True,
        "keyUsage": True,
        "subjectKeyIdentifier": False,
        "extendedKeyUsage": False,
        "authorityKeyIdentifier": False,
        "authorityInfoAccess": False,
        "cRLDistributionPoints": False,
    }
    assert _value(issuing, x509.BasicConstraints) == x509.BasicConstraints(ca=True, path_length=0)
    assert list(_value(issuing, x509.ExtendedKeyUsage)) == [ExtendedKeyUsageOID.CODE_SIGNING]
    usage = _value(issuing, x509.KeyUsage)
    assert (usage.key_cert_sign, usage.crl_sign, usage.digital_signature) == (True, True, False)
    assert _value(issuing, x509.CRLDistributionPoints)[0].full_name[0].value == ROOT_CRL_URL
    ski = _value(root, x509.SubjectKeyIdentifier).digest
    assert _value(issuing, x509.AuthorityKeyIdentifier).key_identifier == ski


def test_what_is_derived_names_the_issuing_key_everywhere_the_same() -> None:
    ours = authority()
    assert ours.key_id == key_id(ours.private_key.public_key())
    assert bytes.fromhex(ours.key_id) == ours.subject_key_identifier
    assert x509.load_pem_x509_certificates(ours.chain_pem.encode()) == list(ours.chain)
    assert ours.issues_until == datetime(2029, 1, 1, tzinfo=UTC)


def test_an_issuing_certificate_ends_with_its_root_at_the_latest() -> None:
    late = FOUNDED + timedelta(days=20 * 365)
    issuing = create_intermediate(
        signing_key("ecdsa-p256", "late").public_key(),
        root=authority().root,
        root_key=root_key_of(),
        organization="Example",
        common_name="late",
        crl_url=ROOT_CRL_URL,
        ca_issuers_url="http://status.example/ca/root.crt",
        not_before=late,
        serial=3,
    )
    assert issuing.not_valid_after_utc == authority().root.not_valid_after_utc


def test_a_root_of_a_leap_day_ends_on_the_first_of_march() -> None:
    root = create_root(
        signing_key("ecdsa-p256", "leap"),
        organization="Example",
        common_name="leap",
        not_before=datetime(2028, 2, 29, tzinfo=UTC),
        serial=1,
    )
    assert root.not_valid_after_utc == datetime(2053, 3, 1, tzinfo=UTC)


def test_no_root_is_made_with_a_key_that_clients_refuse() -> None:
    for key in (ec.generate_private_key(ec.SECP521R1()), ed25519.Ed25519PrivateKey.generate()):
        with pytest.raises(ConfigurationError, match=r"P-256, P-384 or RSA"):
            create_root(key, organization="E", common_name="E", not_before=FOUNDED, serial=1)  # type: ignore[arg-type]


def test_the_chain_of_the_public_good_instance_passes_the_start_up_check() -> None:
    _, chain, _ = public_good()
    check_chain(chain)


def test_a_chain_in_the_wrong_order_or_incomplete_is_refused() -> None:
    issuing, root = authority().chain
    key = authority().private_key
    other = authority(name="Other").root
    with pytest.raises(ConfigurationError, match="has 1 certificate"):
        Authority.load([issuing], key)
    with pytest.raises(ConfigurationError, match=r"is not signed by|path lengths"):
        Authority.load([root, issuing], key)
    with pytest.raises(ConfigurationError, match=r"is not signed by the next one.*Order the chain"):
        Authority.load([issuing, other], key)
    with pytest.raises(ConfigurationError, match="has 0 certificate"):
        Authority.load([], key)


def test_a_key_of_another_certificate_or_kind_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="not the key of the first certificate"):
        Authority.load(authority().chain, signing_key("ecdsa-p256", "stranger"))
    with pytest.raises(ConfigurationError, match="kind Ed25519"):
        Authority.load(authority().chain, ed25519.Ed25519PrivateKey.generate())


def _variant(**changes: Any) -> x509.Certificate:
    """An issuing certificate under the test root with one thing wrong."""
    key = changes.get("key", authority().private_key)
    usage = {
        "digital_signature": False, "content_commitment": False, "key_encipherment": False,
        "data_encipherment": False, "key_agreement": False, "key_cert_sign": True, "crl_sign": True,
        "encipher_only": False, "decipher_only": False,
    }  # fmt: skip
    extensions = {
        "constraints": (x509.BasicConstraints(ca=True, path_length=0), True),
        "usage": (x509.KeyUsage(**usage | changes.get("usage_bits", {})), True),
        "extended": (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False),
        "ski": (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
    } | changes.get("extensions", {})
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "variant")]))
        .issuer_name(authority().root.subject)
        .public_key(key.public_key())
        .serial_number(9)
        .not_valid_before(FOUNDED)
        .not_valid_after(changes.get("until", FOUNDED + timedelta(days=365)))
    )
    for extension in extensions.values():
        if extension is not None:
            builder = builder.add_extension(*extension)
    return builder.sign(root_key_of(), hashes.SHA384())


_SHORT_KEY = rsa.generate_private_key(65537, 1024)  # noqa: S505 - weak on purpose


def _usages(*oids: x509.ObjectIdentifier) -> tuple[x509.ExtendedKeyUsage, bool]:
    return x509.ExtendedKeyUsage(oids), False


_CT = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.4")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"extensions": {"constraints": None}}, "may not issue"),
        ({"extensions": {"constraints": (x509.BasicConstraints(False, None), True)}}, "may not issue"),
        ({"extensions": {"constraints": (x509.BasicConstraints(ca=True, path_length=0), False)}}, "critical"),
        ({"usage_bits": {"crl_sign": False}}, "cRLSign"),
        ({"usage_bits": {"key_cert_sign": False}}, "keyCertSign"),
        ({"extensions": {"usage": None}}, "keyCertSign"),
        ({"extensions": {"ski": None}}, "subject key identifier"),
        ({"extensions": {"extended": None}}, "codeSigning"),
        ({"extensions": {"extended": _usages(ExtendedKeyUsageOID.CLIENT_AUTH)}}, "codeSigning"),
        ({"extensions": {"extended": _usages(ExtendedKeyUsageOID.CODE_SIGNING, _CT)}}, "for precertificate"),
        ({"until": datetime(2060, 1, 1, tzinfo=UTC)}, "ends at 2060-01-01, after"),
        ({"key": ec.generate_private_key(ec.SECP521R1())}, "secp521r1"),
        ({"key": ed25519.Ed25519PrivateKey.generate()}, "found Ed25519"),
        ({"key": _SHORT_KEY}, "RSA with 1024 bits"),
    ],
)  # fmt: skip
def test_an_issuing_certificate_that_cannot_sign_code_is_refused_with_the_reason(
    changes: dict[str, Any], sentence: str
) -> None:
    certificate = _variant(**changes)
    with pytest.raises(ConfigurationError, match=sentence) as refusal:
        Authority.load([certificate, authority().root], changes.get("key", authority().private_key))
    assert "'CN=variant'" in str(refusal.value)


def test_the_unchanged_variant_is_accepted_so_each_fault_above_is_the_only_one() -> None:
    Authority.load([_variant(), authority().root], authority().private_key)
