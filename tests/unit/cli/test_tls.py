"""The server's own certificate: refused with the setting's name, taken up anew when it was renewed."""

import datetime as dt
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ca_service.cli.tls import RenewedContext, load_context
from ca_service.errors import ConfigurationError


def put(folder: Path, name: str = "ca.example.com") -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    chain, private = folder / "tls.pem", folder / "tls.key"
    for file, content in (
        (chain, certificate.public_bytes(serialization.Encoding.PEM)),
        (
            private,
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        ),
    ):
        # As renewals do: what stands there before and after is never the same file, however soon it comes.
        new = file.with_suffix(".new")
        new.write_bytes(content)
        new.chmod(0o600)
        new.replace(file)
    return chain, private


def test_a_renewed_certificate_is_used_for_the_next_connection(tmp_path: Path) -> None:
    complaints: list[str] = []
    renewed = RenewedContext(*put(tmp_path), complaints.append)
    first = renewed(None, None)
    assert renewed(None, None) is first
    put(tmp_path)
    assert renewed(None, None) is not first
    assert not complaints


def test_a_wrong_renewal_keeps_the_old_certificate_and_is_told_once(tmp_path: Path) -> None:
    complaints: list[str] = []
    chain, key = put(tmp_path)
    renewed = RenewedContext(chain, key, complaints.append)
    first = renewed(None, None)
    chain.write_text("rubbish")
    assert [renewed(None, None), renewed(None, None)] == [first, first]
    assert len(complaints) == 1
    assert "[server] tls_certificate" in complaints[0]
    chain.unlink()
    assert renewed(None, None) is first


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    chain, key = put(tmp_path)
    key.chmod(0o644)
    with pytest.raises(ConfigurationError, match=r"tls_key: .* can be read by other users"):
        load_context(chain, key)
    key.chmod(0o600)
    with pytest.raises(ConfigurationError, match=r"cannot be read: No such file"):
        load_context(tmp_path / "none.pem", key)
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(
        ConfigurationError, match=r"tls_certificate.*are not a certificate and its private key"
    ):
        load_context(chain, put(other)[1])


def test_an_encrypted_key_is_refused_without_a_question(tmp_path: Path) -> None:
    chain, key = put(tmp_path)
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    key.chmod(0o600)
    with pytest.raises(ConfigurationError, match="without a passphrase"):
        load_context(chain, key)
