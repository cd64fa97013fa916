"""An issuer's published keys (RFC 7517), imported once per load; weak and unfit ones are refused."""

from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from ca_service.pki.weak_keys import ed25519_weakness, rsa_weakness

_MIN_RSA_BITS = 2048
_MAX_RSA_BITS = 8192
_MIN_RSA_EXPONENT = 65537
_MAX_KEYS = 256

_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_EC = {"P-256": frozenset({"ES256"}), "P-384": frozenset({"ES384"}), "P-521": frozenset({"ES512"})}
_EDWARDS = frozenset({"EdDSA", "Ed25519"})

SigningKey = RSAKey | ECKey | OKPKey


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """One imported public key and the algorithms it may verify."""

    algorithms: frozenset[str]
    key: SigningKey

    def verify(self, algorithm: str, signing_input: bytes, signature: bytes) -> bool:
        """Say whether the signature is this key's over the input; `algorithm` is one of `algorithms`."""
        return JWSRegistry.algorithms[algorithm].verify(signing_input, signature, self.key)


@dataclass(frozen=True, slots=True)
class KeySet:
    """An issuer's keys by `kid`; `refused` holds, by `kid` too, why a published key is not used."""

    keys: Mapping[str, tuple[VerificationKey, ...]]
    refused: Mapping[str, str]


def read_key_set(document: Mapping[str, object]) -> KeySet:
    """Import a JWK Set; raises ValueError with a sentence when it is none.

    Keys for other uses, of other types, and without `kid` are left out; one bad key does not spoil the rest.
    """
    published = document.get("keys")
    if not isinstance(published, list):
        raise ValueError("it has no list of 'keys'")  # noqa: TRY004 -- the shape of the document is wrong
    keys: dict[str, tuple[VerificationKey, ...]] = {}
    refused: dict[str, str] = {}
    for jwk in published[:_MAX_KEYS]:
        kid = jwk.get("kid") if isinstance(jwk, dict) else None
        if not isinstance(kid, str) or not _is_for_signatures(jwk):
            continue
        try:
            keys[kid] = (*keys.get(kid, ()), _import(jwk))
        except (JoseError, ValueError, KeyError, TypeError, UnsupportedAlgorithm) as problem:
            refused[kid] = str(problem) if type(problem) is ValueError else "it cannot be imported"
    return KeySet(keys, refused)


def _is_for_signatures(jwk: Mapping[str, object]) -> bool:
    operations = jwk.get("key_ops")
    return (
        jwk.get("kty") in ("RSA", "EC", "OKP")
        and jwk.get("use", "sig") == "sig"
        and (operations is None or (isinstance(operations, list) and "verify" in operations))
    )


def _import(jwk: dict[str, str | list[str]]) -> VerificationKey:
    if "d" in jwk:
        raise ValueError("its issuer publishes the private key")
    # The certificate members are not used, and would have to be checked if they were taken along.
    members = {name: value for name, value in jwk.items() if not name.startswith("x5")}
    key: SigningKey
    if jwk["kty"] == "RSA":
        key, algorithms = RSAKey.import_key(_checked_size(members)), _RSA
        _check_rsa(key.public_key)
    elif jwk["kty"] == "EC":
        if not isinstance(jwk.get("crv"), str) or jwk["crv"] not in _EC:
            raise ValueError(f"its curve is not one of {', '.join(_EC)}")
        key, algorithms = ECKey.import_key(members), _EC[str(jwk["crv"])]
    else:
        if jwk.get("crv") != "Ed25519":
            raise ValueError("its curve is not Ed25519")
        edwards = OKPKey.import_key(members)
        if weakness := ed25519_weakness(edwards.public_key.public_bytes_raw()):
            raise ValueError(weakness)
        key, algorithms = edwards, _EDWARDS
    only = jwk.get("alg")
    if only is not None:
        # RFC 7517 §4.4; EdDSA and Ed25519 name the same signatures for this key (RFC 9864 §2.2).
        meant = _EDWARDS if only in _EDWARDS else frozenset({only} if isinstance(only, str) else ())
        algorithms &= meant
    if not algorithms:
        raise ValueError("its 'alg' does not fit its type")
    return VerificationKey(algorithms, key)


def _checked_size(members: dict[str, str | list[str]]) -> dict[str, str | list[str]]:
    """Look at the modulus before it is imported: joserfc warns of a short one, and a huge one is slow."""
    bits = len(members.get("n", "")) * 6
    if bits > _MAX_RSA_BITS + 64:
        raise ValueError(f"it is RSA with more than {_MAX_RSA_BITS} bits")
    if bits < _MIN_RSA_BITS - 8:
        raise ValueError(f"it is RSA with fewer than {_MIN_RSA_BITS} bits")
    return members


def _check_rsa(key: rsa.RSAPublicKey) -> None:
    numbers = key.public_numbers()
    if key.key_size < _MIN_RSA_BITS:
        raise ValueError(f"it is RSA with {key.key_size} bits; at least {_MIN_RSA_BITS} are needed")
    if numbers.e < _MIN_RSA_EXPONENT or numbers.e % 2 == 0:
        raise ValueError(f"its RSA exponent is {numbers.e}; odd ones from {_MIN_RSA_EXPONENT} are taken")
    if weakness := rsa_weakness(numbers.n):
        raise ValueError(weakness)
