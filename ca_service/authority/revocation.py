"""Taking certificates back: what is revoked, from when, and who said so."""

from collections.abc import Sequence

from ca_service.authority.ports import (
    Actor,
    Clock,
    IssuedCertificate,
    IssuedCertificates,
    Observer,
    Revocation,
    Revocations,
    Selector,
)
from ca_service.errors import InvalidRequest, NotFound
from ca_service.vocabulary import RevocationReason, Serial, format_seconds, format_serial


class RevocationDesk:
    """Where administrators take certificates back, one at a time here."""

    def __init__(
        self,
        *,
        issued: IssuedCertificates,
        revocations: Revocations,
        clock: Clock,
        observer: Observer,
    ) -> None:
        """Join the collaborators."""
        self._issued = issued
        self._revocations = revocations
        self._clock = clock
        self._observer = observer

    def find(self, selector: Selector, limit: int) -> Sequence[tuple[IssuedCertificate, Revocation | None]]:
        """What a selector means, newest first, at most `limit`; raises InvalidRequest for an empty one."""
        if selector == Selector():
            raise InvalidRequest("a selector must name at least one of identity, issuer, key, index or time")
        return self._issued.find(selector, limit)

    def revoke_certificate(
        self,
        serial: Serial,
        *,
        reason: RevocationReason,
        revocation_date: int | None,
        comment: str,
        actor: Actor,
    ) -> Revocation:
        """Revoke one certificate durably and return what now stands, which may be an earlier revocation.

        `revocation_date` (seconds since 1970) is the moment from which its signatures are not to be trusted:
        its notBefore unless given, never before it. Raises NotFound for a serial this authority never issued
        and InvalidRequest for a date in the future.
        """
        certificate = self._issued.by_serial(serial)
        if certificate is None:
            raise NotFound(
                f"no certificate with serial {format_serial(serial)} was issued here; check the serial, "
                "or search with `find`"
            )
        now = self._clock() // 1000
        if revocation_date is not None and revocation_date > now:
            raise InvalidRequest(
                f"a revocation date cannot be in the future: {format_seconds(revocation_date)} came, "
                f"now is {format_seconds(now)}"
            )
        self._revocations.revoke(
            [
                Revocation(
                    serial=serial,
                    authority_key=certificate.authority_key,
                    crl_shard=certificate.crl_shard,
                    revocation_date=max(certificate.not_before, revocation_date or 0),
                    revoked_at=now,
                    reason=reason,
                    comment=comment,
                )
            ],
            actor,
            "revoke-certificate",
        )
        self._observer.count("certificate_revoked", reason=reason.label)
        stands = self._revocations.status(certificate.authority_key, serial).revocation
        if stands is None:
            raise AssertionError("a revocation that was committed is not there")
        return stands
