"""Taking a certificate back: from which moment, for which reason, and never twice differently."""

import pytest

from ca_service.authority.status_ports import Selector
from ca_service.errors import InvalidRequest, NotFound
from ca_service.vocabulary import RevocationReason, Serial
from tests.unit.authority.conftest import ACTOR, EMAIL, SmallAuthority


def revoke(small: SmallAuthority, serial: int, date: int | None = None, **given: RevocationReason) -> int:
    reason = given.get("reason", RevocationReason.UNSPECIFIED)
    stands = small.desk.revoke_certificate(
        Serial(serial), reason=reason, revocation_date=date, comment="", actor=ACTOR
    )
    return stands.revocation_date


def test_the_date_is_not_before_unless_given(small: SmallAuthority) -> None:
    certificate = small.issue()
    small.clock.seconds += 3600
    assert revoke(small, certificate.serial_number) == int(certificate.not_valid_before_utc.timestamp())


def test_a_date_before_the_certificate_means_its_beginning(small: SmallAuthority) -> None:
    certificate = small.issue()
    assert revoke(small, certificate.serial_number, 1) == int(certificate.not_valid_before_utc.timestamp())


def test_a_date_in_the_future_is_refused(small: SmallAuthority) -> None:
    certificate = small.issue()
    with pytest.raises(InvalidRequest, match="future"):
        revoke(small, certificate.serial_number, small.clock.seconds + 1)
    assert small.desk.find(Selector(identity=EMAIL), 10)[0][1] is None


def test_what_was_never_issued_cannot_be_revoked(small: SmallAuthority) -> None:
    with pytest.raises(NotFound, match="0123"):
        revoke(small, 0x0123)


def test_a_second_revocation_may_be_stricter_but_not_looser(small: SmallAuthority) -> None:
    certificate = small.issue()
    begins = int(certificate.not_valid_before_utc.timestamp())
    small.clock.seconds += 300
    assert revoke(small, certificate.serial_number, begins + 200) == begins + 200
    assert revoke(small, certificate.serial_number, begins + 250) == begins + 200
    assert revoke(small, certificate.serial_number, begins + 100) == begins + 100


def test_find_needs_to_be_told_what(small: SmallAuthority) -> None:
    with pytest.raises(InvalidRequest, match="selector"):
        small.desk.find(Selector(), 10)
