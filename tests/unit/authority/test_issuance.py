"""Nothing is released that is not durable in the log first, and what is released is what the profile says."""

import threading
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import pytest
from cryptography import x509

from ca_service.authority.admission import Admission, RateLimits
from ca_service.authority.issuance import ANSWER_SECONDS, Attempt, shard_name
from ca_service.authority.log_ports import PendingCertificate, Sequenced
from ca_service.authority.ports import Allowance, Counts, Question, RateLimiter
from ca_service.authority.status_ports import CrlShard
from ca_service.authority.waiting import WouldWait, at_once
from ca_service.errors import AuthorityRetired, LogUnavailable, ProofInvalid, PublicKeyRefused, RateLimited
from ca_service.identity.claims import VerifiedToken
from ca_service.merkle.tree import leaf_hash, verify_inclusion
from ca_service.pki.sct import verify_sct
from ca_service.store.shards import SqlShards
from tests.unit.authority.conftest import (
    EMAIL,
    FOUNDED,
    OnlyAppends,
    SmallAuthority,
    believed,
    crl_place,
    fresh_key_proof,
    leaf_of,
)

Result = TypeVar("Result")


def test_a_certificate_is_in_the_log_at_the_index_its_sct_names(small: SmallAuthority) -> None:
    for _ in range(3):
        small.issue()
    certificate = small.issue()
    sct = verify_sct(certificate, small.authority.certificate, small.log_key.public_key())
    assert sct.leaf_index == 3
    head = small.reader.head()
    entry = small.reader.entries(3, 4)[0]
    verify_inclusion(
        leaf_hash(entry.leaf),
        3,
        head.tree_size,
        small.reader.inclusion_proof(3, head.tree_size),
        head.root_hash,
    )
    logged = x509.load_der_x509_certificate(entry.precertificate)
    assert logged.serial_number == certificate.serial_number


def test_nothing_is_released_when_the_log_stores_nothing(small: SmallAuthority) -> None:
    class BrokenLog(OnlyAppends):
        def append(self, entry: PendingCertificate, within: float | None = None) -> Sequenced:
            raise LogUnavailable("the disk is full")

    with pytest.raises(LogUnavailable):
        small.issuance(BrokenLog()).issue("token", fresh_key_proof())
    assert small.reader.head().tree_size == 0
    assert small.observer.events["certificate_refused"] == 1


def test_whatever_a_request_waits_for_it_is_answered_in_one_time(small: SmallAuthority) -> None:
    now, told = [100.0], []

    def slow_issuer(token: str) -> VerifiedToken:
        now[0] += 0.5
        return believed(token)

    class SlowShards(SqlShards):
        def create(self, shard: CrlShard, within: float | None = None) -> CrlShard:
            told.append(within)
            now[0] += 2.5
            return super().create(shard, within)

    class BusyLog(OnlyAppends):
        def append(self, entry: PendingCertificate, within: float | None = None) -> Sequenced:
            told.append(within)
            now[0] += 9.0
            raise LogUnavailable("the log did not store the entry")

    issuance = small.issuance(BusyLog())
    issuance._verify_token = slow_issuer
    issuance._elapsed = lambda: now[0]
    small.publication._shards = SlowShards(small.database)
    with pytest.raises(LogUnavailable):
        issuance.issue("token", fresh_key_proof())
    assert told == [ANSWER_SECONDS - 0.5, ANSWER_SECONDS - 3.0]


def test_validity_is_ten_minutes_and_never_begins_in_the_future(small: SmallAuthority) -> None:
    certificate = small.issue()
    assert certificate.not_valid_before_utc == FOUNDED
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == timedelta(minutes=10)


def test_the_last_certificate_ends_with_the_issuing_period(small: SmallAuthority) -> None:
    small.clock.seconds = int(small.authority.issues_until.timestamp()) - 60
    assert small.issue().not_valid_after_utc == small.authority.issues_until


def test_an_authority_past_its_issuing_period_issues_nothing(small: SmallAuthority) -> None:
    small.clock.seconds = int(small.authority.issues_until.timestamp())
    with pytest.raises(AuthorityRetired, match="rotate the authority"):
        small.issue()


def test_a_proof_by_another_key_is_refused_before_anything_is_stored(small: SmallAuthority) -> None:
    first, second = fresh_key_proof(), fresh_key_proof()
    mixed = type(first)(first.content, second.proof)
    with pytest.raises(ProofInvalid):
        small.issuance().issue("token", mixed)
    assert small.reader.head().tree_size == 0


def test_only_allowed_kinds_of_keys_are_certified(small: SmallAuthority) -> None:
    from cryptography.hazmat.primitives.asymmetric import ed25519
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = ed25519.Ed25519PrivateKey.generate()
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    proof = type(fresh_key_proof())(spki, key.sign(EMAIL.encode()))
    with pytest.raises(PublicKeyRefused):
        small.issuance().issue("token", proof)


def test_the_crl_a_leaf_names_is_there_when_the_leaf_is_released(small: SmallAuthority) -> None:
    published = small.publication.crl(*crl_place(small.issue()))
    assert published is not None
    assert len(x509.load_der_x509_crl(published.der)) == 0


def test_the_chain_is_leaf_then_issuing_then_root(small: SmallAuthority) -> None:
    chain = small.issuance().issue("token", fresh_key_proof())
    texts = [x509.load_pem_x509_certificate(pem.encode()) for pem in chain.certificates]
    assert texts[1:] == [small.authority.certificate, small.authority.root]
    assert leaf_of(chain).issuer == texts[1].subject
    assert chain.serial == texts[0].serial_number


@pytest.mark.parametrize(
    ("moment", "serial", "subshards", "name"),
    [
        (datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC), 0x12_0A, 16, "2026-11-0a"),
        (datetime(2026, 12, 1, tzinfo=UTC), 0x12_1F, 16, "2026-12-0f"),
        (datetime(2027, 1, 1, tzinfo=UTC), 0xFF, 256, "2027-01-ff"),
        (datetime(2027, 1, 1, tzinfo=UTC), 0xFF, 1, "2027-01-00"),
    ],
)
def test_a_shard_is_month_of_issue_and_sub_shard(
    moment: datetime, serial: int, subshards: int, name: str
) -> None:
    assert shard_name(int(moment.timestamp()), serial, subshards) == name


def to_the_end(steps: Generator[object, None, Result]) -> Result:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result


def test_a_certificate_that_was_begun_is_released_once_it_is_in_the_log(small: SmallAuthority) -> None:
    issuance, stored = small.issuance(), threading.Event()
    underway = to_the_end(issuance.prepare("token", fresh_key_proof(), Attempt(0.0), stored.set))
    assert small.reader.head().tree_size == 0, "nothing is written before it is said"
    issuance.flush()
    assert stored.wait(60)
    issued = to_the_end(issuance.finish(underway))
    assert small.reader.head().tree_size == 1
    assert issued.leaf_index == 0
    assert small.observer.events["certificate_issued"] == 1


def test_what_was_begun_and_given_up_is_refused_and_never_stored(small: SmallAuthority) -> None:
    issuance = small.issuance()
    underway = to_the_end(issuance.prepare("token", fresh_key_proof(), Attempt(0.0), lambda: None))
    underway.ticket.withdraw()
    with pytest.raises(LogUnavailable):
        to_the_end(issuance.finish(underway))
    issuance.flush()
    small.issue()
    assert small.reader.head().tree_size == 1
    assert small.observer.events["certificate_refused"] == 1


def test_what_would_wait_is_begun_anew_without_asking_for_the_token_again(small: SmallAuthority) -> None:
    issuance, asked = small.issuance(), []
    verify = issuance._verify_token

    def counted(token: str) -> VerifiedToken:
        asked.append(token)
        return verify(token)

    issuance._verify_token = counted
    attempt = Attempt(issuance._elapsed())
    # The shard of a serial's CRL is new, and storing it is a wait.
    with pytest.raises(WouldWait), at_once():
        to_the_end(issuance.prepare("token", fresh_key_proof(), attempt, lambda: None))
    assert issuance.issue("token", fresh_key_proof(), attempt).leaf_index == 0
    assert asked == ["token"]
    assert small.observer.events["certificate_refused"] == 0


class Elsewhere(RateLimiter):
    """A limiter that another thread asks; in threads that may wait it refuses."""

    def __init__(self) -> None:
        self.questions: list[Question] = []

    def take(self, key: str, limit: int) -> Allowance | None:
        return Allowance(False, limit, 0, 9)

    def ask(self, counts: Counts) -> Question:
        self.questions.append(Question(counts, lambda: None))
        return self.questions[-1]


@pytest.mark.parametrize("allowed", [True, False])
def test_a_thread_that_may_not_wait_goes_on_when_the_limiter_was_asked(
    small: SmallAuthority, *, allowed: bool
) -> None:
    small.issue()  # so that the lists are there
    limiter = Elsewhere()
    issuance = small.issuance(admission=Admission(limiter, RateLimits(3), namespace="test"))
    steps = issuance.prepare("token", fresh_key_proof(), Attempt(issuance._elapsed()), lambda: None)
    with at_once():
        waited_for = next(steps)
        assert waited_for is limiter.questions[0]
        limiter.questions[0].answers = [Allowance(allowed, 3, 2, 60)]
        if not allowed:
            with pytest.raises(RateLimited, match="3 certificates in 60 seconds"):
                to_the_end(steps)
            return
        assert next(steps) is None
    # Whichever list its serial falls on may be new, and making that is a wait: not of interest here.
    assert to_the_end(steps).decided.allowance == Allowance(True, 3, 2, 60)
