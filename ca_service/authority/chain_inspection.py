"""Inspecting the chain of an entry: once for each of the few chains that a log's entries have."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from ca_service.authority.finding import Finding
from ca_service.pki.keys import spki_der
from ca_service.pki.logged import VerifySignature, signature_verifier

_PRINT_OCTETS = 32


@dataclass(frozen=True, slots=True)
class InspectedChain:
    """What an entry's chain says of it, or what is wrong with the chain.

    `verify` is None when the chain does not tell whose key signed.
    """

    issuer_key_hash: bytes = b""
    verify: VerifySignature | None = None
    wrong: tuple[Finding, ...] = ()


def inspect_chain(
    where: str, prints: bytes, certificates: Mapping[bytes, bytes], roots: frozenset[bytes]
) -> InspectedChain:
    """Judge the chain of these fingerprints, one after the other, at the first entry that has it.

    `certificates` are the stored chain certificates by fingerprint, `roots` the DER of the roots that are
    trusted.
    """
    place = f"{where}, chain"
    cut = [prints[i : i + _PRINT_OCTETS] for i in range(0, len(prints), _PRINT_OCTETS)]
    ders = [certificates.get(each) for each in cut]
    missing = [each for each, der in zip(cut, ders, strict=True) if der is None]
    if missing or not ders:
        named = f"the unknown fingerprint {missing[0].hex()}" if missing else "an empty chain"
        return InspectedChain(wrong=(Finding("chain", place, "fingerprints of stored certificates", named),))
    wrong: list[Finding] = []
    try:
        read = [x509.load_der_x509_certificate(der) for der in ders if der is not None]
        for child, parent in pairwise(read):
            child.verify_directly_issued_by(parent)
        key = read[0].public_key()
        verify = signature_verifier(key)
    except (ValueError, TypeError, InvalidSignature) as error:
        said = str(error) or "a signature that does not verify"
        expected = "certificates, each signed by the next"
        return InspectedChain(wrong=(Finding("chain", place, expected, said),))
    if ders[-1] not in roots:
        subject = read[-1].subject.rfc4514_string()
        wrong.append(
            Finding(
                "chain-root",
                place,
                "a chain to the root that the settings name",
                f"another root, {subject!r}, SHA-256 {cut[-1].hex()}",
            )
        )
    return InspectedChain(hashlib.sha256(spki_der(key)).digest(), verify, tuple(wrong))
