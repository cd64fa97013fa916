"""status_ports.IssuedCertificates: what a selector means."""

import pytest

from ca_service.authority.log_ports import PendingCertificate
from ca_service.authority.status_ports import Revocation, Selector
from ca_service.errors import InvalidRequest
from ca_service.store.database import Database
from ca_service.store.issued import SqlIssuedCertificates
from ca_service.store.revocations import SqlRevocations
from ca_service.store.sequencer import BatchingSequencer
from ca_service.vocabulary import RevocationReason, Serial, SubjectKind
from tests.support.store import ACTOR, NOW, SettableClock, pending

SECOND = NOW // 1000
WORKFLOW = "https://github.com/Org/repo/.github/workflows/release.yml@refs/tags/v1"


@pytest.fixture
def certificates(sequencer: BatchingSequencer) -> list[PendingCertificate]:
    """Five issued certificates, ten minutes apart, oldest first."""
    entries = [
        pending("Dev@Example.com", not_before=SECOND),
        pending("dev@example.com", not_before=SECOND + 600),
        pending("d_v@example.com", not_before=SECOND + 1200),
        pending("100%\\@example.com", not_before=SECOND + 1800, oidc_issuer="https://other.example"),
        pending(WORKFLOW, kind=SubjectKind.URI, not_before=SECOND + 2400),
    ]
    for entry in entries:
        sequencer.append(entry)
    return entries


@pytest.fixture
def issued(database: Database) -> SqlIssuedCertificates:
    """The adapter."""
    return SqlIssuedCertificates(database)


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        (Selector(identity="DEV@example.com"), [1, 0]),
        (Selector(identity=" dev@example.com"), [1, 0]),
        (Selector(identity="d?v@*"), [2, 1, 0]),
        (Selector(identity="d_v@example.com"), [2]),
        (Selector(identity="d_v@*"), [2]),
        (Selector(identity="100%*"), [3]),
        (Selector(identity="100%\\@*"), [3]),
        (Selector(identity="100*@example.com"), [3]),
        (Selector(identity="%"), []),
        (Selector(identity="_ev@*"), []),
        (Selector(identity="https://github.com/org/*"), [4]),
        (Selector(identity="*v1"), [4]),
        (Selector(identity="**@**"), [4, 3, 2, 1, 0]),
        (Selector(identity="?????"), []),
        (Selector(identity=""), []),
        (Selector(identity="dev@example.com\0"), []),
        (Selector(oidc_issuer="https://other.example"), [3]),
        (Selector(identity="*@example.com", oidc_issuer="https://issuer.example"), [2, 1, 0]),
        (Selector(log_index=("2026", 2)), [2]),
        (Selector(log_index=("2025", 2)), []),
        (Selector(log_index=("2026", 1 << 70)), []),
        (Selector(log_index=("2026", -1)), []),
        (Selector(serial=Serial(5)), []),
        (Selector(since=SECOND + 2400), [4, 3]),
        (Selector(since=SECOND + 2401), [4]),
        (Selector(until=SECOND), [0]),
        (Selector(until=SECOND - 1), []),
        (Selector(since=SECOND + 601, until=SECOND + 1199), [1]),
        (Selector(since=SECOND + 5000), []),
        (Selector(since=-(1 << 70), until=1 << 70), [4, 3, 2, 1, 0]),
        (Selector(), []),
    ],
)
def test_a_selector_finds_what_it_means_newest_first(
    issued: SqlIssuedCertificates,
    certificates: list[PendingCertificate],
    selector: Selector,
    found: list[int],
) -> None:
    serials = [certificate.serial for certificate, _ in issued.find(selector, 100)]
    assert serials == [certificates[place].serial for place in found]


def test_serials_and_keys_find_their_certificate_with_its_revocation(
    issued: SqlIssuedCertificates,
    certificates: list[PendingCertificate],
    database: Database,
    clock: SettableClock,
) -> None:
    wanted = certificates[2]
    revocation = Revocation(
        wanted.serial,
        wanted.authority_key,
        wanted.crl_shard,
        wanted.not_before,
        SECOND + 9000,
        RevocationReason.KEY_COMPROMISE,
        "lost",
    )
    SqlRevocations(database, clock).revoke([revocation], ACTOR, "revoke")
    for selector in (
        Selector(serial=wanted.serial),
        Selector(key_sha256=wanted.key_sha256),
        Selector(key_sha256=wanted.key_sha256.upper()),
        Selector(serial=wanted.serial, identity="d_v@example.com", log_index=("2026", 2)),
    ):
        ((certificate, stands),) = issued.find(selector, 10)
        assert certificate == issued.by_serial(wanted.serial)
        assert stands == revocation
        assert (certificate.subject, certificate.oidc_issuer, certificate.oidc_subject) == (
            wanted.subject, wanted.oidc_issuer, wanted.oidc_subject
        )  # fmt: skip
        assert (certificate.not_before, certificate.not_after) == (wanted.not_before, wanted.not_after)
        assert (certificate.log_shard, certificate.leaf_index) == ("2026", 2)
    assert issued.find(Selector(serial=certificates[0].serial), 10)[0][1] is None
    assert issued.by_serial(Serial(12345)) is None


def test_no_more_than_the_limit_comes(
    issued: SqlIssuedCertificates, certificates: list[PendingCertificate]
) -> None:
    found = issued.find(Selector(identity="*"), 2)
    assert [certificate.serial for certificate, _ in found] == [
        certificates[4].serial,
        certificates[3].serial,
    ]
    assert issued.find(Selector(identity="*"), 0) == []


def test_a_pattern_as_long_as_a_book_is_refused(issued: SqlIssuedCertificates) -> None:
    with pytest.raises(InvalidRequest, match="pattern"):
        issued.find(Selector(identity="a?" * 30_000), 1)
