"""Client keys: every honest form is read, everything weak, odd or broken is refused with its reason."""

import base64
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from ca_service.errors import CsrMalformed, ProofInvalid, PublicKeyMalformed, PublicKeyRefused
from ca_service.pki import der
from ca_service.pki.keys import KINDS, key_id, read_csr, read_public_key, spki_der

ALL = frozenset(KINDS)
KEYS: dict[str, Any] = {
    "ecdsa-p256": ec.generate_private_key(ec.SECP256R1()),
    "ecdsa-p384": ec.generate_private_key(ec.SECP384R1()),
    "ecdsa-p521": ec.generate_private_key(ec.SECP521R1()),
    "rsa": rsa.generate_private_key(65537, 2048),
    "ed25519": ed25519.Ed25519PrivateKey.generate(),
}


def _pem(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_read_from_pem_and_der_alike(kind: str) -> None:
    public = KEYS[kind].public_key()
    from_pem = read_public_key(_pem(public), ALL)
    assert from_pem == read_public_key(spki_der(public), ALL)
    assert (from_pem.kind, from_pem.spki) == (kind, spki_der(public))
    assert len(from_pem.key_sha256) == 64


def test_pem_may_have_windows_line_ends_and_text_around() -> None:
    pem = _pem(KEYS["ecdsa-p256"].public_key())
    assert (
        read_public_key(b"my key:\r\n" + pem.replace(b"\n", b"\r\n") + b"\r\n\r\n", ALL).kind == "ecdsa-p256"
    )


def test_pkcs1_rsa_keys_are_read_as_fulcio_does() -> None:
    public = KEYS["rsa"].public_key()
    assert read_public_key(public.public_bytes(Encoding.PEM, PublicFormat.PKCS1), ALL).spki == spki_der(
        public
    )


def test_a_compressed_point_is_the_same_key_under_the_same_name() -> None:
    public = KEYS["ecdsa-p256"].public_key()
    point = public.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    algorithm = der.sequence(der.oid("1.2.840.10045.2.1"), der.oid("1.2.840.10045.3.1.7"))
    compressed = read_public_key(der.sequence(algorithm, der.bit_string(point)), ALL)
    assert compressed.key_sha256 == read_public_key(spki_der(public), ALL).key_sha256


def test_kinds_that_the_operator_did_not_allow_are_refused_and_the_allowed_named() -> None:
    for kind in KINDS:
        allowed = frozenset({"ecdsa-p256"} if kind != "ecdsa-p256" else {"rsa"})
        with pytest.raises(PublicKeyRefused, match=f"{kind}.*Accepted here: {min(allowed)}"):
            read_public_key(_pem(KEYS[kind].public_key()), allowed)


@pytest.mark.parametrize(
    "public",
    [
        ec.generate_private_key(ec.SECP256K1()).public_key(),
        ed448.Ed448PrivateKey.generate().public_key(),
        x25519.X25519PrivateKey.generate().public_key(),
    ],
    ids=["secp256k1", "ed448", "x25519"],
)
def test_other_kinds_of_keys_are_refused(public: PublicKeyTypes) -> None:
    with pytest.raises(PublicKeyRefused, match="not certified here"):
        read_public_key(_pem(public), ALL)


@pytest.mark.parametrize(("bits", "exponent"), [(1024, 65537), (2047, 65537), (2056, 3), (4104, 65537)])
def test_rsa_keys_of_other_sizes_or_exponents_are_refused(bits: int, exponent: int) -> None:
    modulus = (1 << bits - 1) | 1
    with pytest.raises(PublicKeyRefused, match=r"modulus has|exponent"):
        read_public_key(spki_der(rsa.RSAPublicNumbers(exponent, modulus).public_key()), ALL)


def _ec_spki(parameters: bytes, point: bytes) -> bytes:
    return der.sequence(der.sequence(der.oid("1.2.840.10045.2.1"), parameters), der.bit_string(point))


def test_points_off_the_curve_and_at_infinity_are_refused() -> None:
    p256 = der.oid("1.2.840.10045.3.1.7")
    good = KEYS["ecdsa-p256"].public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    with pytest.raises(PublicKeyRefused, match="not a point of its curve"):
        read_public_key(_ec_spki(p256, good[:-1] + bytes((good[-1] ^ 1,))), ALL)
    with pytest.raises(PublicKeyRefused, match="not a point of its curve"):
        read_public_key(_ec_spki(p256, good[:40]), ALL)
    with pytest.raises(PublicKeyRefused, match="infinity"):
        read_public_key(_ec_spki(p256, b"\x00"), ALL)


def test_explicit_curve_parameters_are_refused_even_those_of_p256() -> None:
    # RFC 3279 §2.3.5 ECParameters with the numbers of P-256: what CVE-2020-0601 was about.
    p = 2**256 - 2**224 + 2**192 + 2**96 - 1
    b = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
    g = bytes.fromhex(
        "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
        "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
    )
    n = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    explicit = der.sequence(
        der.integer(1),
        der.sequence(der.oid("1.2.840.10045.1.1"), der.integer(p)),
        der.sequence(der.octet_string((p - 3).to_bytes(32, "big")), der.octet_string(b.to_bytes(32, "big"))),
        der.octet_string(g),
        der.integer(n),
        der.integer(1),
    )
    with pytest.raises(PublicKeyRefused, match="explicit parameters"):
        read_public_key(_ec_spki(explicit, g), ALL)


def test_an_rsa_pss_key_is_not_taken_for_an_rsa_key() -> None:
    pkcs1 = KEYS["rsa"].public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)
    spki = der.sequence(der.sequence(der.oid("1.2.840.113549.1.1.10")), der.bit_string(pkcs1))
    with pytest.raises(PublicKeyRefused, match=r"1\.2\.840\.113549\.1\.1\.10"):
        read_public_key(spki, ALL)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"   \n",
        b"hello",
        b"-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n",
        b"-----BEGIN PUBLIC KEY-----\nAAA\n-----END PUBLIC KEY-----\n",
        b"-----BEGIN PUBLIC KEY-----\nMFkw\n",
        b"\x30\x00",
        b"\x30\x82\xff\xff",
        b"0" * (16 * 1024 + 1),
        b"-----BEGIN PUBLIC KEY-----\n" * 1_000_000,
        der.sequence(der.sequence(der.oid("1.2.840.113549.1.1.1"), der.NULL), der.bit_string(b"\x30\x00")),
        der.sequence(der.sequence(der.oid("1.3.101.112")), der.bit_string(b"short")),
        # A curve whose name is cut short: found by fuzzing.
        der.sequence(
            der.sequence(der.oid("1.2.840.10045.2.1"), b"\x06\x02\x2a\x86"), der.bit_string(b"\x04")
        ),
    ],
)
def test_what_is_no_key_is_malformed(content: bytes) -> None:
    with pytest.raises(PublicKeyMalformed):
        read_public_key(content, ALL)


def test_a_private_key_sent_by_mistake_is_refused_with_advice_and_not_repeated() -> None:
    pem = KEYS["ecdsa-p256"].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(PublicKeyMalformed, match="throw this one away") as refusal:
        read_public_key(pem, ALL)
    assert pem.splitlines()[1].decode() not in str(refusal.value)


def test_key_ids_follow_rfc_7093_method_1() -> None:
    public = KEYS["ecdsa-p256"].public_key()
    digest = hashes.Hash(hashes.SHA256())
    digest.update(public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))
    assert key_id(public) == digest.finalize()[:20].hex()


# -- signing requests ------------------------------------------------------------------------------------


_SHA256 = hashes.SHA256()


def _csr(key: Any, algorithm: Any = _SHA256, encoding: Encoding = Encoding.PEM) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_attribute(x509.ObjectIdentifier("1.2.840.113549.1.9.7"), b"challenge")
    return builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else algorithm).public_bytes(
        encoding
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_request_signed_by_its_key_gives_that_key_whatever_else_it_asks_for(kind: str) -> None:
    key = KEYS[kind]
    for request in (_csr(key), _csr(key, encoding=Encoding.DER), _csr(key, hashes.SHA512())):
        assert read_csr(request, ALL).spki == spki_der(key.public_key())


def test_the_older_name_of_the_block_is_read() -> None:
    request = _csr(KEYS["rsa"]).replace(b"CERTIFICATE REQUEST", b"NEW CERTIFICATE REQUEST")
    assert read_csr(request, ALL).kind == "rsa"


def test_a_request_signed_by_another_key_proves_nothing() -> None:
    request = _csr(KEYS["ecdsa-p256"], encoding=Encoding.DER)
    other = _csr(ec.generate_private_key(ec.SECP256R1()), encoding=Encoding.DER)
    with pytest.raises(ProofInvalid, match="not signed by the key it holds"):
        read_csr(_with_signature_of(request, other), ALL)


def _with_signature_of(request: bytes, other: bytes) -> bytes:
    info, algorithm, _ = der.elements(der.only(request, der.SEQUENCE))
    *_, signature = der.elements(der.only(other, der.SEQUENCE))
    return der.sequence(info.der, algorithm.der, signature.der)


def test_requests_signed_with_a_broken_hash_are_refused_by_name() -> None:
    # OpenSSL signs no such requests any more: the algorithm is what is refused, before any signature.
    info, _, signature = der.elements(der.only(_csr(KEYS["rsa"], encoding=Encoding.DER), der.SEQUENCE))
    for arc, name in ((5, "SHA1"), (4, "MD5"), (14, "SHA224")):
        algorithm = der.sequence(der.oid(f"1.2.840.113549.1.1.{arc}"), der.NULL)
        with pytest.raises(ProofInvalid, match=f"signed with {name}; expected SHA-256"):
            read_csr(der.sequence(info.der, algorithm, signature.der), ALL)


def test_an_algorithm_that_nobody_knows_is_refused() -> None:
    info, _, signature = der.elements(der.only(_csr(KEYS["rsa"], encoding=Encoding.DER), der.SEQUENCE))
    with pytest.raises(ProofInvalid, match="cannot be checked"):
        read_csr(der.sequence(info.der, der.sequence(der.oid("1.2.3.4")), signature.der), ALL)


def test_a_request_for_a_refused_key_is_refused_for_the_key() -> None:
    with pytest.raises(PublicKeyRefused, match="1024 bits"):
        read_csr(_csr(rsa.generate_private_key(65537, 1024)), ALL)  # noqa: S505 - weak on purpose
    with pytest.raises(PublicKeyRefused, match="not certified here"):
        read_csr(_csr(KEYS["rsa"]), frozenset({"ecdsa-p256"}))


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"\x30\x00", b"\x30\x03\x30\x01\x00", base64.b64encode(b"hello"), b"\x30" * 20_000],
)
def test_what_is_no_request_is_malformed(content: bytes) -> None:
    with pytest.raises(CsrMalformed):
        read_csr(content, ALL)


def test_a_request_of_an_unknown_version_is_malformed() -> None:
    request = x509.load_pem_x509_csr(_csr(KEYS["ecdsa-p256"])).public_bytes(Encoding.DER)
    with pytest.raises(CsrMalformed):
        read_csr(request.replace(b"\x02\x01\x00", b"\x02\x01\x40", 1), ALL)


def test_a_certificate_in_place_of_a_request_is_named() -> None:
    with pytest.raises(CsrMalformed, match="a CERTIFICATE block came"):
        read_csr(_csr(KEYS["rsa"]).replace(b"CERTIFICATE REQUEST", b"CERTIFICATE"), ALL)
