"""The log goes over to its next shard while certificates are issued; nobody notices but by the SCTs."""

import base64
import functools
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from sigstore._internal.sct import verify_sct
from sigstore._internal.trust import KeyringPurpose
from sigstore.errors import VerificationError
from sigstore.verify import Verifier, policy

from ca_service.vocabulary import format_seconds, parse_time
from tests.e2e.test_log import Monitor, sct_of
from tests.support import merkle, static_log
from tests.support.processes import RunningService, free_port, http, run, wait_until
from tests.support.rekor import LocalRekor
from tests.support.rotation import EMAIL, Load, export, signed
from tests.support.signing import Issued
from tests.support.two_nodes import OwnPlace, copy_as_the_guide_says, own_place

EACH_SIDE = 60
LIFETIME = 30


def logged_in(log_id: bytes) -> Callable[[Issued], bool]:
    return lambda issued: sct_of(issued.leaf)[0] == log_id


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

    def get(self, call: str, **query: int | str) -> dict[str, Any]:
        """As of any log, once the worker that answers knows this one: each looks every second."""

        def known() -> requests.Response | None:
            reply = self.session.get(f"{self.base}/ct/v1/{call}", params=query, timeout=60)
            return None if reply.status_code == 404 else reply

        reply = wait_until(known, 60, f"an answer of {self.name}")
        assert reply is not None
        assert reply.status_code == 200, f"{call}: {reply.status_code} {reply.reason}"
        document: dict[str, Any] = reply.json()
        return document

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


def fresh(place: str, folder: Path, request: pytest.FixtureRequest) -> AbstractContextManager[OwnPlace]:
    return own_place(
        place,
        folder,
        postgres=lambda: request.getfixturevalue("postgres_of_the_run"),
        environ={"CASVC_AUTHORITY__LIFETIME_SECONDS": str(LIFETIME)},
    )


@pytest.fixture
def own(place: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[OwnPlace]:
    with fresh(place, tmp_path, request) as started:
        yield started


@pytest.fixture(scope="module")
def shared(
    place: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[OwnPlace]:
    """For those who are content with any shards, and leave an active one."""
    with fresh(place, tmp_path_factory.mktemp("shared"), request) as started:
        yield started


@pytest.fixture
def session(request: pytest.FixtureRequest) -> Iterator[requests.Session]:
    """An HTTP session of this test's own, which trusts its service."""
    own: OwnPlace = request.getfixturevalue("own" if "own" in request.fixturenames else "shared")
    with own.service.http() as opened:
        yield opened


def ctlogs(url: str, session: requests.Session) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = session.get(f"{url}/trust/trusted_root.json", timeout=60).json()["ctlogs"]
    return found


def logs_of(own: OwnPlace, session: requests.Session, *shards: str) -> list[dict[str, Any]]:
    """What trusted_root.json says of these shards, once every node knows each of them."""

    def listed(url: str) -> list[dict[str, Any]] | None:
        by_name = {str(log["baseUrl"]).rpartition("/")[2]: log for log in ctlogs(url, session)}
        return [by_name[shard] for shard in shards] if set(shards) <= set(by_name) else None

    for url in own.urls:
        found = wait_until(functools.partial(listed, url), 60, f"{shards} in trusted_root.json of {url}")
    assert found
    return found


def index_of(leaf: x509.Certificate) -> int:
    return int.from_bytes(sct_of(leaf)[2][3:])


def states(machine: RunningService) -> dict[str, dict[str, Any]]:
    """What a node lists, by the names of the shards."""
    return {row["shard"]: row for row in json.loads(machine.admin("log", "list", "--json"))}


def copy_key(machine: RunningService, to: RunningService, shard: str) -> None:
    about = "log rotate: a file"
    copy_as_the_guide_says(machine, to, about, "log-2027.key", f"log-{shard}.key")


def doctor_misses(machine: RunningService, shard: str) -> None:
    examined = machine.cli("doctor", "--offline")
    assert examined.returncode == 1
    assert f"log-{shard}.key" in examined.stdout


def does_not_start(machine: RunningService, shard: str) -> None:
    """Once it has ended, without the key of this shard."""
    again = run(
        *("serve", "--config", machine.config, "--bind", f"127.0.0.1:{free_port()}"), environ=machine.environ
    )
    assert again.returncode != 0
    assert f"log-{shard}.key" in again.stderr


def take_over(own: OwnPlace) -> dict[str, Any]:
    """Let the next shard take over: on one node at once, on two when the other one has its key too."""
    if own.cluster is None:
        prepared: dict[str, Any] = json.loads(own.service.admin("log", "rotate", "--now", "--json"))
        return prepared
    one, two = own.machines
    shard = json.loads(one.admin("log", "rotate", "--json"))["shard"]
    copy_key(one, two, shard)
    soon = format_seconds(int(time.time()) + LIFETIME + 3)
    moved: dict[str, Any] = json.loads(two.admin("log", "rotate", "--from", soon, "--json"))
    return moved


def test_the_log_rotates_under_load_and_stock_clients_verify_before_and_after(
    own: OwnPlace, rekor: LocalRekor, session: requests.Session, tmp_path: Path
) -> None:
    before = export(own, rekor, tmp_path / "before")
    bundle_before = signed(own, before)
    (first,) = [ShardMonitor(session, log, tmp_path) for log in ctlogs(own.service.url, session)]
    load = Load(own)
    try:
        load.wait_for(EACH_SIDE, logged_in(first.log_id), "certificates of the first shard")
        early_size, early_root = first.head()
        prepared = take_over(own)
        listed = logs_of(own, session, first.name, prepared["shard"])
        second = ShardMonitor(session, listed[1], tmp_path)
        assert second.log_id.hex() == prepared["log_id"]
        load.wait_for(EACH_SIDE, logged_in(second.log_id), "certificates of the second shard")
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
        assert {head_at(url, shard, session) for url in own.urls} == {(size, root)}
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

    who = policy.Identity(identity=EMAIL, issuer=own.issuer)
    for bundle in (bundle_before, bundle_after):
        Verifier(trusted_root=after.trusted_root).verify_artifact(b"an artifact", bundle, who)
    Verifier(trusted_root=before.trusted_root).verify_artifact(b"an artifact", bundle_before, who)
    with pytest.raises(VerificationError):
        Verifier(trusted_root=before.trusted_root).verify_artifact(b"an artifact", bundle_after, who)

    # Its last certificate expires, and then the first shard is frozen: nobody adds to it, everybody reads it.
    for url in own.urls:
        assert submitted(own, url, first).status_code == 403
    for machine in own.machines:
        assert machine.cli("log", "freeze", first.name).returncode == 2, "its last certificates hold"
    if own.cluster is not None:
        is_told_of_a_key_it_lacks(*own.machines)
    wait_until(lambda: time.time() > starts, LIFETIME, "the end of its period", pause=0.5)
    frozen = json.loads(own.service.admin("log", "freeze", first.name, "--json"))
    assert (frozen["tree_size"], frozen["root_hash"]) == (size, root.hex())
    for url in own.urls:
        closed = functools.partial(refuses_for_good, own, url, first)
        wait_until(closed, 60, f"whoever answers at {url} knows that it is frozen")
    for machine in own.machines:
        listing = states(machine)
        assert (listing[first.name]["state"], listing[second.name]["state"]) == ("frozen", "active")
        assert machine.cli("doctor", "--offline").returncode == 0
    assert first.head() == (size, root)
    final = session.get(f"{first.base}/ct/v1/get-sth", timeout=60).json()
    signed(own, after)
    for url in own.urls:
        assert session.get(f"{url}/ctlog/{first.name}/ct/v1/get-sth", timeout=60).json() == final

    # The files of both follow by themselves, and say of the first what its final tree is.
    for machine in own.machines:
        of_shard = functools.partial(described, machine, first)
        wait_until(lambda of=of_shard: of()["state"].get("readonly"), 60, "the first shard's files say so")  # type: ignore[misc]
        of_list = of_shard()["state"]["readonly"]["final_tree_head"]
        assert of_list == {"sha256_root_hash": base64.b64encode(root).decode(), "tree_size": size}
        assert of_shard()["temporal_interval"]["end_exclusive"] == prepared["starts"]
        assert list(described(machine, second)["state"]) == ["usable"]
        for shard in (first, second):
            expected = shard.head()
            whole = functools.partial(published, machine, shard, expected)
            wait_until(whole, 60, "its files are complete")
            same = functools.partial(is_described_alike, machine, shard, session)
            wait_until(same, 60, "file and page are the same")


def is_told_of_a_key_it_lacks(one: RunningService, other: RunningService) -> None:
    """Long before the key is needed: by a worker on its round, each half minute."""
    shard = json.loads(one.admin("log", "rotate", "--json"))["shard"]

    def told() -> bool:
        lines = other.printed().splitlines()
        return any("housekeeping failed" in line and f"log-{shard}.key" in line for line in lines)

    wait_until(told, 180, "its log says what it lacks")
    copy_key(one, other, shard)


def head_at(url: str, shard: ShardMonitor, session: requests.Session) -> tuple[int, bytes]:
    """The newest head of a shard as a node tells it."""
    sth = session.get(f"{url}/ctlog/{shard.name}/ct/v1/get-sth", timeout=60).json()
    return sth["tree_size"], base64.b64decode(sth["sha256_root_hash"])


def submitted(own: OwnPlace, url: str, shard: ShardMonitor) -> requests.Response:
    """Submit to a shard by the way of outsiders, on a new connection, so that each worker is met."""
    with own.service.http() as opened:
        return opened.post(f"{url}/ctlog/{shard.name}/ct/v1/add-pre-chain", json={"chain": []}, timeout=60)


def refuses_for_good(own: OwnPlace, url: str, shard: ShardMonitor) -> bool:
    answers = [submitted(own, url, shard) for _ in range(8)]
    return all(each.status_code == 410 and "frozen" in each.json()["message"] for each in answers)


def files_of(machine: RunningService, shard: ShardMonitor) -> Path:
    return machine.directory / "public" / shard.name


def described(machine: RunningService, shard: ShardMonitor) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((files_of(machine, shard) / "log.v3.json").read_text())
    return document


def is_described_alike(machine: RunningService, shard: ShardMonitor, session: requests.Session) -> bool:
    page = session.get(f"{machine.url}/ctlog/{shard.name}/log.v3.json", timeout=60)
    return bool(page.json() == described(machine, shard))


def published(machine: RunningService, shard: ShardMonitor, head: tuple[int, bytes]) -> bool:
    """Whether the files are the tree of this head; AssertionError when they are no log."""
    folder = files_of(machine, shard)
    read = static_log.audit(lambda path: (folder / path).read_bytes(), shard.origin, shard.key)
    return (read.size, read.root) == head


def test_a_shard_is_published_long_before_it_is_used(
    shared: OwnPlace, session: requests.Session, tmp_path: Path
) -> None:
    one, other = shared.machines[0], shared.machines[-1]
    (active,) = [row for row in states(one).values() if row["state"] == "active"]
    assert active["ends"] is None
    prepared = json.loads(one.admin("log", "rotate", "--json"))
    old, new = logs_of(shared, session, active["shard"], prepared["shard"])
    monitor = ShardMonitor(session, new, tmp_path)
    assert monitor.head() == (0, hashlib.sha256(b"").digest())
    assert monitor.get("get-roots")["certificates"]
    assert ShardMonitor(session, old, tmp_path).valid_for["end"] == prepared["starts"]
    assert monitor.valid_for["start"] < prepared["starts"], "SCTs are older than the notAfter that chooses"
    home = functools.partial(session.get, shared.service.url, timeout=60)
    wait_until(lambda: prepared["log_id"] in home().text, 60, "it is on the page")
    key = Path(prepared["key"])
    assert key.stat().st_mode & 0o777 == 0o600
    for machine in shared.machines:
        again = machine.cli("log", "rotate")
        assert again.returncode == 1
        assert "is prepared already" in again.stderr
    if other is not one:
        doctor_misses(other, prepared["shard"])
        does_not_start(other, prepared["shard"])
        other.wait_ready()  # it is not needed yet
        copy_key(one, other, prepared["shard"])
        assert (other.directory / "private" / key.name).stat().st_mode & 0o777 == 0o600
    assert other.cli("doctor", "--offline").returncode == 0


def test_a_lost_shard_is_closed_and_the_next_one_opened_without_a_restart(
    shared: OwnPlace, session: requests.Session, tmp_path: Path
) -> None:
    one, other = shared.machines[0], shared.machines[-1]
    (name,) = [row["shard"] for row in states(one).values() if row["state"] == "active"]
    workers = [process.pid for process in shared.service.workers()]
    load = Load(shared)
    try:
        load.wait_for(20, lambda _: True, "certificates")
        opened = json.loads(one.admin("log", "retire", name, "--reason", "its key leaked", "--json"))
        if other is not one:
            issues_nothing_without_its_key(one, other, opened, load)
        log_id = bytes.fromhex(opened["log_id"])
        load.wait_for(20, logged_in(log_id), "certificates of the next shard")
    finally:
        load.stop()
    assert not load.failed
    assert {reply.status_code for reply in load.refused} <= {503}
    assert all("Retry-After" in reply.headers for reply in load.refused)
    for log in logs_of(shared, session, name, opened["shard"]):
        shard = ShardMonitor(session, log, tmp_path)
        size, root = shard.head()
        mine = [index_of(issued.leaf) for issued in load.issued if sct_of(issued.leaf)[0] == shard.log_id]
        assert sorted(mine) == list(range(size))
        assert merkle.root_of([merkle.leaf_hash(leaf) for leaf in shard.leaves(size)]) == root
    for machine in shared.machines:
        row = states(machine)[name]
        assert (row["state"], row["retired_for"]) == ("retired", "its key leaked")
        again = machine.cli("log", "retire", name, "--reason", "again")
        assert again.returncode == 0, "the same again is no harm"
        closed, _ = logs_of(shared, session, name, opened["shard"])
        assert "end" in closed["publicKey"]["validFor"]
    assert [process.pid for process in shared.service.workers()] == workers


def issues_nothing_without_its_key(
    one: RunningService, other: RunningService, opened: dict[str, Any], load: Load
) -> None:
    """A node that lacks the key of the shard in use says so and issues nothing, until it is copied."""

    def checks() -> dict[str, str]:
        with http() as session:
            said: dict[str, str] = session.get(f"{other.url}/readyz", timeout=60).json()["checks"]
        return said

    wait_until(lambda: checks()["log"].startswith("configuration: "), 60, "/readyz says what it lacks")
    assert f"log-{opened['shard']}.key" in other.printed(), "and its log"
    doctor_misses(other, opened["shard"])
    wait_until(lambda: any(reply.url.startswith(other.url) for reply in list(load.refused)), 60, "refused")
    one.wait_ready()
    copy_key(one, other, opened["shard"])
    other.wait_ready()
