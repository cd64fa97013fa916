"""Reads of what was issued; the rows are written by the sequencer, with the log entry they belong to."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, select

from ca_service.authority.ports import IssuedCertificate, Revocation, Selector
from ca_service.errors import InvalidRequest
from ca_service.store.database import Database
from ca_service.store.globs import is_glob, like_pattern, literal_prefix
from ca_service.store.revocations import read_revocation
from ca_service.store.schema import issued, logs, revocations
from ca_service.vocabulary import KeyId, LeafIndex, Serial, SubjectKind, SubjectName, format_serial

_BIGGEST = (1 << 63) - 1
_LONGEST_PATTERN = 4_000
_LAST_SIGN = "\U0010ffff"


class SqlIssuedCertificates:
    """Issued certificates, found by serial or by what a selector says."""

    def __init__(self, database: Database) -> None:
        """Take the database."""
        self._database = database

    def by_serial(self, serial: Serial) -> IssuedCertificate | None:
        """The certificate with this serial, of whichever authority key; raises StoreUnavailable."""
        query = _select_issued().where(issued.c.serial == format_serial(serial))
        with self._database.reading() as connection:
            row = connection.execute(query).first()
        return None if row is None else _read_issued(row)

    def find(self, selector: Selector, limit: int) -> Sequence[tuple[IssuedCertificate, Revocation | None]]:
        """What the selector means, newest first, at most `limit`; an empty selector means none.

        Raises StoreUnavailable, and InvalidRequest for a pattern of over 4,000 signs.
        """
        if selector == Selector() or limit <= 0:
            return []
        conditions = _conditions(selector)
        if conditions is None:
            return []
        query = (
            _select_issued()
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
            .limit(limit)
        )
        with self._database.reading() as connection:
            return [
                (_read_issued(row), None if row.revoked_serial is None else read_revocation(row, "revoked_"))
                for row in connection.execute(query)
            ]


def _select_issued() -> Select[Any]:
    return select(issued, logs.c.shard).join(logs, logs.c.id == issued.c.log)


def _conditions(selector: Selector) -> list[ColumnElement[bool]] | None:
    """What rows must fulfil; None when no row can."""
    texts = (selector.identity, selector.oidc_issuer, selector.key_sha256)
    if any(text is not None and "\0" in text for text in texts):
        return None
    conditions: list[ColumnElement[bool]] = []
    if selector.identity is not None:
        conditions.extend(_of_subject(selector.identity))
    if selector.oidc_issuer is not None:
        conditions.append(issued.c.oidc_issuer == selector.oidc_issuer)
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
        return [issued.c.subject_normalized == pattern]
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


def _read_issued(row: Row[Any]) -> IssuedCertificate:
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
