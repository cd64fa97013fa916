"""Client keys that anyone can break: fingerprints and factors that show without any secret."""

import math

_SMALL_PRIMES = tuple(n for n in range(2, 752) if all(n % d for d in range(2, math.isqrt(n) + 1)))
_SMALL_PRODUCT = math.prod(_SMALL_PRIMES)

# The primes for which the powers of 65537 do not cover all residues, in the ROCA paper's test
# (Nemec et al., CCS 2017): a modulus of Infineon's generator is a power of 65537 modulo each of them.
_ROCA_PRIMES = (11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157)
_ROCA_POWERS = tuple((p, frozenset(pow(65537, n, p) for n in range(p))) for p in _ROCA_PRIMES)

_FERMAT_ROUNDS = 100

_P25519 = 2**255 - 19
_D25519 = -121665 * pow(121666, -1, _P25519) % _P25519
_ORDER_8_Y = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_LOW_ORDER_Y = frozenset({0, 1, _P25519 - 1, _ORDER_8_Y, _P25519 - _ORDER_8_Y})


def rsa_weakness(modulus: int) -> str | None:
    """What makes this RSA modulus easy to factor, as half a sentence, or None when nothing is found.

    Looks for tiny factors, the ROCA fingerprint (CVE-2017-15361) and two primes that are too close
    (Fermat's method, CVE-2022-26320).
    """
    if math.gcd(modulus, _SMALL_PRODUCT) != 1:
        return "its modulus has a tiny factor"
    if all(modulus % prime in powers for prime, powers in _ROCA_POWERS):
        return "its modulus has the ROCA fingerprint (CVE-2017-15361)"
    if _close_primes(modulus):
        return "its two primes are too close together"
    return None


def _close_primes(modulus: int) -> bool:
    a = math.isqrt(modulus - 1) + 1
    for _ in range(_FERMAT_ROUNDS):
        remainder = a * a - modulus
        if math.isqrt(remainder) ** 2 == remainder:
            return True
        a += 1
    return False


def ed25519_weakness(raw: bytes) -> str | None:
    """What is wrong with these 32 octets as an Ed25519 public key (RFC 8032 §5.1.3), or None.

    Low-order points verify signatures that nobody made; other octets are no point of the curve at all.
    """
    y = int.from_bytes(raw, "little") & (2**255 - 1)
    if y % _P25519 in _LOW_ORDER_Y:
        return "it is a point of low order"
    if y >= _P25519:
        return "its coordinate is not reduced"
    u, v = y * y - 1, _D25519 * y * y + 1
    is_square = pow(u * pow(v, -1, _P25519), (_P25519 - 1) // 2, _P25519) == 1
    return None if is_square else "it is not a point of the curve"
