"""The client's public key: read from PEM, DER or a signing request, refused unless worth certifying."""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from ca_service.errors import CsrMalformed, InvalidRequest, ProofInvalid, PublicKeyMalformed, PublicKeyRefused
from ca_service.pki import der
from ca_service.pki.weak_keys import ed25519_weakness, rsa_weakness
from ca_service.vocabulary import KeyId

KINDS = ("ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "rsa", "ed25519")

ClientPublicKey: TypeAlias = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey

KEY_ID_OCTETS = 20
"""Of a SHA-256, in a key identifier (RFC 7093 §2 method 1)."""

_MAX_OCTETS = 16 * 1024
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----([A-Za-z0-9+/=\s]*)-----END \1-----")

_EC = "1.2.840.10045.2.1"
_RSA = "1.2.840.113549.1.1.1"
_ED25519 = "1.3.101.112"
_CURVES = {
    "1.2.840.10045.3.1.7": "ecdsa-p256",
    "1.3.132.0.34": "ecdsa-p384",
    "1.3.132.0.35": "ecdsa-p521",
}
_P256 = der.sequence(
    der.sequence(der.oid(_EC), der.oid("1.2.840.10045.3.1.7")), der.bit_string(b"\x04" + bytes(64))
)[:-64]
"""How the SubjectPublicKeyInfo of a P-256 key begins, up to its uncompressed point's two numbers."""
_P256_LENGTH = len(_P256) + 64
_P256_CURVE = ec.SECP256R1()
_RSA_BITS = range(2048, 4097, 8)
_RSA_EXPONENT = 65537
_CSR_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)


@dataclass(frozen=True, slots=True)
class ClientKey:
    """A key that may be certified: `spki` is its SubjectPublicKeyInfo re-encoded, `kind` one of KINDS."""

    public_key: ClientPublicKey
    spki: bytes
    kind: str

    @property
    def key_sha256(self) -> str:
        """Lower-case hex of SHA-256 over `spki`: the name under which keys are searched and blocked."""
        return hashlib.sha256(self.spki).hexdigest()


def read_public_key(content: bytes, allowed: frozenset[str]) -> ClientKey:
    """Read PEM (PUBLIC KEY or RSA PUBLIC KEY) or the DER of a SubjectPublicKeyInfo.

    `allowed` names the accepted KINDS. Raises PublicKeyMalformed for what cannot be read, PublicKeyRefused
    for a key of another kind or size, with explicit curve parameters, off its curve, or known to be weak.
    """
    expected = "a PEM PUBLIC KEY block or the DER of a SubjectPublicKeyInfo"
    label, spki = _unwrap(content, expected, PublicKeyMalformed)
    if label == "RSA PUBLIC KEY":
        spki = der.sequence(der.sequence(der.oid(_RSA), der.NULL), der.bit_string(spki))
    elif label not in ("PUBLIC KEY", ""):
        _wrong_block(label, expected, PublicKeyMalformed)
    return _client_key(spki, allowed)


def read_csr(content: bytes, allowed: frozenset[str]) -> ClientKey:
    """Read a PKCS#10 request (PEM; DER is tolerated) and check that its key signed it (RFC 2986 §4).

    Subject, attributes and requested extensions are ignored. `allowed` names the accepted KINDS. Raises
    CsrMalformed, PublicKeyMalformed, PublicKeyRefused, or ProofInvalid when the signature does not verify or
    its hash is not SHA-256, SHA-384 or SHA-512.
    """
    expected = "a PEM CERTIFICATE REQUEST block (PKCS#10)"
    label, request_der = _unwrap(content, expected, CsrMalformed)
    if label not in ("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST", ""):
        _wrong_block(label, expected, CsrMalformed)
    try:
        info = next(der.elements(der.only(request_der, der.SEQUENCE)))
        _version, _subject, spki, *_ = der.elements(info.content)
        request = x509.load_der_x509_csr(request_der)
    except (ValueError, StopIteration, UnsupportedAlgorithm, x509.InvalidVersion):
        raise CsrMalformed(
            f"The certificate signing request cannot be read: expected {expected}, and what came is damaged "
            "or something else. Send the request as the tool that made it wrote it.",
            expected=expected,
            received="what cannot be read as one",
        ) from None
    key = _client_key(spki.der, allowed)
    _check_self_signature(request)
    return key


def key_id(public_key: PublicKeyTypes) -> KeyId:
    """The key identifier that our certificates carry: RFC 7093 §2 method 1, as lower-case hex."""
    return KeyId(key_identifier(spki_der(public_key)).hex())


def key_identifier(spki: bytes) -> bytes:
    """The leftmost 160 bits of SHA-256 over the subjectPublicKey of an SPKI (RFC 7093 §2 method 1)."""
    return hashlib.sha256(subject_public_key(spki)).digest()[:KEY_ID_OCTETS]


def subject_public_key(spki: bytes) -> bytes:
    """The octets of subjectPublicKey in a SubjectPublicKeyInfo (RFC 5280 §4.1); raises DerError."""
    _, start, _ = der.header(spki)
    _, _, algorithm_end = der.header(spki, start)
    _, key_start, key_end = der.header(spki, algorithm_end)
    return spki[key_start + 1 : key_end]


def spki_der(public_key: PublicKeyTypes) -> bytes:
    """The DER SubjectPublicKeyInfo of a key."""
    return public_key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _unwrap(content: bytes, expected: str, malformed: type[InvalidRequest]) -> tuple[str, bytes]:
    """The label and DER of the first PEM block, or "" and the content itself when it begins like DER."""
    if len(content) > _MAX_OCTETS:
        raise malformed(
            f"Expected {expected} of at most {_MAX_OCTETS} bytes; {len(content)} bytes came. Send the key "
            "alone.",
            expected=f"at most {_MAX_OCTETS} bytes",
            received=f"{len(content)} bytes",
        )
    if content[:1] == b"\x30":
        return "", content
    block = _PEM.search(content)
    if block is None:
        found = "nothing" if not content.strip() else "something else"
        raise malformed(
            f"Expected {expected}; {found} came. Send it as the tool that made it wrote it.",
            expected=expected,
            received=found,
        )
    try:
        decoded = base64.b64decode(b"".join(block[2].split()), validate=True)
    except binascii.Error:
        raise malformed(
            f"The base64 inside the PEM block is damaged: expected {expected}. Send it again.",
            expected=expected,
            received="damaged base64",
        ) from None
    return block[1].decode(), decoded


def _wrong_block(label: str, expected: str, malformed: type[InvalidRequest]) -> NoReturn:
    advice = (
        "A private key must never be sent: throw this one away, and send the public half of a new one."
        if "PRIVATE" in label
        else "Send the right block."
    )
    raise malformed(f"Expected {expected}; a {label} block came. {advice}", expected=expected, received=label)


def _client_key(spki: bytes, allowed: frozenset[str]) -> ClientKey:
    if len(spki) == _P256_LENGTH and spki.startswith(_P256) and "ecdsa-p256" in allowed:
        # What nearly every client sends, in the one form that DER gives it.
        try:
            on_curve = ec.EllipticCurvePublicKey.from_encoded_point(_P256_CURVE, spki[len(_P256) - 1 :])
        except ValueError:
            raise _refused("it is not a point of its curve", "ecdsa-p256", allowed) from None
        return ClientKey(on_curve, spki, "ecdsa-p256")
    try:
        algorithm, bits = der.elements(der.only(spki, der.SEQUENCE))
        identifier, *parameters = der.elements(algorithm.content)
        name = der.dotted(der.only(identifier.der, der.OID))
        point = der.only(bits.der, der.BIT_STRING)
        if not point or point[0]:
            raise der.DerError("unused bits in a key")
        kind = _kind(name, parameters, allowed)
    except ValueError:
        raise PublicKeyMalformed(
            "The public key cannot be read: expected the DER of a SubjectPublicKeyInfo (RFC 5280 §4.1), and "
            "what "
            "came is damaged or something else. Send the key as the tool that made it wrote it.",
            expected="the DER of a SubjectPublicKeyInfo",
            received="what cannot be read as one",
        ) from None
    if kind.startswith("ecdsa") and point[1:] == b"\x00":
        raise _refused("it is the point at infinity", kind, allowed)
    try:
        public_key = serialization.load_der_public_key(spki)
    except (ValueError, UnsupportedAlgorithm):
        if kind.startswith("ecdsa"):
            raise _refused("it is not a point of its curve", kind, allowed) from None
        raise PublicKeyMalformed(
            f"The public key says that it is of kind {kind}, and its numbers cannot be read as such a key. "
            "Send the key as the tool that made it wrote it.",
            expected=kind,
            received="numbers that are no such key",
        ) from None
    match public_key:
        case rsa.RSAPublicKey():
            _check_rsa(public_key, allowed)
        case ed25519.Ed25519PublicKey():
            if weakness := ed25519_weakness(public_key.public_bytes_raw()):
                raise _refused(weakness, kind, allowed)
        case ec.EllipticCurvePublicKey():
            pass
        case _:
            raise _refused("it is of another kind than it says", kind, allowed)
    return ClientKey(public_key, spki_der(public_key), kind)


def _kind(algorithm: str, parameters: list[der.Element], allowed: frozenset[str]) -> str:
    if algorithm == _EC:
        if len(parameters) != 1 or parameters[0].tag != der.OID:
            raise _refused("its curve is given by explicit parameters instead of by name", "ecdsa", allowed)
        curve = der.dotted(parameters[0].content) if parameters[0].content else ""
        kind = _CURVES.get(curve, f"ecdsa on curve {curve}")
    else:
        kind = {_RSA: "rsa", _ED25519: "ed25519"}.get(algorithm, f"algorithm {algorithm}")
    if kind not in allowed:
        raise _refused("keys of this kind are not certified here", kind, allowed)
    return kind


def _check_rsa(public_key: rsa.RSAPublicKey, allowed: frozenset[str]) -> None:
    if public_key.key_size not in _RSA_BITS:
        raise _refused(
            f"its modulus has {public_key.key_size} bits, expected {_RSA_BITS[0]} to {_RSA_BITS[-1]} in "
            "steps of 8",
            "rsa",
            allowed,
        )
    numbers = public_key.public_numbers()
    if numbers.e != _RSA_EXPONENT:
        raise _refused(f"its public exponent is not {_RSA_EXPONENT}", "rsa", allowed)
    if weakness := rsa_weakness(numbers.n):
        raise _refused(weakness, "rsa", allowed)


def _refused(why: str, kind: str, allowed: frozenset[str]) -> PublicKeyRefused:
    accepted = ", ".join(sorted(allowed))
    return PublicKeyRefused(
        f"The public key ({kind}) is refused: {why}. Accepted here: {accepted}. Make a fresh key of such a "
        "kind.",
        expected=accepted,
        received=kind,
    )


def _check_self_signature(request: x509.CertificateSigningRequest) -> None:
    try:
        algorithm = request.signature_hash_algorithm
        if algorithm is not None and not isinstance(algorithm, _CSR_HASHES):
            raise ProofInvalid(
                f"The signing request is signed with {algorithm.name.upper()}; expected SHA-256, SHA-384 or "
                "SHA-512. "
                "Make the request again with one of these.",
                expected="sha256, sha384, sha512",
                received=algorithm.name,
            )
        valid = request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ProofInvalid(
            "The signing request is signed with an algorithm that cannot be checked; expected ECDSA, RSA or "
            "Ed25519 as its key is, with SHA-256, SHA-384 or SHA-512. Make the request again with one of "
            "these.",
            expected="ECDSA, RSA or Ed25519, with SHA-256, SHA-384 or SHA-512",
            received="another algorithm",
        ) from None
    if not valid:
        raise ProofInvalid(
            "The signing request is not signed by the key it holds, so nothing proves that its sender has "
            "that key. "
            "Sign the request with the private key that belongs to it.",
            expected="a signature of the request's own key",
            received="another signature",
        )
