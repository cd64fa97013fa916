"""A CRL that is served never hides a revocation, and its number only rises."""

import hashlib
from datetime import timedelta

import pytest
from cryptography import x509
from sqlalchemy import update

from ca_service.authority.publication import PublishedCrl
from ca_service.authority.status_ports import CrlBuilder, CrlShard
from ca_service.errors import ConfigurationError, StoreUnavailable
from ca_service.pki.crl import verify_crl
from ca_service.store.schema import crl_shards
from ca_service.store.shards import SqlShards
from ca_service.vocabulary import KeyId, Serial
from tests.unit.authority.conftest import ACTOR, SmallAuthority, crl_place


def served(small: SmallAuthority, certificate: x509.Certificate) -> PublishedCrl:
    published = small.publication.crl(*crl_place(certificate))
    assert published is not None
    return published


def test_the_first_request_after_a_revocation_gets_it(small: SmallAuthority) -> None:
    certificate = small.issue()
    before = served(small, certificate)
    small.revoke(certificate)
    after = served(small, certificate)
    entry = x509.load_der_x509_crl(after.der).get_revoked_certificate_by_serial_number(
        certificate.serial_number
    )
    assert entry is not None
    assert entry.revocation_date_utc == certificate.not_valid_before_utc
    assert entry.extensions.get_extension_for_class(x509.InvalidityDate).value.invalidity_date_utc == (
        entry.revocation_date_utc
    )
    assert after.number > before.number


def test_a_quiet_shard_is_the_same_bytes_for_a_day_and_then_signed_anew(small: SmallAuthority) -> None:
    certificate = small.issue()
    first = served(small, certificate)
    small.clock.seconds += 86399
    assert served(small, certificate) == first
    small.clock.seconds += 1
    renewed = served(small, certificate)
    assert renewed.number > first.number
    assert renewed.this_update == small.clock.seconds
    crl = x509.load_der_x509_crl(renewed.der)
    assert crl.next_update_utc is not None
    assert crl.next_update_utc - crl.last_update_utc == timedelta(days=7)


def listed(published: PublishedCrl) -> list[tuple[int, object]]:
    return [
        (entry.serial_number, entry.revocation_date_utc) for entry in x509.load_der_x509_crl(published.der)
    ]


def test_a_list_that_only_grew_old_is_signed_anew_without_reading_what_it_lists(
    small: SmallAuthority,
) -> None:
    certificate = small.issue()
    small.revoke(certificate)
    first = served(small, certificate)
    assert len(listed(first)) == 1
    small.clock.seconds += 86_400
    assert small.publication.refresh() == 1
    assert (small.observer.events["crl_signed_again"], small.observer.events["crl_built"]) == (1, 1)
    renewed = served(small, certificate)
    assert (listed(renewed), renewed.number) == (listed(first), first.number + 1)
    small.revoke(small.issue())
    while small.publication.refresh():
        pass
    assert small.observer.events["crl_built"] > 1, "what changed is built from the revocations"


def test_a_stored_list_that_was_damaged_is_built_from_the_revocations(small: SmallAuthority) -> None:
    certificate = small.issue()
    small.revoke(certificate)
    first = served(small, certificate)
    with small.database.writing() as connection:
        connection.execute(update(crl_shards).values(crl=first.der[:-40] + bytes(40)))
    small.clock.seconds += 86_400
    renewed = served(small, certificate)
    verify_crl(renewed.der, small.authority.certificate)
    assert (listed(renewed), renewed.number) == (listed(first), first.number + 1)


def test_refresh_rebuilds_what_is_due_and_nothing_else(small: SmallAuthority) -> None:
    certificate = small.issue()
    assert small.publication.refresh() == 0
    small.revoke(certificate)
    assert small.publication.refresh() == 1
    assert small.publication.refresh() == 0


def test_an_old_list_is_served_when_it_cannot_be_renewed_but_a_dirty_one_never(
    small: SmallAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = small.issue()
    first = served(small, certificate)

    def broken(self: SqlShards, authority_key: KeyId, name: str, build: CrlBuilder) -> CrlShard:
        raise StoreUnavailable("the lock cannot be had")

    monkeypatch.setattr(SqlShards, "rebuild", broken)
    small.clock.seconds += 86400
    assert served(small, certificate) == first
    small.revoke(certificate)
    with pytest.raises(StoreUnavailable):
        served(small, certificate)


def test_an_expired_list_is_not_served(small: SmallAuthority, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = small.issue()

    def broken(self: SqlShards, authority_key: KeyId, name: str, build: CrlBuilder) -> CrlShard:
        raise StoreUnavailable("the lock cannot be had")

    monkeypatch.setattr(SqlShards, "rebuild", broken)
    small.clock.seconds += 7 * 86400
    with pytest.raises(StoreUnavailable):
        served(small, certificate)


def test_names_of_no_shard_have_no_crl(small: SmallAuthority) -> None:
    key, _ = crl_place(small.issue())
    assert small.publication.crl(key, "1999-01-00") is None
    assert small.publication.crl("0" * 40, "2026-11-00") is None


STRANGER = KeyId("0" * 40)
"""A key that another node has."""


def test_a_missing_key_of_another_authority_is_named(small: SmallAuthority) -> None:
    small.issue()
    small.publication.check_keys()
    small.give_lists_to(STRANGER)
    with pytest.raises(ConfigurationError, match=f"{STRANGER}, which this host has not"):
        small.publication.check_keys()


def test_a_list_of_a_key_that_another_node_has_is_handed_out_while_it_is_right(small: SmallAuthority) -> None:
    key, name = crl_place(small.issue())
    stored = small.publication.crl(key, name)
    small.give_lists_to(STRANGER)
    assert small.publication.crl(STRANGER, name) == stored
    small.clock.seconds += 86_400
    assert small.publication.crl(STRANGER, name) == stored, "due to be signed anew, and right for six days"
    small.clock.seconds += 6 * 86_400
    with pytest.raises(StoreUnavailable, match="copy its folder"):
        small.publication.crl(STRANGER, name)


def test_a_list_that_lacks_a_revocation_is_left_to_the_node_that_has_its_key(small: SmallAuthority) -> None:
    theirs = ours = small.issue()
    while crl_place(ours) == crl_place(theirs):
        ours = small.issue()
    _, name = crl_place(theirs)
    small.revoke(theirs)
    small.revoke(ours)
    small.give_lists_to(STRANGER, name)
    with pytest.raises(StoreUnavailable, match="copy its folder"):
        small.publication.crl(STRANGER, name)
    assert small.publication.refresh() == 1, "what can be signed here is"
    assert ours.serial_number in [serial for serial, _ in listed(served(small, ours))]


def test_the_index_is_right_at_once_and_reads_only_lists_it_does_not_know(
    small: SmallAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = small.issue()
    (before,) = small.publication.index()
    first = served(small, certificate)
    assert (before.number, before.sha256) == (first.number, hashlib.sha256(first.der).hexdigest())
    small.revoke(certificate)
    (after,) = small.publication.index()
    second = served(small, certificate)
    assert second.number > first.number
    assert (after.number, after.sha256) == (second.number, hashlib.sha256(second.der).hexdigest())

    def unread(self: SqlShards, authority_key: KeyId, name: str) -> CrlShard:
        raise AssertionError("a list was read whole")

    monkeypatch.setattr(SqlShards, "get", unread)
    assert list(small.publication.index()) == [after]


def test_after_a_long_absence_lists_are_renewed_a_few_at_a_time(small: SmallAuthority) -> None:
    for number in range(40):
        small.publication.ensure(small.authority.key_id, f"2026-11-{number:02x}", small.clock.seconds)
    small.clock.seconds += 2 * 86400
    assert small.publication.refresh() == 32
    assert small.publication.refresh() == 8
    assert small.publication.refresh() == 0


def test_lists_of_one_second_are_not_told_apart_by_their_date(small: SmallAuthority) -> None:
    certificate = small.issue()
    small.clock.seconds += 1
    assert served(small, certificate).dated
    small.revoke(certificate)
    first = served(small, certificate)
    small.desk.withdraw(Serial(certificate.serial_number), comment="wrong", actor=ACTOR)
    second = served(small, certificate)
    assert first.this_update == second.this_update
    assert (first.dated, second.dated) == (True, False)
    small.clock.seconds += 100
    assert not served(small, certificate).dated
    small.revoke(certificate)
    assert served(small, certificate).dated
