"""Keys that anyone can break are found, and honest ones are not."""

import math

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from ca_service.pki.weak_keys import ed25519_weakness, rsa_weakness

_P = 2**255 - 19
_PRODUCT = math.prod(range(3, 2000, 2))


def _next_prime(number: int) -> int:
    number |= 1
    while math.gcd(number, _PRODUCT) != 1 or pow(2, number - 1, number) != 1:
        number += 2
    return number


def test_honest_keys_show_no_weakness() -> None:
    for _ in range(3):
        assert rsa_weakness(rsa.generate_private_key(65537, 2048).public_key().public_numbers().n) is None
        assert ed25519_weakness(ed25519.Ed25519PrivateKey.generate().public_key().public_bytes_raw()) is None


def test_tiny_factors_are_found() -> None:
    for factor in (2, 3, 751):
        assert rsa_weakness(factor * _next_prime(1 << 1024)) == "its modulus has a tiny factor"


def test_the_fingerprint_of_the_infineon_generator_is_found() -> None:
    # Primes as that generator made them: k·M + (65537^a mod M), M the product of the first primes.
    primorial = math.prod(p for p in range(2, 168) if all(p % d for d in range(2, p)))
    factors = []
    for a, start in ((101, 1 << 800), (202, 5 << 800)):
        k = start
        while True:
            candidate = k * primorial + pow(65537, a, primorial)
            if pow(2, candidate - 1, candidate) == 1:
                break
            k += 1
        factors.append(candidate)
    assert "ROCA" in str(rsa_weakness(math.prod(factors)))


def test_primes_too_close_together_are_found() -> None:
    p = _next_prime(3 << 1022)
    assert "too close" in str(rsa_weakness(p * _next_prime(p + 2)))
    assert "too close" in str(rsa_weakness(p * p))


def _double(x: int, y: int) -> tuple[int, int]:
    d = -121665 * pow(121666, -1, _P) % _P
    k = d * x * x * y * y
    return 2 * x * y * pow(1 + k, -1, _P) % _P, (y * y + x * x) * pow(1 - k, -1, _P) % _P


def test_all_points_of_low_order_are_found_however_they_are_written() -> None:
    order_8 = bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")
    y = int.from_bytes(order_8, "little")
    d = -121665 * pow(121666, -1, _P) % _P
    square = (y * y - 1) * pow(d * y * y + 1, -1, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    x = x if x * x % _P == square else x * pow(2, (_P - 1) // 4, _P) % _P
    point = (x, y)
    for _ in range(3):
        for coordinate in {point[1], _P - point[1]}:
            for sign in (0, 1 << 255):
                assert ed25519_weakness((coordinate | sign).to_bytes(32, "little")) is not None
        point = _double(*point)
    assert point == (0, 1)  # the neutral element: so the points before were all of its order
    for unreduced in (_P, _P + 1):
        assert "low order" in str(ed25519_weakness(unreduced.to_bytes(32, "little")))


@pytest.mark.parametrize(("y", "reason"), [(2, "not a point"), (_P + 2, "not reduced")])
def test_octets_that_are_no_point_are_found(y: int, reason: str) -> None:
    assert reason in str(ed25519_weakness(y.to_bytes(32, "little")))
