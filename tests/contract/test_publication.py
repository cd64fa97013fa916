"""CRLs of several nodes on one database: each list is built by one of them, and all serve the newest."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ca_service.authority.authorities import Authorities
from ca_service.authority.publication import Publication, PublicationPolicy
from ca_service.authority.status_ports import CrlShard, Revocation
from ca_service.pki.crl import verify_crl
from ca_service.store.database import Database
from ca_service.store.revocations import SqlRevocations
from ca_service.store.shards import SqlShards
from ca_service.vocabulary import KeyId, RevocationReason, Serial
from tests.support.pki import authority
from tests.support.store import ACTOR, NOW, RecordingObserver, SettableClock, TestLog

SECOND = NOW // 1000
DAY = 86_400
NAMES = [f"2026-09-{number:02x}" for number in range(10)]


class Node:
    """One of several machines: a database connection, a publication and what it counted."""

    def __init__(self, url: str, folder: Path, clock: SettableClock) -> None:
        self.database = Database(url, folder=folder, lock_timeout=30)
        self.observer = RecordingObserver()
        authorities = Authorities([authority()])
        self.publication = Publication(
            authorities=lambda: authorities,
            shards=SqlShards(self.database),
            root_crls={},
            status_url="http://ca",
            policy=PublicationPolicy(valid_seconds=7 * DAY, refresh_seconds=DAY),
            clock=clock,
            observer=self.observer,
        )

    @property
    def built(self) -> int:
        """How many lists it signed: those whose entries changed, and those that only grew old."""
        return sum(event in ("crl_built", "crl_signed_again") for event, _ in self.observer.counted)


@pytest.fixture
def nodes(
    database: Database, database_url: str, tmp_path: Path, log: TestLog, clock: SettableClock
) -> Iterator[list[Node]]:
    made = [Node(database_url, tmp_path, clock) for _ in range(4)]
    for name in NAMES:
        made[0].publication.ensure(authority().key_id, name, SECOND)
    yield made
    for node in made:
        node.database.close()


def revoke(database: Database, clock: SettableClock, *names: str) -> None:
    key: KeyId = authority().key_id
    revocations = [
        Revocation(Serial(number), key, name, SECOND, SECOND, RevocationReason.SUPERSEDED, "")
        for number, name in enumerate(names, 1)
    ]
    SqlRevocations(database, clock).revoke(revocations, ACTOR, "revoke")


def shard(database: Database, name: str) -> CrlShard:
    found = SqlShards(database).get(authority().key_id, name)
    assert found is not None
    return found


def test_a_dirty_list_is_built_by_one_node_however_many_look(
    database: Database, nodes: list[Node], clock: SettableClock
) -> None:
    revoke(database, clock, *NAMES[:3])
    with ThreadPoolExecutor(2 * len(nodes)) as pool:
        refreshed = [pool.submit(node.publication.refresh) for node in nodes]
        served = [pool.submit(node.publication.crl, authority().key_id, NAMES[0]) for node in nodes]
    assert sum(each.result() >= 0 for each in refreshed) == len(nodes)
    assert sum(node.built for node in nodes) == 3
    assert [shard(database, name).crl_number for name in NAMES] == [2] * 3 + [1] * 7
    ders = {crl.der for crl in (each.result() for each in served) if crl is not None}
    (der,) = ders
    listed = verify_crl(
        der, authority().certificate, url=f"http://ca/crl/{authority().key_id}/{NAMES[0]}.crl"
    )
    assert [entry.serial_number for entry in listed] == [1]


def test_the_daily_renewal_is_done_once_and_not_all_at_once(
    database: Database, nodes: list[Node], clock: SettableClock
) -> None:
    hours: list[int] = []
    for hour in range(17, 25):
        clock.now = NOW + hour * 3_600_000
        with ThreadPoolExecutor(len(nodes)) as pool:
            list(pool.map(lambda node: node.publication.refresh(), nodes))
        hours.extend([hour] * (sum(node.built for node in nodes) - len(hours)))
    assert len(hours) == len(NAMES), "each by one node, by the end of the day"
    assert hours[0] >= 18, "none much earlier than it must be"
    assert len(set(hours)) > 1, "and they drift apart"
    assert {shard(database, name).crl_number for name in NAMES} == {2}
