"""The tables, as SQLAlchemy Core sees them; migrations/ makes them, and a test holds both to each other.

Key ids and audit hashes are lower-case hex, serials and hashes of client keys too, as they are read: stored
they are octets, of which an index holds twice as many. Times are seconds since 1970, but milliseconds in
tree_heads and audit. Rows of the tables in IMMUTABLE are never changed or deleted: triggers refuse it.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    TypeDecorator,
)

IMMUTABLE = ("logs", "leaves", "tiles", "chain_certificates", "issued", "audit")

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

# Compared byte for byte on both engines, so that a prefix of a glob is a range of the index.
ByteOrderedText = Text().with_variant(Text(collation="C"), "postgresql")


class HexOctets(TypeDecorator[str]):
    """Octets in the database, lower-case hex of an even length in Core expressions and their results."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> bytes | None:  # noqa: ARG002 - SQLAlchemy's
        """Hex to octets; b"", which no row has, for what is no hex."""
        try:
            return None if value is None else bytes.fromhex(value)
        except ValueError:
            return b""

    def process_result_value(self, value: Any, dialect: Any) -> str | None:  # noqa: ARG002 - SQLAlchemy's
        """Octets to hex; a damaged row may hold text, which is shown as it is."""
        return None if value is None else read_octets(value)


def read_octets(value: object) -> str:
    """What a column of HexOctets holds, when it was read past SQLAlchemy."""
    return bytes(value).hex() if isinstance(value, bytes | memoryview) else str(value)


def hash_prefix(leaf_hash: bytes) -> int:
    """The eight octets of a leaf's hash that are indexed: enough to find it, and a third of the index."""
    return int.from_bytes(leaf_hash[:8], "big", signed=True)


logs = Table(
    "logs",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("shard", Text, nullable=False, unique=True),
    Column("origin", Text, nullable=False),
    Column("log_id", LargeBinary, nullable=False, unique=True),
    Column("public_key", LargeBinary, nullable=False),
    Column("kind", Text, nullable=False, server_default="precertificate"),
)

tree_heads = Table(
    "tree_heads",
    metadata,
    Column("log", Integer, ForeignKey("logs.id"), primary_key=True, autoincrement=False),
    Column("tree_size", BigInteger, nullable=False),
    Column("timestamp", BigInteger, nullable=False),
    Column("root_hash", LargeBinary, nullable=False),
    Column("frontier", LargeBinary, nullable=False),
    Column("signature", LargeBinary, nullable=False),
    Column("frozen", Boolean, nullable=False),
    Column("starts", BigInteger, nullable=False, server_default="0"),
    Column("ends", BigInteger),
    Column("retired_for", Text, nullable=False, server_default=""),
)

# The long columns come last: SQLite then reads the short ones without following overflow pages.
# `precertificate` is empty where leaf and `signature` give it.
leaves = Table(
    "leaves",
    metadata,
    Column("log", Integer, primary_key=True, autoincrement=False),
    Column("leaf_index", BigInteger, primary_key=True, autoincrement=False),
    Column("hash_prefix", BigInteger, nullable=False),
    Column("leaf_hash", LargeBinary, nullable=False),
    Column("kind", Text, nullable=False),
    Column("chain", LargeBinary, nullable=False),
    Column("signature", LargeBinary, nullable=False),
    Column("leaf", LargeBinary, nullable=False),
    Column("precertificate", LargeBinary, nullable=False),
    Index(None, "log", "hash_prefix", unique=True),
)

chain_certificates = Table(
    "chain_certificates",
    metadata,
    Column("fingerprint", LargeBinary, primary_key=True),
    Column("der", LargeBinary, nullable=False),
)

tiles = Table(
    "tiles",
    metadata,
    Column("log", Integer, primary_key=True, autoincrement=False),
    Column("level", SmallInteger, primary_key=True, autoincrement=False),
    Column("tile_index", BigInteger, primary_key=True, autoincrement=False),
    Column("root_hash", LargeBinary, nullable=False),
    Column("hashes", LargeBinary, nullable=False),
)

issued = Table(
    "issued",
    metadata,
    Column("log", Integer, primary_key=True, autoincrement=False),
    Column("leaf_index", BigInteger, primary_key=True, autoincrement=False),
    Column("serial", HexOctets, nullable=False),
    Column("authority_key", Text, nullable=False),
    Column("subject_kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("subject_normalized", ByteOrderedText, nullable=False),
    Column("oidc_issuer", Text, nullable=False),
    Column("oidc_subject", Text, nullable=False),
    Column("key_sha256", HexOctets, nullable=False),
    Column("not_before", BigInteger, nullable=False),
    Column("not_after", BigInteger, nullable=False),
    Column("crl_shard", Text, nullable=False),
    Index(None, "serial", unique=True),
    Index(None, "subject_normalized", "not_before"),
    Index(None, "key_sha256"),
    Index(None, "not_before"),
)

revocations = Table(
    "revocations",
    metadata,
    Column("authority_key", Text, primary_key=True),
    Column("serial", HexOctets, primary_key=True),
    Column("crl_shard", Text, nullable=False),
    Column("revocation_date", BigInteger, nullable=False),
    Column("revoked_at", BigInteger, nullable=False),
    Column("reason", SmallInteger, nullable=False),
    Column("comment", Text, nullable=False),
    Index(None, "authority_key", "crl_shard"),
)

crl_shards = Table(
    "crl_shards",
    metadata,
    Column("authority_key", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("url", Text, nullable=False),
    Column("covers_from", BigInteger, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("crl_number", BigInteger, nullable=False),
    Column("published_generation", BigInteger, nullable=False),
    Column("this_update", BigInteger, nullable=False),
    Column("next_update", BigInteger, nullable=False),
    Column("crl", LargeBinary, nullable=False),
)

blocks = Table(
    "blocks",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("subject_pattern", Text),
    Column("oidc_issuer", Text),
    Column("oidc_subject", Text),
    Column("reason", Text, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("expires", BigInteger),
    Column("key_sha256", Text),
    sqlite_autoincrement=True,  # an id that the audit names is never given again
)

# Tokens that got their one certificate; swept once they have expired.
token_uses = Table(
    "token_uses",
    metadata,
    Column("token_hash", LargeBinary, primary_key=True),
    Column("expires", BigInteger, nullable=False),
    Index(None, "expires"),
)

# One row: how often revocations and blocks changed, by which every process knows that what it cached is old.
generations = Table(
    "generations",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1", name="one_row"), primary_key=True, autoincrement=False),
    Column("revocations", BigInteger, nullable=False),
    Column("blocks", BigInteger, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("previous_hash", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("detail", Text, nullable=False),
)
