"""What a selector means in SQL, for searches and for revocations alike."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, select

from ca_service.authority.desk_ports import Preview, RevocationOrder
from ca_service.authority.revocation_rules import stricter
from ca_service.authority.status_ports import IssuedCertificate, Revocation, Selector
from ca_service.errors import InvalidRequest
from ca_service.store.globs import is_glob, like_pattern, literal_prefix
from ca_service.store.schema import issued, logs, revocations
from ca_service.vocabulary import (
    KeyId,
    LeafIndex,
    RevocationReason,
    Serial,
    SubjectKind,
    SubjectName,
    format_serial,
)

REASONS = {reason.number: reason for reason in RevocationReason}

_BIGGEST = (1 << 63) - 1
_LONGEST_PATTERN = 4_000
_LAST_SIGN = "\U0010ffff"


def select_issued() -> Select[Any]:
    """Issued rows with the name of their log shard."""
    return select(issued, logs.c.shard).join(logs, logs.c.id == issued.c.log)


def select_with_revocations(conditions: Sequence[ColumnElement[bool]]) -> Select[Any]:
    """Issued rows with their revocations, newest first."""
    return (
        select_issued()
        .add_columns(*(column.label(f"revoked_{column.name}") for column in revocations.c))
        .outerjoin(
            revocations,
            and_(
                revocations.c.authority_key == issued.c.authority_key,
                revocations.c.serial == issued.c.serial,
            ),
        )
        .where(*conditions)
        .order_by(issued.c.not_before.desc(), issued.c.log.desc(), issued.c.leaf_index.desc())
    )


def conditions_of(selector: Selector) -> list[ColumnElement[bool]] | None:
    """What rows of `select_issued` must fulfil; None when no row can.

    Raises InvalidRequest for a pattern of over 4,000 signs.
    """
    texts = (selector.identity, selector.oidc_issuer, selector.oidc_subject, selector.key_sha256)
    if any(text is not None and "\0" in text for text in texts):
        return None
    conditions: list[ColumnElement[bool]] = []
    if selector.identity is not None:
        conditions.extend(_of_subject(selector.identity))
    if selector.oidc_issuer is not None:
        conditions.append(issued.c.oidc_issuer == selector.oidc_issuer)
    if selector.oidc_subject is not None:
        conditions.append(issued.c.oidc_subject == selector.oidc_subject)
    if selector.key_sha256 is not None:
        conditions.append(issued.c.key_sha256 == selector.key_sha256.lower())
    if selector.log_index is not None:
        shard, index = selector.log_index
        if not 0 <= index <= _BIGGEST or "\0" in shard:
            return None
        conditions.extend((logs.c.shard == shard, issued.c.leaf_index == index))
    if selector.serial is not None:
        conditions.append(issued.c.serial == format_serial(selector.serial))
    if selector.since is not None:
        conditions.append(issued.c.not_after >= _within_range(selector.since))
    if selector.until is not None:
        conditions.append(issued.c.not_before <= _within_range(selector.until))
    return conditions


def _of_subject(identity: str) -> list[ColumnElement[bool]]:
    pattern = SubjectName(SubjectKind.URI, identity).normalized
    if not is_glob(pattern):
        # Rows from before names were composed keep the form that they had.
        return [issued.c.subject_normalized.in_({pattern, identity.strip().casefold()})]
    if len(pattern) > _LONGEST_PATTERN:
        raise InvalidRequest(
            f"a pattern has at most {_LONGEST_PATTERN} signs, this one has {len(pattern)}; shorten it"
        )
    prefix = literal_prefix(pattern)
    conditions: list[ColumnElement[bool]] = [
        issued.c.subject_normalized.like(like_pattern(pattern), escape="\\")
    ]
    if prefix:  # so that the index is used
        conditions.append(issued.c.subject_normalized >= prefix)
        conditions.append(issued.c.subject_normalized <= prefix + _LAST_SIGN)
    return conditions


def _within_range(seconds: int) -> int:
    return max(-_BIGGEST, min(seconds, _BIGGEST))


def read_issued(row: Row[Any]) -> IssuedCertificate:
    """Read a row of `select_issued`."""
    return IssuedCertificate(
        serial=Serial(int(row.serial, 16)),
        authority_key=KeyId(row.authority_key),
        log_shard=row.shard,
        leaf_index=LeafIndex(row.leaf_index),
        subject=SubjectName(SubjectKind(row.subject_kind), row.subject),
        oidc_issuer=row.oidc_issuer,
        oidc_subject=row.oidc_subject,
        key_sha256=row.key_sha256,
        not_before=row.not_before,
        not_after=row.not_after,
        crl_shard=row.crl_shard,
    )


def read_with_revocation(row: Row[Any]) -> tuple[IssuedCertificate, Revocation | None]:
    """Read a row of `select_with_revocations`."""
    return read_issued(row), None if row.revoked_serial is None else read_revocation(row, "revoked_")


def read_revocation(row: Row[Any], prefix: str = "") -> Revocation:
    """Read a row of the table, whose columns may carry a prefix."""
    fields = row._mapping  # noqa: SLF001 - the documented way to read columns by name
    return Revocation(
        Serial(int(fields[f"{prefix}serial"], 16)),
        KeyId(fields[f"{prefix}authority_key"]),
        fields[f"{prefix}crl_shard"],
        fields[f"{prefix}revocation_date"],
        fields[f"{prefix}revoked_at"],
        REASONS[fields[f"{prefix}reason"]],
        fields[f"{prefix}comment"],
    )


# -- what an order concerns ------------------------------------------------------------------------


def targets_of(connection: Connection, order: RevocationOrder) -> list[tuple[Revocation | None, Revocation]]:
    """What stands (None: nothing) and what is to stand of every certificate that an order concerns."""
    return [(stands, after) for _, stands, after in _selected(connection, order)]


def preview_of(connection: Connection, order: RevocationOrder, limit: int) -> Preview:
    """What an order would do now, blocks apart."""
    matched = 0
    changes: list[Revocation] = []
    certificates: list[IssuedCertificate] = []
    since: int | None = None
    until: int | None = None
    for certificate, stands, after in _selected(connection, order):
        matched += 1
        since = min(certificate.not_before, certificate.not_before if since is None else since)
        until = max(certificate.not_after, until or 0)
        if stands != after:
            changes.append(after)
            if len(certificates) < limit:
                certificates.append(certificate)
    return Preview(
        matched=matched,
        already_revoked=matched - len(changes),
        to_revoke=len(changes),
        by_shard=by_shard(changes),
        since=since,
        until=until,
        certificates=certificates,
    )


def by_shard(changes: Iterable[Revocation]) -> Mapping[str, int]:
    """How many there are of each CRL, named "KEY-ID/SHARD"."""
    counted = Counter(f"{one.authority_key}/{one.crl_shard}" for one in changes)
    return dict(sorted(counted.items()))


def _selected(
    connection: Connection, order: RevocationOrder
) -> Iterator[tuple[IssuedCertificate, Revocation | None, Revocation]]:
    conditions = None if order.selector == Selector() else conditions_of(order.selector)
    if conditions is None:
        return
    for row in connection.execute(select_with_revocations(conditions)):
        certificate, stands = read_with_revocation(row)
        yield certificate, stands, stricter(stands, order.revocation_of(certificate))
