"""The five operations no certificate can be issued without, and what they cost on this machine now.

They are measured on all cores at the same time, because that is how they run in a service under load. What a
core does alone it does quicker, by a quarter to a half where two of them are threads of one, or share caches
and clock: held against that, the same service would look the worse the better it uses the machine. What they
cost alone is measured too, and shown.
"""

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

_LOOPS, _ROUNDS = 100, 5
_TBS_OCTETS = 750
"""About what the service's leaf has to be signed over; the size hardly matters."""


class Floor:
    """The operations with keys that are made once, P-256 and RSA-2048, so that they can be measured often."""

    def __init__(self) -> None:
        sha256 = ec.ECDSA(hashes.SHA256())
        issuer = rsa.generate_private_key(65537, 2048)
        token = b"x" * 700
        token_signature = issuer.sign(token, padding.PKCS1v15(), hashes.SHA256())
        issuer_public = issuer.public_key()
        signer = ec.generate_private_key(ec.SECP256R1())
        challenge = b"somebody@example.com"
        proof = signer.sign(challenge, sha256)
        signer_public = signer.public_key()
        authority = ec.generate_private_key(ec.SECP256R1())
        log = ec.generate_private_key(ec.SECP256R1())
        tbs = b"x" * _TBS_OCTETS
        self._operations: Mapping[str, Callable[[], object]] = {
            "verify the RS256 token": lambda: issuer_public.verify(
                token_signature, token, padding.PKCS1v15(), hashes.SHA256()
            ),
            "verify the P-256 proof": lambda: signer_public.verify(proof, challenge, sha256),
            "sign the precertificate": lambda: authority.sign(tbs, sha256),
            "sign the SCT": lambda: log.sign(tbs, sha256),
            "sign the certificate": lambda: authority.sign(tbs, sha256),
        }

    def measure(self) -> dict[str, float]:
        """CPU microseconds of each operation, with cryptography as the service uses it."""
        return {name: _microseconds(operation) for name, operation in self._operations.items()}


class BusyFloor:
    """The floor on all cores at once; use it as a context."""

    def __init__(self) -> None:
        self._floor = Floor()
        context = multiprocessing.get_context("spawn")
        self._others: list[tuple[Connection, multiprocessing.process.BaseProcess]] = []
        for _ in range(len(os.sched_getaffinity(0)) - 1):
            ours, theirs = context.Pipe()
            other = context.Process(target=_serve, args=(theirs,), daemon=True)
            other.start()
            self._others.append((ours, other))
        self.alone: list[float] = []
        """What all five cost one core while the others were idle, each time it was measured."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for ours, other in self._others:
            ours.close()
            other.join()

    def measure(self) -> dict[str, float]:
        """CPU microseconds of each operation, the mean of the cores."""
        self.alone.append(sum(self._floor.measure().values()))
        for ours, _ in self._others:
            ours.send(True)
        measured = [self._floor.measure(), *(ours.recv() for ours, _ in self._others)]
        return {name: statistics.mean(each[name] for each in measured) for name in measured[0]}


def _serve(asked: Connection) -> None:
    floor = Floor()
    while True:
        try:
            asked.recv()
        except EOFError:
            return
        asked.send(floor.measure())


def _microseconds(operation: Callable[[], object]) -> float:
    """CPU microseconds for one call: the median of rounds, each a mean over many calls."""
    rounds = []
    for _ in range(_ROUNDS):
        before = time.process_time()
        for _ in range(_LOOPS):
            operation()
        rounds.append((time.process_time() - before) / _LOOPS * 1e6)
    return statistics.median(rounds)
