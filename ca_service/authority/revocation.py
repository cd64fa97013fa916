"""Taking certificates back and blocking: who may no longer be trusted, from when, and who said so."""

from collections.abc import Sequence
from dataclasses import replace

from ca_service.authority.audit import AuditHead, AuditRecord, Detail
from ca_service.authority.desk_ports import (
    AuditTrail,
    BlockStore,
    IdentityRevocation,
    Preview,
    RevocationOrder,
    RevocationStore,
)
from ca_service.authority.ports import Actor, Clock, Observer
from ca_service.authority.revocation_rules import block_of, is_active, names_somebody, require_sound
from ca_service.authority.status_ports import (
    Block,
    IssuedCertificate,
    IssuedCertificates,
    Revocation,
    Selector,
)
from ca_service.errors import InvalidRequest, NotFound
from ca_service.vocabulary import RevocationReason, Serial, format_seconds, format_serial

PREVIEWED = 1000
"""So many certificates are listed by a preview unless it is asked for another number."""


class RevocationDesk:
    """Where administrators find, take back, block and look up what was done.

    Every change is one durable transaction together with its audit record. All of it raises StoreUnavailable,
    and, from a database that is not the newest there was, RolledBack or MarkUnavailable.
    """

    def __init__(
        self,
        *,
        issued: IssuedCertificates,
        revocations: RevocationStore,
        blocks: BlockStore,
        audit: AuditTrail,
        clock: Clock,
        observer: Observer,
    ) -> None:
        """Join the collaborators."""
        self._issued = issued
        self._revocations = revocations
        self._blocks = blocks
        self._audit = audit
        self._clock = clock
        self._observer = observer

    # -- looking -----------------------------------------------------------------------------------

    def find(self, selector: Selector, limit: int) -> Sequence[tuple[IssuedCertificate, Revocation | None]]:
        """What a selector means, newest first, at most `limit`; InvalidRequest for an empty one."""
        require_sound(selector)
        return self._issued.find(selector, limit)

    def preview(
        self,
        selector: Selector,
        *,
        revocation_date: int | None = None,
        reason: RevocationReason = RevocationReason.UNSPECIFIED,
        limit: int = PREVIEWED,
    ) -> Preview:
        """What `revoke_identity` would do now, with the newest `limit` of those it would take back.

        Raises InvalidRequest as it does, but not for a selector that means everybody.
        """
        order = self._order(selector, reason, revocation_date, "")
        block = self._block_of(selector, must_be=False)
        found = self._revocations.preview(order, limit)
        if block is None:
            return found
        standing = [
            one
            for one in self._blocks.all()
            if one.target == block.target and is_active(one, order.decided_at)
        ]
        return replace(found, blocks=standing[:1] or [block])

    def blocks(self) -> Sequence[Block]:
        """Every stored block, oldest first, the expired ones too."""
        return self._blocks.all()

    def audit_records(self, after: int, limit: int) -> Sequence[AuditRecord]:
        """Audit records with a number above `after`, oldest first, at most `limit`."""
        return self._audit.records(after, limit)

    def verify_audit(self) -> AuditHead:
        """Check the whole chain of audit records; ValueError names the first that does not fit."""
        return self._audit.verify()

    # -- taking back -------------------------------------------------------------------------------

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
        order = self._order(Selector(serial=serial), reason, revocation_date, comment)
        certificate = self._known(serial)
        changed = self._revocations.revoke([order.revocation_of(certificate)], actor, "revoke-certificate")
        for one in changed:
            self._observer.count("certificate_revoked", reason=one.reason.label)
        stands = self._revocations.status(certificate.authority_key, serial).revocation
        if stands is None:
            raise AssertionError("a revocation that was committed is not there")
        return stands

    def revoke_identity(
        self,
        selector: Selector,
        *,
        reason: RevocationReason,
        revocation_date: int | None = None,
        block: bool = True,
        block_expires: int | None = None,
        everybody: bool = False,
        comment: str,
        actor: Actor,
    ) -> IdentityRevocation:
        """Revoke everything that a selector means, and block whom it names: one transaction.

        It waits for what is just being logged and counts it in; nothing that is logged later escapes the
        block, which concerns the selector's names whatever its window. The date of each certificate is the
        given one, else the window's beginning, never before its notBefore (seconds since 1970).

        `everybody` confirms a selector that names nobody in particular. Raises InvalidRequest without it, and
        for a window alone with `block`; NotFound for a serial or log index that is none.
        """
        order = self._order(selector, reason, revocation_date, comment)
        if not everybody and not names_somebody(selector):
            raise InvalidRequest(
                "this selector names nobody in particular and would take back every certificate of its time; "
                "confirm that with --all (everybody: true), or name an identity, issuer, subject or key"
            )
        wanted = None
        if block:
            found = self._block_of(selector)
            self._require_ahead(block_expires, order.decided_at)
            wanted = found and replace(found, reason=comment, expires=block_expires)
        done = self._revocations.revoke_selected(order, wanted, actor)
        for _ in range(done.revoked):
            self._observer.count("certificate_revoked", reason=reason.label)
        if done.block is not None:
            self._observer.count("identity_blocked")
        return done

    def withdraw(self, serial: Serial, *, comment: str, actor: Actor) -> Revocation:
        """Correct a wrong revocation: take it away, for the reason that `comment` gives, and return it.

        Whoever asks from now on is told `good`; what others have cached stays until it expires there. Raises
        NotFound when the certificate is not revoked, InvalidRequest without a comment.
        """
        if not comment.strip():
            raise InvalidRequest(
                "say why the revocation is withdrawn: the comment stands in the audit record"
            )
        withdrawn = self._revocations.withdraw(serial, comment, actor)
        if withdrawn is None:
            self._known(serial)
            raise NotFound(
                f"the certificate {format_serial(serial)} is not revoked; there is nothing to take away"
            )
        self._observer.count("revocation_withdrawn")
        return withdrawn

    # -- blocking ----------------------------------------------------------------------------------

    def block(
        self,
        selector: Selector,
        *,
        reason: str,
        expires: int | None,
        actor: Actor,
        everybody: bool = False,
    ) -> Sequence[Block]:
        """Give whom a selector names no certificates until `expires` (seconds) or `unblock`; what stands.

        A serial or a log index means the identity of that certificate. Raises InvalidRequest for a window,
        for an expiry that is past, and for a pattern that means everybody unless `everybody` confirms it;
        NotFound for a serial or log index that is none.
        """
        require_sound(selector)
        self._require_ahead(expires, self._clock() // 1000)
        if selector.since is not None or selector.until is not None:
            raise InvalidRequest(
                "a block counts from now on and takes no window; give its end as expires (--expires)"
            )
        if not everybody and not names_somebody(selector):
            raise InvalidRequest(
                "this pattern means everybody, and would stop all issuing; confirm that with --all "
                "(everybody: true), or name an identity, issuer, subject or key"
            )
        block = self._block_of(selector)
        if block is None:
            raise AssertionError("a sound selector without a window names somebody")
        stands = self._blocks.add(replace(block, reason=reason, expires=expires), actor)
        self._observer.count("identity_blocked")
        return [stands]

    def unblock(self, selector_or_number: Selector | int, *, comment: str, actor: Actor) -> Sequence[Block]:
        """Take away the block of a number, or every block of exactly what a selector names; returns them.

        Raises NotFound when there is none, InvalidRequest for a window.
        """
        removed: Sequence[Block]
        if isinstance(selector_or_number, int):
            one = self._blocks.remove(selector_or_number, comment, actor)
            removed = [] if one is None else [one]
            missing = f"there is no block {selector_or_number}; `ca-service blocks` lists them"
        else:
            require_sound(selector_or_number)
            if selector_or_number.since is not None or selector_or_number.until is not None:
                raise InvalidRequest(
                    "a block has no window; name it without since and until, or by its number"
                )
            block = self._block_of(selector_or_number)
            removed = [] if block is None else self._blocks.remove_target(block, comment, actor)
            missing = (
                "no block is of exactly this selector; `ca-service blocks` lists them, and a number names one"
            )
        if not removed:
            raise NotFound(missing)
        for _ in removed:
            self._observer.count("identity_unblocked")
        return removed

    # -- recording ---------------------------------------------------------------------------------

    def record(self, actor: Actor, action: str, detail: Detail) -> None:
        """Put an act that changes nothing here on record, such as a refused attempt."""
        self._audit.append(actor, action, detail)

    # -- what they have in common ------------------------------------------------------------------

    def _order(
        self, selector: Selector, reason: RevocationReason, revocation_date: int | None, comment: str
    ) -> RevocationOrder:
        require_sound(selector)
        now = self._clock() // 1000
        for name, moment in (
            ("a revocation date", revocation_date),
            ("the window's beginning", selector.since),
        ):
            if moment is not None and moment > now:
                raise InvalidRequest(
                    f"{name} cannot be in the future: {format_seconds(moment)} came, "
                    f"now is {format_seconds(now)}"
                )
        return RevocationOrder(selector, reason, revocation_date, comment, now)

    def _known(self, serial: Serial) -> IssuedCertificate:
        certificate = self._issued.by_serial(serial)
        if certificate is None:
            raise NotFound(
                f"no certificate with serial {format_serial(serial)} was issued here; check the serial, "
                "or search with `find`"
            )
        return certificate

    def _block_of(self, selector: Selector, *, must_be: bool = True) -> Block | None:
        """Whom a selector names; None when `must_be` is not set and it names nobody to block."""
        certificate = None
        if selector.serial is not None or selector.log_index is not None:
            one = replace(selector, since=None, until=None)
            found = self._issued.find(one, 1)
            if found:
                certificate = found[0][0]
            elif must_be:
                raise NotFound("the selector names one certificate by serial or log index, and there is none")
            else:
                return None
        block = block_of(selector, certificate)
        if block is None and must_be:
            raise InvalidRequest(
                "a window alone names nobody who could be blocked; say --no-block (block: false), or name "
                "an identity, issuer, subject or key"
            )
        return block

    @staticmethod
    def _require_ahead(expires: int | None, now: int) -> None:
        if expires is not None and expires <= now:
            raise InvalidRequest(
                f"a block must expire in the future: {format_seconds(expires)} came, "
                f"now is {format_seconds(now)}"
            )
