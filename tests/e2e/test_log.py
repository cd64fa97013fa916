"""The transparency log over HTTP, checked by a second implementation of RFC 6962 and its key alone."""

import base64
import hashlib
import random
import struct
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support import merkle
from tests.support.processes import RunningService
from tests.support.signing import Issued, issue
from tests.support.tokens import Tokens

EMAIL = "log@example.com"


class Monitor:
    """Reads a log as an outsider does and believes nothing it has not checked."""

    def __init__(self, service: RunningService, session: requests.Session, key_file: Path) -> None:
        self.base = f"{service.url}/ctlog/{service.shard()}"
        self.origin = self.base.partition("://")[2]
        self.session = session
        key = serialization.load_pem_public_key(key_file.read_bytes())
        assert isinstance(key, ec.EllipticCurvePublicKey)
        self.key = key
        self.log_id = hashlib.sha256(
            key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        ).digest()

    def get(self, call: str, **query: int | str) -> dict[str, Any]:
        reply = self.session.get(f"{self.base}/ct/v1/{call}", params=query, timeout=60)
        assert reply.status_code == 200, f"{call}: {reply.status_code} {reply.reason}"
        assert reply.headers["Access-Control-Allow-Origin"] == "*"
        document: dict[str, Any] = reply.json()
        return document

    def check_signature(self, signed: bytes, message: bytes) -> None:
        """Check a DigitallySigned struct: sha256, ecdsa, length, signature."""
        assert signed[:2] == b"\x04\x03"
        assert struct.unpack(">H", signed[2:4])[0] == len(signed) - 4
        self.key.verify(signed[4:], message, ec.ECDSA(hashes.SHA256()))

    def head(self) -> tuple[int, bytes]:
        """The size and root of the newest signed tree head, its signature checked."""
        sth = self.get("get-sth")
        root = base64.b64decode(sth["sha256_root_hash"])
        signed = struct.pack(">BBQQ", 0, 1, sth["timestamp"], sth["tree_size"]) + root
        self.check_signature(base64.b64decode(sth["tree_head_signature"]), signed)
        return sth["tree_size"], root

    def leaves(self, size: int) -> list[bytes]:
        """All leaf inputs below size, in as many answers as the log likes."""
        found: list[bytes] = []
        while len(found) < size:
            entries = self.get("get-entries", start=len(found), end=size - 1)["entries"]
            assert entries
            found += [base64.b64decode(entry["leaf_input"]) for entry in entries]
        return found


@pytest.fixture
def monitor(service: RunningService, session: requests.Session, trust: Path) -> Monitor:
    return Monitor(service, session, trust / "ctlog.pub")


@pytest.fixture
def some(service: RunningService, tokens: Tokens, session: requests.Session) -> list[Issued]:
    token = tokens.token(EMAIL)
    return [issue(session, service.url, token, EMAIL) for _ in range(5)]


def sct_of(leaf: x509.Certificate) -> tuple[bytes, int, bytes]:
    """The log id, timestamp in ms and CtExtensions of the one SCT, read from its bytes."""
    extension = leaf.extensions.get_extension_for_class(x509.PrecertificateSignedCertificateTimestamps)
    (sct,) = extension.value
    return sct.log_id, round(sct.timestamp.timestamp() * 1000), sct.extension_bytes


def test_the_signed_root_is_that_of_the_entries(monitor: Monitor, some: list[Issued]) -> None:
    size, root = monitor.head()
    assert size >= len(some)
    assert merkle.root_of([merkle.leaf_hash(leaf) for leaf in monitor.leaves(size)]) == root


def test_every_certificate_is_in_the_log_before_it_is_out_at_the_index_its_sct_names(
    monitor: Monitor, some: list[Issued]
) -> None:
    size, root = monitor.head()
    for issued in some:
        log_id, _, extensions = sct_of(issued.leaf)
        assert log_id == monitor.log_id
        assert extensions[:3] == b"\x00\x00\x05"
        index = int.from_bytes(extensions[3:])
        answer = monitor.get("get-entry-and-proof", leaf_index=index, tree_size=size)
        leaf = base64.b64decode(answer["leaf_input"])
        path = [base64.b64decode(node) for node in answer["audit_path"]]
        assert merkle.root_from_inclusion(index, size, merkle.leaf_hash(leaf), path) == root

        tbs = issued.leaf.tbs_precertificate_bytes
        assert len(tbs).to_bytes(3) + tbs in leaf
        spki = issued.issuing.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        assert leaf[12:44] == hashlib.sha256(spki).digest()
        sct = issued.leaf.extensions.get_extension_for_class(x509.PrecertificateSignedCertificateTimestamps)
        # What the SCT signs is the leaf, byte for byte.
        monitor.key.verify(sct.value[0].signature, leaf, ec.ECDSA(hashes.SHA256()))


def test_the_entrys_extra_data_is_the_precertificate_and_its_chain(
    monitor: Monitor, some: list[Issued]
) -> None:
    index = int.from_bytes(sct_of(some[0].leaf)[2][3:])
    (entry,) = monitor.get("get-entries", start=index, end=index)["entries"]
    rest = base64.b64decode(entry["extra_data"])

    def take(octets: bytes) -> tuple[bytes, bytes]:
        length = int.from_bytes(octets[:3])
        return octets[3 : 3 + length], octets[3 + length :]

    precertificate, rest = take(rest)
    chain, rest = take(rest)
    assert rest == b""
    certificates = []
    while chain:
        der, chain = take(chain)
        certificates.append(x509.load_der_x509_certificate(der))
    assert certificates == list(some[0].chain[1:])
    parsed = x509.load_der_x509_certificate(precertificate)
    assert parsed.serial_number == some[0].leaf.serial_number
    assert parsed.extensions.get_extension_for_class(x509.PrecertPoison).critical
    parsed.verify_directly_issued_by(some[0].issuing)


def test_proofs_by_hash_and_of_consistency_hold_for_any_sizes(monitor: Monitor, some: list[Issued]) -> None:
    size, _ = monitor.head()
    hashed = [merkle.leaf_hash(leaf) for leaf in monitor.leaves(size)]
    chance = random.Random(6962)
    for _ in range(20):
        second = chance.randint(1, size)
        index, first = chance.randrange(second), chance.randint(1, second)
        answer = monitor.get(
            "get-proof-by-hash", hash=base64.b64encode(hashed[index]).decode(), tree_size=second
        )
        assert answer["leaf_index"] == index
        path = [base64.b64decode(node) for node in answer["audit_path"]]
        assert path == merkle.inclusion_path(index, hashed[:second])
        proof = monitor.get("get-sth-consistency", first=first, second=second)["consistency"]
        expected = merkle.consistency_path(first, hashed[:second])
        assert [base64.b64decode(node) for node in proof] == expected


def test_the_checkpoint_is_the_signed_tree_head_as_a_note(monitor: Monitor, some: list[Issued]) -> None:
    reply = monitor.session.get(f"{monitor.base}/checkpoint", timeout=60)
    assert reply.headers["Content-Type"] == "text/plain; charset=utf-8"
    text, _, signatures = reply.content.decode().partition("\n\n")
    origin, size, root = text.split("\n")
    assert origin == monitor.origin
    name = f"— {origin} "
    (line,) = [line for line in signatures.splitlines() if line.startswith(name)]
    signature = base64.b64decode(line.removeprefix(name))
    key_id = hashlib.sha256(f"{origin}\n\x05".encode() + monitor.log_id).digest()[:4]
    assert signature[:4] == key_id
    signed = b"\x00\x01" + signature[4:12] + struct.pack(">Q", int(size)) + base64.b64decode(root)
    monitor.check_signature(signature[12:], signed)


def test_a_range_beyond_the_tree_is_clamped_not_refused(monitor: Monitor, some: list[Issued]) -> None:
    size, _ = monitor.head()
    assert len(monitor.get("get-entries", start=size - 1, end=size + 999)["entries"]) >= 1
