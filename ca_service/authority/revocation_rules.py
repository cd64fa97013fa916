"""The rules of taking back and blocking, as pure functions; desk and store both follow them."""

import re

from ca_service.authority.status_ports import Block, IssuedCertificate, Revocation, Selector
from ca_service.errors import InvalidRequest
from ca_service.vocabulary import RevocationReason, format_seconds

_KEY_SHA256 = re.compile(r"[0-9a-f]{64}")
_STORABLE = re.compile(r"[^\0\ud800-\udfff]*")


def stricter(stands: Revocation | None, wanted: Revocation) -> Revocation:
    """What stands after both: the earlier date and the graver reason; otherwise what stood."""
    if stands is None:
        return wanted
    gives_reason = _gravity(wanted.reason) > _gravity(stands.reason)
    if wanted.revocation_date >= stands.revocation_date and not gives_reason:
        return stands
    return Revocation(
        stands.serial,
        stands.authority_key,
        stands.crl_shard,
        min(stands.revocation_date, wanted.revocation_date),
        stands.revoked_at,
        wanted.reason if gives_reason else stands.reason,
        wanted.comment or stands.comment,
    )


def _gravity(reason: RevocationReason) -> int:
    """None is less than any, and keyCompromise more: some verifiers then refuse earlier signatures too."""
    if reason is RevocationReason.UNSPECIFIED:
        return 0
    return 2 if reason is RevocationReason.KEY_COMPROMISE else 1


def stricter_block(stands: Block, wanted: Block) -> Block:
    """What stands after both, of one target: the later end, and a reason rather than none."""
    never = stands.expires is None or wanted.expires is None
    return Block(
        *stands.target,
        reason=stands.reason or wanted.reason,
        created=stands.created,
        expires=None if never else max(stands.expires or 0, wanted.expires or 0),
        number=stands.number,
    )


def is_active(block: Block, now: int) -> bool:
    """Whether it refuses anybody at `now` (seconds)."""
    return block.expires is None or now < block.expires


def require_sound(selector: Selector) -> None:
    """Raise InvalidRequest for a selector that is empty, or that cannot mean what was meant by it."""
    if selector == Selector():
        raise InvalidRequest(
            "a selector must name at least one of identity, issuer, subject, key, log index, serial or time"
        )
    if selector.since is not None and selector.until is not None and selector.until < selector.since:
        raise InvalidRequest(
            f"the window ends at {format_seconds(selector.until)}, before it begins at "
            f"{format_seconds(selector.since)}; exchange since and until"
        )
    texts = (selector.identity, selector.oidc_issuer, selector.oidc_subject)
    if any(not _STORABLE.fullmatch(text) for text in texts if text is not None):
        raise InvalidRequest(
            "the selector has a sign that stands in no name, such as NUL; check how it was read"
        )
    if selector.key_sha256 is not None and not _KEY_SHA256.fullmatch(selector.key_sha256.lower()):
        raise InvalidRequest("a key's SHA-256 is written as 64 hex digits")
    identity = selector.identity or ""
    if not identity.isascii() and ("@" in identity or "://" in identity):
        # Such names are ASCII in certificates: the pattern would silently match nobody.
        raise InvalidRequest(
            "an e-mail address or URI in a certificate is ASCII, so this pattern would match nothing; write "
            "the domain as its A-label (xn--…), as `find` prints it"
        )


def names_somebody(selector: Selector) -> bool:
    """Whether it restricts to whom certificates were given, not only to when: `*` and `*@*` do not."""
    return (
        any(letter.isalnum() for letter in selector.identity or "")
        or selector.oidc_issuer is not None
        or selector.oidc_subject is not None
        or selector.key_sha256 is not None
        or selector.serial is not None
        or selector.log_index is not None
    )


def block_of(selector: Selector, certificate: IssuedCertificate | None) -> Block | None:
    """Whom a selector means from now on, whatever its window; None when it names only a time.

    `certificate` is the one that a serial or a log index names: its identity is meant, not it alone.
    """
    if certificate is not None:
        return Block(certificate.subject.value, certificate.oidc_issuer, certificate.oidc_subject)
    block = Block(
        selector.identity,
        selector.oidc_issuer,
        selector.oidc_subject,
        None if selector.key_sha256 is None else selector.key_sha256.lower(),
    )
    return None if block == Block() else block
