"""A certificate is found in whatever a signing client wrote, and never one of several."""

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from cryptography.x509.oid import NameOID

from ca_service.cli.signature_files import read_signature_file
from ca_service.cli.signing_time import signing_time
from tests.unit.cli.conftest import Host, run

COSIGN = Path(__file__).parents[2] / "vectors" / "cosign"
TRUSTED_ROOT = COSIGN / "trusted_root.json"
KEY = ec.generate_private_key(ec.SECP256R1())


def certificate(name: str, *, authority: bool = False) -> x509.Certificate:
    called = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(called)
        .issuer_name(called)
        .public_key(KEY.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(minutes=10))
    )
    if authority:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return builder.sign(KEY, SHA256())


LEAF = certificate("leaf")


def cms(leaf: x509.Certificate) -> bytes:
    """A signature as gitsign makes it: CMS without the content, with the chain, in PEM of its own name."""
    der = (
        pkcs7.PKCS7SignatureBuilder()
        .set_data(b"tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n")
        .add_signer(leaf, KEY, SHA256())
        .add_certificate(certificate("authority", authority=True))
        .sign(Encoding.DER, [pkcs7.PKCS7Options.DetachedSignature])
    )
    lines = base64.encodebytes(der).decode()
    return f"-----BEGIN SIGNED MESSAGE-----\n{lines}-----END SIGNED MESSAGE-----\n".encode()


def commit(signature: bytes, message: bytes = b"say what is new\n") -> bytes:
    indented = signature.strip().replace(b"\n", b"\n ")
    head = b"tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor A <a@example.com> 1795452028 +0000\n"
    return head + b"gpgsig " + indented + b"\n\n" + message


@pytest.mark.parametrize(
    ("file", "subject", "minute"),
    [
        ("bundle.json", "4a82b024a502b584062f7802ed5f8eb5466abdc0", "2026-11-23T16:40"),
        ("downloaded.json", "660a60dfc4c1bd8a63374208c25c2fc566a9f7d8", "2026-11-23T16:40"),
    ],
)
def test_cosign_2_and_when_its_log_took_the_signature(file: str, subject: str, minute: str) -> None:
    read = read_signature_file((COSIGN / file).read_bytes())
    assert f"{read.certificate.serial_number:040x}" == subject
    assert read.bundle is not None
    signed = signing_time(read.bundle, read.certificate, TRUSTED_ROOT)
    assert signed is not None
    assert (signed.source, f"{signed.moment:%Y-%m-%dT%H:%M}") == ("rekor", minute)


def test_a_log_entry_of_cosign_2_about_another_certificate_proves_no_time() -> None:
    written = json.loads((COSIGN / "bundle.json").read_text())
    written["cert"] = base64.b64encode(LEAF.public_bytes(Encoding.PEM)).decode()
    read = read_signature_file(json.dumps(written).encode())
    assert read.certificate == LEAF
    assert read.bundle is not None
    signed = signing_time(read.bundle, read.certificate, TRUSTED_ROOT)
    assert signed is not None
    assert signed.source == "bundle"


def test_a_signature_of_cosign_2_that_no_log_took_has_no_time() -> None:
    written = json.loads((COSIGN / "bundle.json").read_text())
    del written["rekorBundle"]
    read = read_signature_file(json.dumps(written).encode())
    assert read.bundle is not None
    assert signing_time(read.bundle, read.certificate, TRUSTED_ROOT) is None


def test_the_certificate_file_of_cosign_2() -> None:
    read = read_signature_file((COSIGN / "certificate.base64").read_bytes())
    assert f"{read.certificate.serial_number:040x}" == "1284e7becf0fb33e528338e8975136cc68046ab4"
    assert read.bundle is None


@pytest.mark.parametrize(
    "content",
    [
        LEAF.public_bytes(Encoding.PEM),
        LEAF.public_bytes(Encoding.DER),
        b"Certificate:\n  Data: as text\n" + LEAF.public_bytes(Encoding.PEM),
        cms(LEAF),
        commit(cms(LEAF)),
        b"object 1\ntype commit\ntag v1\n\nnew\n" + cms(LEAF),
    ],
    ids=["PEM", "DER", "PEM after text", "CMS", "commit", "tag"],
)
def test_other_forms(content: bytes) -> None:
    read = read_signature_file(content)
    assert (read.certificate, read.bundle) == (LEAF, None)


def test_der_that_ends_like_a_line_is_read_to_its_end() -> None:
    # A self-signed certificate ends in its signature, whose last octet is any.
    found = next(each for each in iter(lambda: certificate("x"), None) if each.signature[-1:].isspace())
    assert read_signature_file(found.public_bytes(Encoding.DER)).certificate == found


@pytest.mark.parametrize(
    "content",
    [
        (COSIGN / "downloaded.json").read_bytes() * 2,
        commit(cms(LEAF), message=b"as before:\n" + cms(certificate("a good one"))),
    ],
    ids=["two lines", "a commit whose message has another"],
)
def test_of_several_signatures_none_is_taken(content: bytes) -> None:
    with pytest.raises(ValueError, match="there are 2 signatures here; give one at a time"):
        read_signature_file(content)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"{}",
        b'{"cert": 7}',
        b'{"cert": "LS0t"}',
        b'{"Cert": null}',
        b'{"verificationMaterial": []}',
        b'{"verificationMaterial": {"certificate": {"rawBytes": "MAA="}}}',
        b'{"cert": "'
        + base64.b64encode(LEAF.public_bytes(Encoding.PEM))
        + b'", "rekorBundle": {"Payload": {}}}',
        b"{" * 100_000,
        b'{"a":' * 100_000,
        b"\xff\xfe",
        b"{\xff",
        b"0\x00",
        b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
        b"-----BEGIN SIGNED MESSAGE-----\nMAA=\n-----END SIGNED MESSAGE-----\n",
        cms(certificate("an authority alone", authority=True)),
    ],
)
def test_what_is_none_is_told_what_was_expected(content: bytes) -> None:
    with pytest.raises(
        ValueError, match="holds no certificate; expected PEM, DER, a Sigstore bundle, or what"
    ):
        read_signature_file(content)


def test_status_takes_them_from_standard_input(host: Host) -> None:
    pem = base64.b64encode(host.leaf.public_bytes(Encoding.PEM)).decode()
    done = run("status", "-", "--config", host.config, stdin=json.dumps({"cert": pem}).encode())
    assert (done.exit_code, done.output.splitlines()[0]) == (0, f"{host.serial}: good")
