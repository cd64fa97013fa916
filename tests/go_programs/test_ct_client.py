"""Google's client for CT logs reads the log as it reads any other, and verifies all that it verifies."""

import base64
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ca_service.pki.sct import scts_of
from tests.support.processes import RunningService
from tests.support.signing import Issued, issue
from tests.support.tokens import TokenDesk

EMAIL = "ct-client@example.com"
Client = Callable[..., str]


@pytest.fixture
def issued(service: RunningService, tokens: TokenDesk, session: requests.Session) -> Issued:
    return issue(session, service.url, tokens.token(EMAIL), EMAIL)


@pytest.fixture
def client(programs: Path, service: RunningService, trust: Path, issued: Issued) -> Client:
    """A verb of it, to its success, with the log's key; returns what it prints."""

    def run(verb: str, *arguments: str | Path, key: Path = trust / "ctlog.pub") -> str:
        where = ("--log_uri", f"{service.url}/ctlog/{service.shard()}", "--pub_key", key)
        done = subprocess.run(
            [programs / "ctclient", verb, *where, *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def tree(told: str) -> tuple[str, str]:
    """Size and hash of the tree head that it prints."""
    found = re.search(r"\(size=(\d+)\).*hash ([0-9a-f]{64})", told)
    assert found, told
    return found[1], found[2]


def test_it_verifies_the_tree_head_by_the_key_that_is_exported(client: Client, tmp_path: Path) -> None:
    assert int(tree(client("get-sth"))[0]) > 0
    other = tmp_path / "other.pub"
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    other.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(AssertionError, match="failed to verify"):
        client("get-sth", key=other)


def test_it_finds_a_precertificate_by_what_was_promised(
    client: Client, service: RunningService, issued: Issued, session: requests.Session, tmp_path: Path
) -> None:
    """From it, and timestamp and extension of the SCT, to the root of a tree that the log signed."""
    (sct,) = scts_of(issued.leaf)
    assert sct.leaf_index is not None
    at = {"start": sct.leaf_index, "end": sct.leaf_index}
    (entry,) = session.get(
        f"{service.url}/ctlog/{service.shard()}/ct/v1/get-entries", params=at, timeout=60
    ).json()["entries"]
    extra = base64.b64decode(entry["extra_data"])
    length = int.from_bytes(extra[:3], "big")
    precertificate = x509.load_der_x509_certificate(extra[3 : 3 + length])
    chain = tmp_path / "chain.pem"
    chain.write_bytes(
        b"".join(each.public_bytes(Encoding.PEM) for each in (precertificate, *issued.chain[1:]))
    )
    told = client(
        "get-inclusion-proof",
        *("--cert_chain", chain, "--timestamp", str(sct.timestamp)),
        *("--extensions", f"000005{sct.leaf_index:010x}"),
    )
    assert "Verified that hash" in told


def test_it_proves_that_the_log_only_grows(
    client: Client, service: RunningService, tokens: TokenDesk, session: requests.Session
) -> None:
    size, root = tree(client("get-sth"))
    issue(session, service.url, tokens.token(EMAIL), EMAIL)
    grown, root_then = tree(client("get-sth"))
    assert int(grown) > int(size)
    heads = ("--prev_size", size, "--prev_hash", root, "--size", grown, "--tree_hash", root_then)
    assert "Verified that hash" in client("get-consistency-proof", *heads)
    lie = base64.b64encode(bytes(32)).decode()
    with pytest.raises(AssertionError, match="Failed to VerifyConsistency"):
        client("get-consistency-proof", *heads[:2], "--prev_hash", lie, *heads[4:])


def test_it_reads_every_entry_and_the_root(client: Client, issued: Issued) -> None:
    size, _ = tree(client("get-sth"))
    told = client("get-entries", "--first", "0", "--last", str(int(size) - 1))
    assert told.count("pre-certificate from issuer with keyhash") == int(size)
    assert f"0x{issued.leaf.serial_number:x}" in told
    assert f"0x{issued.chain[-1].serial_number:x}" in client("get-roots")
