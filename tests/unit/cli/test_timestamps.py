"""A timestamp authority's time counts when it is of that signature, and this of that certificate."""

import base64
import copy
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, Hash

from ca_service.cli.signature_files import SignatureFile, read_signature_file
from ca_service.cli.signing_time import SigningTime, signing_time
from ca_service.cli.timestamps import _signature

COSIGN = Path(__file__).parents[2] / "vectors" / "cosign"
TRUSTED = json.loads((COSIGN / "trusted_root_tsa.json").read_text())
SIGNED = datetime(2026, 11, 23, 17, 17, 23, tzinfo=UTC)

Document = dict[str, Any]


def recorded(name: str) -> Document:
    document: Document = json.loads((COSIGN / name).read_text())
    return document


def read(bundle: Document) -> SignatureFile:
    return read_signature_file(json.dumps(bundle).encode())


def told(folder: Path, bundle: Document, trusted: Document | None = None) -> SigningTime | None:
    """What the bundle tells about its time to somebody with this trusted root."""
    file = read(bundle)
    root = folder / "trusted_root.json"
    root.write_text(json.dumps(TRUSTED if trusted is None else trusted))
    assert file.bundle is not None
    return signing_time(file.bundle, file.certificate, root)


@pytest.mark.parametrize("name", ["timestamped.json", "attested.json"])
def test_the_time_of_a_trusted_authority_counts(name: str, tmp_path: Path) -> None:
    assert told(tmp_path, recorded(name)) == SigningTime(SIGNED, "tsa")


@pytest.mark.parametrize("name", ["timestamped.json", "attested.json"])
def test_without_a_trusted_root_it_is_what_the_bundle_says(name: str) -> None:
    file = read(recorded(name))
    assert file.bundle is not None
    assert signing_time(file.bundle, file.certificate, None) == SigningTime(SIGNED, "bundle")


def spoil(text: str) -> str:
    """Base64 of the same octets but the last, which is another."""
    octets = bytearray(base64.b64decode(text))
    octets[-1] ^= 1
    return base64.b64encode(octets).decode()


def another_signature(bundle: Document) -> None:
    bundle["messageSignature"]["signature"] = spoil(bundle["messageSignature"]["signature"])


def another_digest(bundle: Document) -> None:
    bundle["messageSignature"]["messageDigest"]["digest"] = spoil(
        bundle["messageSignature"]["messageDigest"]["digest"]
    )


def another_certificate(bundle: Document) -> None:
    material = recorded("attested.json")["verificationMaterial"]
    bundle["verificationMaterial"]["certificate"] = material["certificate"]


def another_timestamp(bundle: Document) -> None:
    material = recorded("attested.json")["verificationMaterial"]
    bundle["verificationMaterial"]["timestampVerificationData"] = material["timestampVerificationData"]


def another_algorithm(bundle: Document) -> None:
    bundle["messageSignature"]["messageDigest"]["algorithm"] = "SHA2_512"


def no_algorithm(bundle: Document) -> None:
    bundle["messageSignature"]["messageDigest"]["algorithm"] = ["SHA2_256"]


def no_signature(bundle: Document) -> None:
    del bundle["messageSignature"]


@pytest.mark.parametrize(
    "change",
    [
        another_signature,
        another_digest,
        another_certificate,
        another_timestamp,
        another_algorithm,
        no_algorithm,
        no_signature,
    ],
)
def test_a_timestamp_of_something_else_proves_nothing(
    change: Callable[[Document], None], tmp_path: Path
) -> None:
    bundle = recorded("timestamped.json")
    change(bundle)
    found = told(tmp_path, bundle)
    assert found is not None
    assert found.source == "bundle"


@pytest.mark.parametrize("part", ["payload", "payloadType", "signatures"])
def test_a_timestamp_of_another_statement_proves_nothing(part: str, tmp_path: Path) -> None:
    bundle = recorded("attested.json")
    envelope = bundle["dsseEnvelope"]
    if part == "payload":
        envelope["payload"] = base64.b64encode(b"another").decode()
    elif part == "payloadType":
        envelope["payloadType"] = "text/plain"
    else:
        envelope["signatures"] *= 2  # which of them is meant, nobody knows
    assert told(tmp_path, bundle) == SigningTime(SIGNED, "bundle")


def not_that_one(root: Document) -> None:
    # This service's own chain: no timestamp authority, but certificates all the same.
    root["timestampAuthorities"][0]["certChain"] = root["certificateAuthorities"][0]["certChain"]


def not_yet(root: Document) -> None:
    root["timestampAuthorities"][0]["validFor"] = {"start": "2026-11-23T17:17:24Z"}


def no_longer(root: Document) -> None:
    root["timestampAuthorities"][0]["validFor"]["end"] = "2026-11-23T17:17:22Z"


def nobody(root: Document) -> None:
    root["timestampAuthorities"] = []


def nonsense(root: Document) -> None:
    root["timestampAuthorities"] = [{"certChain": {"certificates": ["?"]}}]


def no_chain(root: Document) -> None:
    root["timestampAuthorities"][0]["certChain"] = {"certificates": []}


@pytest.mark.parametrize("change", [not_that_one, not_yet, no_longer, nobody, nonsense, no_chain])
def test_an_authority_that_is_not_trusted_proves_nothing(
    change: Callable[[Document], None], tmp_path: Path
) -> None:
    root = copy.deepcopy(TRUSTED)
    change(root)
    assert told(tmp_path, recorded("timestamped.json"), root) == SigningTime(SIGNED, "bundle")


def test_an_authority_is_trusted_to_its_last_moment_and_from_its_first(tmp_path: Path) -> None:
    root = copy.deepcopy(TRUSTED)
    root["timestampAuthorities"][0]["validFor"] = {
        "start": "2026-11-23T17:17:23Z",
        "end": "2026-11-23T17:17:23Z",
    }
    assert told(tmp_path, recorded("timestamped.json"), root) == SigningTime(SIGNED, "tsa")


@pytest.mark.parametrize(
    "timestamp",
    ["", "?", "MAA=", 7, None, ["a"]],
    ids=["empty", "no base64", "no timestamp", "a number", "null", "a list"],
)
def test_what_is_no_timestamp_is_passed_over(timestamp: object, tmp_path: Path) -> None:
    bundle = recorded("timestamped.json")
    data = bundle["verificationMaterial"]["timestampVerificationData"]
    data["rfc3161Timestamps"].insert(0, {"signedTimestamp": timestamp})
    assert told(tmp_path, bundle) == SigningTime(SIGNED, "tsa")
    data["rfc3161Timestamps"] = timestamp
    assert told(tmp_path, bundle) is None


# -- which signatures can be held against their certificate --------------------------------------------------


@pytest.mark.parametrize(
    ("key", "algorithm", "name"),
    [
        (ec.generate_private_key(ec.SECP256R1()), SHA256(), "SHA2_256"),
        (ec.generate_private_key(ec.SECP384R1()), SHA384(), "SHA2_384"),
        (ec.generate_private_key(ec.SECP521R1()), SHA512(), "SHA2_512"),
        (rsa.generate_private_key(65537, 2048), SHA256(), "SHA2_256"),
    ],
    ids=["P-256", "P-384", "P-521", "RSA"],
)
def test_a_signature_is_held_against_the_key_of_its_certificate(key: Any, algorithm: Any, name: str) -> None:
    digest = Hash(algorithm)
    digest.update(b"an artifact")
    how = (
        (ec.ECDSA(algorithm),)
        if isinstance(key, ec.EllipticCurvePrivateKey)
        else (padding.PKCS1v15(), algorithm)
    )

    class Certificate:
        def public_key(self) -> Any:
            return key.public_key()

    certificate: x509.Certificate = Certificate()  # type: ignore[assignment]  # all that is asked of it
    signature = key.sign(b"an artifact", *how)
    message: Document = {
        "signature": base64.b64encode(signature).decode(),
        "messageDigest": {"algorithm": name, "digest": base64.b64encode(digest.finalize()).decode()},
    }
    assert _signature({"messageSignature": message}, certificate) == signature
    message["messageDigest"]["digest"] = spoil(message["messageDigest"]["digest"])
    assert _signature({"messageSignature": message}, certificate) is None

    statement = b"DSSEv1 10 text/plain 9 statement"
    envelope: Document = {
        "payloadType": "text/plain",
        "payload": base64.b64encode(b"statement").decode(),
        "signatures": [{"sig": base64.b64encode(key.sign(statement, *how)).decode()}],
    }
    assert _signature({"dsseEnvelope": envelope}, certificate) is not None
    envelope["payloadType"] = "text/html"
    assert _signature({"dsseEnvelope": envelope}, certificate) is None


def test_ed25519_signs_statements_and_no_digests() -> None:
    key = ed25519.Ed25519PrivateKey.generate()

    class Certificate:
        def public_key(self) -> ed25519.Ed25519PublicKey:
            return key.public_key()

    certificate: x509.Certificate = Certificate()  # type: ignore[assignment]  # all that is asked of it
    signature = base64.b64encode(key.sign(b"DSSEv1 1 a 1 b")).decode()
    envelope = {
        "payloadType": "a",
        "payload": base64.b64encode(b"b").decode(),
        "signatures": [{"sig": signature}],
    }
    assert _signature({"dsseEnvelope": envelope}, certificate) is not None
    digest = {"algorithm": "SHA2_256", "digest": base64.b64encode(bytes(32)).decode()}
    message = {"signature": signature, "messageDigest": digest}
    assert _signature({"messageSignature": message}, certificate) is None
