"""The log goes over to its next shard while certificates are issued; nobody notices but by the SCTs."""

import base64
import functools
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from sigstore._internal.sct import verify_sct
from sigstore._internal.trust import KeyringPurpose
from sigstore.errors import VerificationError
from sigstore.models import Bundle, ClientTrustConfig
from sigstore.oidc import IdentityToken
from sigstore.sign import SigningContext
from sigstore.verify import Verifier, policy

from ca_service.vocabulary import parse_time
from tests.e2e.test_log import Monitor, sct_of
from tests.support import merkle, static_log
from tests.support.processes import RunningService, dev_service, http, running, wait_until
from tests.support.rekor import LocalRekor
from tests.support.signing import Issued, bearer, key_body, new_key, read_chain
from tests.support.tokens import TokenDesk

EMAIL = "rotation@example.com"
THREADS = 4
EACH_SIDE = 60
LIFETIME = 30
_PAUSE = 0.05  # in each thread: the workers and the command need the same two cores


class Load:
    """Threads that get certificates until they are stopped, and keep every answer."""

    def __init__(self, service: RunningService) -> None:
        self.service = service
        self.token = TokenDesk(service).token(EMAIL)
        self.issued: list[Issued] = []
        self.refused: list[requests.Response] = []
        self.failed: list[BaseException] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(THREADS)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        try:
            with http() as session:
                while not self._stop.wait(_PAUSE):
                    key = new_key()
                    reply = session.post(
                        f"{self.service.url}/api/v2/signingCert",
                        json=key_body(key, EMAIL),
                        headers=bearer(self.token),
                        timeout=60,
                    )
                    if reply.status_code == 200:
                        self.issued.append(Issued(read_chain(reply), key))
                    else:
                        self.refused.append(reply)
        except BaseException as error:
            self.failed.append(error)
            raise

    def count(self, log_id: bytes) -> int:
        return sum(sct_of(issued.leaf)[0] == log_id for issued in list(self.issued))

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


class ShardMonitor(Monitor):
    """A monitor of one shard, which knows it from trusted_root.json alone."""

    def __init__(self, session: requests.Session, log: dict[str, object], folder: Path) -> None:
        key = log["publicKey"]
        assert isinstance(key, dict)
        public = serialization.load_der_public_key(base64.b64decode(key["rawBytes"]))
        self.name = str(log["baseUrl"]).rpartition("/")[2]
        pem = folder / f"{self.name}.pub"
        pem.write_bytes(
            public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
        url = str(log["baseUrl"])
        super().__init__(_At(url.partition("/ctlog/")[0], self.name), session, pem)  # type: ignore[arg-type]
        self.valid_for = key["validFor"]

    def certificate_at(self, index: int, size: int, root: bytes) -> bytes:
        """The leaf at an index, its inclusion proof checked."""
        answer = self.get("get-entry-and-proof", leaf_index=index, tree_size=size)
        leaf = base64.b64decode(answer["leaf_input"])
        path = [base64.b64decode(node) for node in answer["audit_path"]]
        assert merkle.root_from_inclusion(index, size, merkle.leaf_hash(leaf), path) == root
        return leaf


class _At:
    """What a monitor needs of a service: its URL, and the name of a shard."""

    def __init__(self, url: str, shard: str) -> None:
        self.url = url
        self._shard = shard

    def shard(self) -> str:
        return self._shard


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RunningService]:
    environ = {"CASVC_AUTHORITY__LIFETIME_SECONDS": str(LIFETIME), "CASVC_LOG__EXPORT_DIR": "public"}
    made = dev_service(tmp_path / "ca", environ=environ)
    with running(made) as started:
        yield started


def ctlogs(own: RunningService, session: requests.Session) -> list[dict[str, object]]:
    found: list[dict[str, object]] = session.get(f"{own.url}/trust/trusted_root.json", timeout=60).json()[
        "ctlogs"
    ]
    return found


def both_logs(own: RunningService, session: requests.Session) -> list[dict[str, Any]]:
    """The two logs of trusted_root.json, once the worker that answers has seen the second."""

    def both() -> list[dict[str, Any]] | None:
        listed = ctlogs(own, session)
        return listed if len(listed) > 1 else None

    listed = wait_until(both, 60, "two logs in trusted_root.json")
    assert listed is not None
    assert len(listed) == 2
    return listed


def index_of(leaf: x509.Certificate) -> int:
    return int.from_bytes(sct_of(leaf)[2][3:])


def export(own: RunningService, rekor: LocalRekor, out: Path) -> ClientTrustConfig:
    key = rekor.write_key(out.with_name(out.name + "-rekor.pub"))
    folder = own.export_trust(out, {rekor.url: key})
    return ClientTrustConfig.from_json((folder / "client_trust_config.json").read_text())


def signed(own: RunningService, trust: ClientTrustConfig) -> Bundle:
    token = IdentityToken(TokenDesk(own).token(EMAIL))
    with SigningContext.from_trust_config(trust).signer(token) as signer:
        return signer.sign_artifact(b"an artifact")


def test_the_log_rotates_under_load_and_stock_clients_verify_before_and_after(
    own: RunningService, rekor: LocalRekor, session: requests.Session, tmp_path: Path
) -> None:
    before = export(own, rekor, tmp_path / "before")
    bundle_before = signed(own, before)
    (first,) = [ShardMonitor(session, log, tmp_path) for log in ctlogs(own, session)]
    load = Load(own)
    try:
        wait_until(lambda: load.count(first.log_id) >= EACH_SIDE, 60, "certificates of the first shard")
        early_size, early_root = first.head()
        prepared = json.loads(own.admin("log", "rotate", "--now", "--json"))
        _, second = [ShardMonitor(session, log, tmp_path) for log in both_logs(own, session)]
        assert (second.name, second.log_id.hex()) == (prepared["shard"], prepared["log_id"])
        wait_until(lambda: load.count(second.log_id) >= EACH_SIDE, 60, "certificates of the second shard")
    finally:
        load.stop()
    assert not load.failed
    assert not load.refused, [reply.text for reply in load.refused]

    after = export(own, rekor, tmp_path / "after")
    bundle_after = signed(own, after)
    starts = parse_time(prepared["starts"]).timestamp()
    every = [issued.leaf for issued in load.issued]
    every += [bundle_before.signing_certificate, bundle_after.signing_certificate]
    keyring = after.trusted_root.ct_keyring(KeyringPurpose.VERIFY)
    chain = after.trusted_root.get_fulcio_certs()
    for shard in (first, second):
        mine = [leaf for leaf in every if sct_of(leaf)[0] == shard.log_id]
        assert {leaf.not_valid_after_utc.timestamp() >= starts for leaf in mine} == {shard is second}
        size, root = shard.head()
        assert sorted(map(index_of, mine)) == list(range(size)), "gapless, and nothing given twice"
        leaves = shard.leaves(size)
        assert merkle.root_of([merkle.leaf_hash(leaf) for leaf in leaves]) == root
        for certificate in mine[::10]:
            verify_sct(certificate, chain, keyring)
            leaf = shard.certificate_at(index_of(certificate), size, root)
            assert certificate.tbs_precertificate_bytes in leaf
    size, root = first.head()
    proof = first.get("get-sth-consistency", first=early_size, second=size)["consistency"]
    hashed = [merkle.leaf_hash(leaf) for leaf in first.leaves(size)]
    assert [base64.b64decode(node) for node in proof] == merkle.consistency_path(early_size, hashed)
    assert merkle.root_of(hashed[:early_size]) == early_root

    who = policy.Identity(identity=EMAIL, issuer=f"{own.url}/dev-idp")
    for bundle in (bundle_before, bundle_after):
        Verifier(trusted_root=after.trusted_root).verify_artifact(b"an artifact", bundle, who)
    Verifier(trusted_root=before.trusted_root).verify_artifact(b"an artifact", bundle_before, who)
    with pytest.raises(VerificationError):
        Verifier(trusted_root=before.trusted_root).verify_artifact(b"an artifact", bundle_after, who)

    # Its last certificate expires, and then the first shard is frozen: nobody adds to it, everybody reads it.
    submit = f"{first.base}/ct/v1/add-pre-chain"
    assert session.post(submit, json={"chain": []}, timeout=60).status_code == 403
    assert own.cli("log", "freeze", first.name).returncode == 2, "its last certificates hold"
    wait_until(lambda: time.time() > starts, LIFETIME, "the end of its period", pause=0.5)
    frozen = json.loads(own.admin("log", "freeze", first.name, "--json"))
    assert (frozen["tree_size"], frozen["root_hash"]) == (size, root.hex())

    def submitted() -> requests.Response:
        return session.post(submit, json={"chain": []}, timeout=60)

    wait_until(lambda: submitted().status_code == 410, 60, "a worker that knows that it is frozen")
    wait_until(lambda: {submitted().status_code for _ in range(8)} == {410}, 60, "that both know")
    assert "frozen" in submitted().json()["message"]
    states = {row["shard"]: row for row in json.loads(own.admin("log", "list", "--json"))}
    assert states[first.name]["state"] == "frozen"
    assert states[second.name]["state"] == "active"
    assert first.head() == (size, root)
    final = session.get(f"{first.base}/ct/v1/get-sth", timeout=60).json()
    signed(own, after)
    assert session.get(f"{first.base}/ct/v1/get-sth", timeout=60).json() == final
    assert own.cli("doctor", "--offline").returncode == 0

    # The files of both follow by themselves, and say of the first what its final tree is.
    wait_until(lambda: described(own, first)["state"].get("readonly"), 60, "the first shard's files say so")
    of_list = described(own, first)["state"]["readonly"]["final_tree_head"]
    assert of_list == {"sha256_root_hash": base64.b64encode(root).decode(), "tree_size": size}
    assert described(own, first)["temporal_interval"]["end_exclusive"] == prepared["starts"]
    assert list(described(own, second)["state"]) == ["usable"]
    for shard in (first, second):
        expected = shard.head()
        wait_until(functools.partial(published, own, shard, expected), 60, "its files are complete")
        page = session.get(f"{shard.base}/log.v3.json", timeout=60)
        assert page.json() == described(own, shard)


def files_of(own: RunningService, shard: ShardMonitor) -> Path:
    return own.directory / "public" / shard.name


def described(own: RunningService, shard: ShardMonitor) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((files_of(own, shard) / "log.v3.json").read_text())
    return document


def published(own: RunningService, shard: ShardMonitor, head: tuple[int, bytes]) -> bool:
    """Whether the files are the tree of this head; AssertionError when they are no log."""
    read = static_log.audit(lambda path: (files_of(own, shard) / path).read_bytes(), shard.origin, shard.key)
    return (read.size, read.root) == head


def test_a_shard_is_published_long_before_it_is_used(
    own: RunningService, session: requests.Session, tmp_path: Path
) -> None:
    first = json.loads(own.admin("log", "list", "--json"))
    assert [(row["state"], row["starts"], row["ends"]) for row in first] == [("active", None, None)]
    prepared = json.loads(own.admin("log", "rotate", "--json"))
    old, new = both_logs(own, session)
    assert str(new["baseUrl"]).endswith("/ctlog/" + prepared["shard"])
    monitor = ShardMonitor(session, new, tmp_path)
    assert monitor.head() == (0, hashlib.sha256(b"").digest())
    assert monitor.get("get-roots")["certificates"]
    assert ShardMonitor(session, old, tmp_path).valid_for["end"] == prepared["starts"]
    assert monitor.valid_for["start"] < prepared["starts"], "SCTs are older than the notAfter that chooses"
    assert prepared["log_id"] in session.get(own.url, timeout=60).text
    key = Path(prepared["key"])
    assert key.stat().st_mode & 0o777 == 0o600
    again = own.cli("log", "rotate")
    assert again.returncode == 1
    assert "is prepared already" in again.stderr


def test_a_lost_shard_is_closed_and_the_next_one_opened_without_a_restart(
    own: RunningService, session: requests.Session, tmp_path: Path
) -> None:
    load = Load(own)
    try:
        wait_until(lambda: len(load.issued) >= 20, 60, "certificates")
        name = json.loads(own.admin("log", "list", "--json"))[0]["shard"]
        opened = json.loads(own.admin("log", "retire", name, "--reason", "its key leaked", "--json"))
        log_id = bytes.fromhex(opened["log_id"])
        wait_until(lambda: load.count(log_id) >= 20, 60, "certificates of the next shard")
    finally:
        load.stop()
    assert not load.failed
    assert {reply.status_code for reply in load.refused} <= {503}
    assert all("Retry-After" in reply.headers for reply in load.refused)
    old, new = [ShardMonitor(session, log, tmp_path) for log in both_logs(own, session)]
    for shard in (old, new):
        size, root = shard.head()
        mine = [index_of(issued.leaf) for issued in load.issued if sct_of(issued.leaf)[0] == shard.log_id]
        assert sorted(mine) == list(range(size))
        assert merkle.root_of([merkle.leaf_hash(leaf) for leaf in shard.leaves(size)]) == root
    states = {row["shard"]: row for row in json.loads(own.admin("log", "list", "--json"))}
    assert (states[name]["state"], states[name]["retired_for"]) == ("retired", "its key leaked")
    assert own.cli("log", "retire", name, "--reason", "again").returncode == 0, "the same again is no harm"
    both_logs(own, session)
