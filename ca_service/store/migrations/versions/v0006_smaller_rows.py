"""Half the octets of an entry: signatures for whole precertificates, octets for hex, shorter indexes.

Rows are written anew, in portions, into tables of the new form. Those of a million entries take some minutes
and, on SQLite, as much room again as they have.
"""

from collections.abc import Callable, Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

from ca_service.pki.precertificates import beside_tbs
from ca_service.pki.sct import tbs_of_leaf
from ca_service.vocabulary import SubjectKind, SubjectName

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

WRITES_ANEW = True
"""Whether all rows are written anew, which on SQLite takes the room of the database again."""

_PORTION = 2_000
_Row = dict[str, Any]


def upgrade() -> None:
    """Go from 0005 to 0006."""
    _rewrite_leaves()
    _rewrite_issued()
    _rewrite_revocations()
    for table in ("leaves", "issued"):
        _forbid_changes(table)


def _rewrite_leaves() -> None:
    old = _put_aside("leaves")
    new = op.create_table(
        "leaves",
        sa.Column("log", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("leaf_index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash_prefix", sa.BigInteger(), nullable=False),
        sa.Column("leaf_hash", sa.LargeBinary(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("chain", sa.LargeBinary(), nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False),
        sa.Column("leaf", sa.LargeBinary(), nullable=False),
        sa.Column("precertificate", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("log", "leaf_index", name="pk_leaves"),
    )
    _copy(old, new, ("log", "leaf_index"), _leaf)
    op.create_index("ix_leaves_log_hash_prefix", "leaves", ["log", "hash_prefix"], unique=True)


def _leaf(row: _Row) -> _Row:
    signature = b""
    if row["kind"] == "precertificate":
        try:
            signature = beside_tbs(row["precertificate"], tbs_of_leaf(row["leaf"]))
        except ValueError:
            signature = b""  # it is kept whole
    return {
        **row,
        "hash_prefix": int.from_bytes(row["leaf_hash"][:8], "big", signed=True),
        "signature": signature,
        "precertificate": b"" if signature else row["precertificate"],
    }


def _rewrite_issued() -> None:
    for index in ("key_sha256", "not_before", "subject_normalized_not_before"):
        op.drop_index(f"ix_issued_{index}", "issued")
    old = _put_aside("issued")
    new = op.create_table(
        "issued",
        sa.Column("log", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("leaf_index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("serial", sa.LargeBinary(), nullable=False),
        sa.Column("authority_key", sa.Text(), nullable=False),
        sa.Column("subject_kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column(
            "subject_normalized", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False
        ),
        sa.Column("oidc_issuer", sa.Text(), nullable=False),
        sa.Column("oidc_subject", sa.Text(), nullable=False),
        sa.Column("key_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("not_before", sa.BigInteger(), nullable=False),
        sa.Column("not_after", sa.BigInteger(), nullable=False),
        sa.Column("crl_shard", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("log", "leaf_index", name="pk_issued"),
    )
    _copy(old, new, ("log", "leaf_index"), _issued)
    op.create_index("ix_issued_serial", "issued", ["serial"], unique=True)
    op.create_index("ix_issued_subject_normalized_not_before", "issued", ["subject_normalized", "not_before"])
    op.create_index("ix_issued_key_sha256", "issued", ["key_sha256"])
    op.create_index("ix_issued_not_before", "issued", ["not_before"])


def _issued(row: _Row) -> _Row:
    """In octets, and with the subject as this program compares names: indexed rows are found by that."""
    subject = SubjectName(SubjectKind(row["subject_kind"]), row["subject"])
    return {**_in_octets(row, "serial", "key_sha256"), "subject_normalized": subject.normalized}


def _rewrite_revocations() -> None:
    op.drop_index("ix_revocations_authority_key_crl_shard", "revocations")
    old = _put_aside("revocations")
    new = op.create_table(
        "revocations",
        sa.Column("authority_key", sa.Text(), nullable=False),
        sa.Column("serial", sa.LargeBinary(), nullable=False),
        sa.Column("crl_shard", sa.Text(), nullable=False),
        sa.Column("revocation_date", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.SmallInteger(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("authority_key", "serial", name="pk_revocations"),
    )
    _copy(old, new, ("authority_key", "serial"), lambda row: _in_octets(row, "serial"))
    op.create_index("ix_revocations_authority_key_crl_shard", "revocations", ["authority_key", "crl_shard"])


def _in_octets(row: _Row, *columns: str) -> _Row:
    return {**row, **{column: bytes.fromhex(row[column]) for column in columns}}


def _put_aside(table: str) -> sa.Table:
    """Rename a table and its key, whose names the new one takes."""
    aside = f"{table}_0005"
    op.rename_table(table, aside)
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"ALTER INDEX pk_{table} RENAME TO pk_{aside}")
    return sa.Table(aside, sa.MetaData(), autoload_with=op.get_bind())


def _copy(old: sa.Table, new: sa.Table, key: tuple[str, str], changed: Callable[[_Row], _Row]) -> None:
    for portion in _portions(old, key):
        op.get_bind().execute(sa.insert(new), [changed(row) for row in portion])
    op.drop_table(old.name)


def _portions(old: sa.Table, key: tuple[str, str]) -> Iterator[list[_Row]]:
    """All rows in the order of the key, which tells where the next portion begins."""
    first, second = (old.c[name] for name in key)
    query = sa.select(old).order_by(first, second).limit(_PORTION)
    rows = op.get_bind().execute(query).mappings().all()
    while rows:
        yield [dict(row) for row in rows]
        last = rows[-1]
        after = sa.or_(first > last[key[0]], sa.and_(first == last[key[0]], second > last[key[1]]))
        rows = op.get_bind().execute(query.where(after)).mappings().all()


def _forbid_changes(table: str) -> None:
    if op.get_bind().dialect.name == "sqlite":
        for change in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{change.lower()} BEFORE {change} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, 'rows of {table} never change'); END"
            )
    else:
        op.execute(
            f"CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
