"""Which published keys are used, and why others are not."""

import warnings
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from ca_service.oidc.key_set import read_key_set
from tests.unit.oidc.issuer import b64, jwk, number

GOOD = ec.generate_private_key(ec.SECP256R1())
RSA_KEY = rsa.generate_private_key(65537, 2048)
SHORT = rsa.generate_private_key(65537, 1024)  # noqa: S505 - its weakness is what is tested
SMALL_EXPONENT = rsa.generate_private_key(3, 2048)


def off_curve() -> dict[str, Any]:
    return {**jwk(GOOD, "k"), "y": number(12345, 32)}


IGNORED: dict[str, dict[str, Any]] = {
    "for encryption": jwk(GOOD, "k", use="enc"),
    "not for verifying": jwk(GOOD, "k", key_ops=["sign"]),
    "key_ops of nonsense": jwk(GOOD, "k", key_ops="verify"),
    "symmetric": {"kty": "oct", "k": "c2VjcmV0", "kid": "k"},
    "a type of tomorrow": {"kty": "AKP", "alg": "ML-DSA-65", "pub": "AAAA", "kid": "k"},
    "without id": {name: value for name, value in jwk(GOOD, "k").items() if name != "kid"},
}

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "RSA with 1024 bits": (jwk(SHORT, "k"), "bits"),
    "RSA with exponent 3": (jwk(SMALL_EXPONENT, "k"), "exponent"),
    "RSA with 60,000 bits": ({"kty": "RSA", "n": "A" * 10_000, "e": "AQAB", "kid": "k"}, "8192"),
    "RSA with a tiny factor": (
        {"kty": "RSA", "n": number((1 << 2048) - 1), "e": "AQAB", "kid": "k"},
        "tiny factor",
    ),
    "Ed25519 of low order": (
        {"kty": "OKP", "crv": "Ed25519", "x": b64(b"\x01" + bytes(31)), "kid": "k"},
        "low order",
    ),
    "RSA that is half": ({"kty": "RSA", "n": jwk(RSA_KEY, "k")["n"], "kid": "k"}, "imported"),
    "a point off its curve": (off_curve(), ""),
    "secp256k1": ({**jwk(GOOD, "k"), "crv": "secp256k1"}, "curve"),
    "Ed448": (
        {
            "kty": "OKP",
            "crv": "Ed448",
            "x": b64(ed448.Ed448PrivateKey.generate().public_key().public_bytes_raw()),
            "kid": "k",
        },
        "Ed25519",
    ),
    "an alg that does not fit": (jwk(GOOD, "k", alg="RS256"), "alg"),
    "an alg that is no text": (jwk(GOOD, "k", alg=5), ""),
    "a private key": (jwk(GOOD, "k", d="AAAA"), "private"),
}


@pytest.mark.parametrize("name", sorted(IGNORED))
def test_keys_for_something_else_are_left_out(name: str) -> None:
    keys = read_key_set({"keys": [IGNORED[name], jwk(GOOD, "good")]})
    assert set(keys.keys) == {"good"}
    assert keys.refused == {}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_weak_and_broken_keys_are_refused_with_a_reason_and_do_not_spoil_the_rest(name: str) -> None:
    bad, says = REFUSED[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        keys = read_key_set({"keys": [bad, jwk(GOOD, "good")]})
    assert set(keys.keys) == {"good"}
    assert set(keys.refused) == {"k"}
    assert says in keys.refused["k"]


def test_a_key_is_for_the_algorithms_of_its_type_and_its_own_alg() -> None:
    edwards = ed25519.Ed25519PrivateKey.generate()
    keys = read_key_set(
        {
            "keys": [
                jwk(RSA_KEY, "any"),
                jwk(RSA_KEY, "one", alg="PS256", key_ops=["verify"], x5c=["nonsense"], x5t=7),
                jwk(edwards, "eddsa", alg="EdDSA"),
                jwk(ec.generate_private_key(ec.SECP384R1()), "p384"),
            ]
        }
    ).keys
    assert keys["any"][0].algorithms == {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
    assert keys["one"][0].algorithms == {"PS256"}
    assert keys["eddsa"][0].algorithms == {"EdDSA", "Ed25519"}
    assert keys["p384"][0].algorithms == {"ES384"}


@pytest.mark.parametrize("document", [{}, {"keys": {}}, {"keys": None}])
def test_a_document_without_a_list_of_keys_is_none(document: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="keys"):
        read_key_set(document)


def test_entries_that_are_no_objects_are_skipped() -> None:
    assert set(read_key_set({"keys": [1, None, "x", jwk(GOOD, "good")]}).keys) == {"good"}
