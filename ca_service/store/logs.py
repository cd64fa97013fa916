"""Logs and the reads of them: heads, entries, tiles, proofs."""

from collections.abc import Callable, Sequence
from hashlib import sha256

from sqlalchemy import BindParameter, Connection, bindparam, func, insert, select

from ca_service.authority.log import LogIdentity
from ca_service.authority.log_ports import LogEntry, TreeHead
from ca_service.authority.log_shards import Period
from ca_service.errors import AlreadyExists, ConfigurationError, StoreUnavailable
from ca_service.merkle.tiles import TILE_WIDTH, Tile, split_hashes, subtree_from_tiles
from ca_service.merkle.tree import (
    Frontier,
    Subtree,
    consistency_proof,
    inclusion_proof,
    range_root,
)
from ca_service.pki.precertificates import rebuilt
from ca_service.store.database import Database
from ca_service.store.faults import RowRefused
from ca_service.store.quick import DriverRow, Parameters, Statement, Transaction
from ca_service.store.schema import chain_certificates, hash_prefix, leaves, logs, tiles, tree_heads
from ca_service.vocabulary import LeafIndex, LogId, TimestampMs

RowOf = Callable[[Statement, Parameters], DriverRow | None]
"""Asks a query and gives its first row."""

_FINGERPRINT_SIZE = sha256().digest_size

_OF_LOG: BindParameter[int] = bindparam("log_number")
_LOG = Statement(select(logs.c.id, logs.c.log_id, logs.c.kind).where(logs.c.shard == bindparam("shard")))
_HEAD = Statement(
    select(
        tree_heads.c.tree_size, tree_heads.c.timestamp, tree_heads.c.root_hash, tree_heads.c.signature
    ).where(tree_heads.c.log == _OF_LOG)
)
_FULL_TILE = Statement(
    select(tiles.c.hashes).where(
        tiles.c.log == _OF_LOG,
        tiles.c.level == bindparam("at_level"),
        tiles.c.tile_index == bindparam("at_index"),
    )
)
_LEAF_HASHES = Statement(
    select(leaves.c.leaf_hash)
    .where(
        leaves.c.log == _OF_LOG,
        leaves.c.leaf_index >= bindparam("first"),
        leaves.c.leaf_index < bindparam("end"),
    )
    .order_by(leaves.c.leaf_index)
)
_TILE_ROOTS = Statement(
    select(tiles.c.root_hash)
    .where(
        tiles.c.log == _OF_LOG,
        tiles.c.level == bindparam("at_level"),
        tiles.c.tile_index >= bindparam("first"),
        tiles.c.tile_index < bindparam("end"),
    )
    .order_by(tiles.c.tile_index)
)
_ENTRIES = Statement(
    select(leaves.c.leaf_index, leaves.c.leaf, leaves.c.precertificate, leaves.c.signature, leaves.c.chain)
    .where(
        leaves.c.log == _OF_LOG,
        leaves.c.leaf_index >= bindparam("first"),
        leaves.c.leaf_index < bindparam("end"),
    )
    .order_by(leaves.c.leaf_index)
)
_INDEX_OF_LEAF = Statement(
    select(leaves.c.leaf_index).where(
        leaves.c.log == _OF_LOG,
        leaves.c.hash_prefix == bindparam("prefix"),
        leaves.c.leaf_hash == bindparam("hashed_leaf"),
    )
)
_CHAIN_CERTIFICATE = Statement(
    select(chain_certificates.c.der).where(chain_certificates.c.fingerprint == bindparam("print"))
)


def create_log(database: Database, log: LogIdentity, head: TreeHead) -> None:
    """Store a new log with the signed head of its empty tree; raises AlreadyExists, StoreUnavailable."""
    try:
        with database.writing() as connection:
            insert_log(connection, log, head, Period())
    except RowRefused:
        raise AlreadyExists(
            f"the database has a log of shard {log.shard}, or with its key, already"
        ) from None


def insert_log(connection: Connection, log: LogIdentity, head: TreeHead, period: Period) -> None:
    """Insert a new log in an open transaction."""
    if head.tree_size != 0:
        raise ValueError("a new log has no entries")
    number = connection.execute(select(func.coalesce(func.max(logs.c.id), 0) + 1)).scalar_one()
    connection.execute(
        insert(logs).values(
            id=number,
            shard=log.shard,
            origin=log.origin,
            log_id=log.log_id,
            public_key=log.public_key_der,
            kind=log.kind,
        )
    )
    connection.execute(
        insert(tree_heads).values(
            log=number,
            tree_size=0,
            timestamp=head.timestamp,
            root_hash=head.root_hash,
            frontier=Frontier().encode(),
            signature=head.signature,
            frozen=False,
            starts=period.starts,
            ends=period.ends,
        )
    )


def find_log(row_of: RowOf, shard: str) -> tuple[int, LogId, str]:
    """The number, log id and kind of entries of a shard; ConfigurationError when there is no such log.

    `row_of` is Transaction.row or Database.quick_row.
    """
    row = row_of(_LOG, {"shard": shard})
    if row is None:
        raise _no_log(shard)
    return row[0], LogId(row[1]), row[2]


def index_of_leaf(transaction: Transaction, log: int, leaf_hash: bytes) -> DriverRow | None:
    """A row of the index of the leaf with this hash, or None."""
    place = {"log_number": log, "prefix": hash_prefix(leaf_hash), "hashed_leaf": leaf_hash}
    return transaction.row(_INDEX_OF_LEAF, place)


def whole_precertificate(leaf: bytes, stored: bytes, signature: bytes) -> bytes:
    """The precertificate of a row; raises StoreUnavailable when it cannot be told."""
    if not signature:
        return stored
    try:
        return rebuilt(leaf, signature)
    except ValueError as error:
        raise StoreUnavailable(
            f"a precertificate cannot be put together from its leaf: {error}; the database is damaged: run "
            "`ca-service fsck`"
        ) from error


def _no_log(shard: str) -> ConfigurationError:
    return ConfigurationError(f"the database has no log of shard {shard}; was it made with this directory?")


def tile_hashes(transaction: Transaction, log: int, level: int, index: int) -> list[bytes]:
    """The hashes a tile has so far: one row of a full tile, or one short column of what is below it."""
    place: dict[str, object] = {"log_number": log, "at_level": level, "at_index": index}
    full = transaction.row(_FULL_TILE, place)
    if full is not None:
        return split_hashes(full[0])
    first = index * TILE_WIDTH
    edge: dict[str, object] = {"log_number": log, "first": first, "end": first + TILE_WIDTH}
    if level == 0:
        return [row[0] for row in transaction.rows(_LEAF_HASHES, edge)]
    return [row[0] for row in transaction.rows(_TILE_ROOTS, {**edge, "at_level": level - 1})]


class SqlLogReader:
    """Reads of one log; proofs take one tile for each level of 256, however large the log is."""

    def __init__(self, database: Database, shard: str) -> None:
        """Take the log of this shard, which is looked up at the first read (ConfigurationError if absent)."""
        self._database = database
        self._shard = shard
        self._found: tuple[int, LogId] | None = None
        self._chain_certificates: dict[bytes, bytes] = {}

    def head(self) -> TreeHead:
        """The newest durable tree head; raises StoreUnavailable."""
        with self._database.quick_reading() as transaction:
            log, log_id = self._log(transaction)
            size, timestamp, root_hash, signature = self._head(transaction, log)
        return TreeHead(log_id, size, TimestampMs(timestamp), root_hash, signature)

    def entries(self, start: int, end: int) -> Sequence[LogEntry]:
        """Entries start..end, end excluded; raises StoreUnavailable."""
        with self._database.quick_reading() as transaction:
            place = {"log_number": self._log(transaction)[0], "first": start, "end": end}
            return [
                LogEntry(
                    LeafIndex(index),
                    leaf,
                    whole_precertificate(leaf, precertificate, signature),
                    tuple(self._certificate(transaction, print_) for print_ in _fingerprints(chain)),
                )
                for index, leaf, precertificate, signature, chain in transaction.rows(_ENTRIES, place)
            ]

    def index_of(self, leaf_hash: bytes) -> LeafIndex | None:
        """Where the leaf with this Merkle leaf hash is, or None; raises StoreUnavailable."""
        with self._database.quick_reading() as transaction:
            row = index_of_leaf(transaction, self._log(transaction)[0], leaf_hash)
        return None if row is None else LeafIndex(row[0])

    def inclusion_proof(self, index: int, tree_size: int) -> list[bytes]:
        """The audit path of RFC 6962 §2.1.1; raises StoreUnavailable."""
        with self._database.quick_reading() as transaction:
            return inclusion_proof(self._subtree(transaction), index, tree_size)

    def consistency_proof(self, first: int, second: int) -> list[bytes]:
        """The proof of RFC 6962 §2.1.2; raises StoreUnavailable."""
        with self._database.quick_reading() as transaction:
            return consistency_proof(self._subtree(transaction), first, second)

    def root_at(self, tree_size: int) -> bytes:
        """The root hash of the tree of this size; raises StoreUnavailable."""
        with self._database.quick_reading() as transaction:
            return range_root(self._subtree(transaction), 0, tree_size)

    def tile(self, tile: Tile) -> bytes | None:
        """A hash tile's content; None when the signed tree has not all its entries. StoreUnavailable."""
        if tile.level is None:
            raise ValueError("a data tile is made from entries")
        with self._database.quick_reading() as transaction:
            log = self._log(transaction)[0]
            if not tile.exists_at(self._head(transaction, log)[0]):
                return None
            return b"".join(tile_hashes(transaction, log, tile.level, tile.index)[: tile.width])

    def chain_certificate(self, fingerprint: bytes) -> bytes | None:
        """The DER of a certificate that stands in some entry's chain, by its SHA-256; StoreUnavailable."""
        row = self._database.quick_row(_CHAIN_CERTIFICATE, {"print": fingerprint})
        return None if row is None else bytes(row[0])

    def _log(self, transaction: Transaction) -> tuple[int, LogId]:
        if self._found is None:
            self._found = find_log(transaction.row, self._shard)[:2]
        return self._found

    def _head(self, transaction: Transaction, log: int) -> DriverRow:
        row = transaction.row(_HEAD, {"log_number": log})
        if row is None:
            raise StoreUnavailable(
                f"the log of shard {self._shard} has no tree head: the database is damaged"
            )
        return row

    def _subtree(self, transaction: Transaction) -> Subtree:
        log = self._log(transaction)[0]
        return subtree_from_tiles(lambda level, index: tile_hashes(transaction, log, level, index))

    def _certificate(self, transaction: Transaction, fingerprint: bytes) -> bytes:
        known = self._chain_certificates.get(fingerprint)
        if known is None:
            row = transaction.row(_CHAIN_CERTIFICATE, {"print": fingerprint})
            if row is None:
                raise StoreUnavailable(
                    f"the log names the chain certificate {fingerprint.hex()}, which is not stored; "
                    "the database is damaged: run `ca-service fsck`"
                )
            known = self._chain_certificates[fingerprint] = row[0]
        return known


def _fingerprints(encoded: bytes) -> list[bytes]:
    return [encoded[i : i + _FINGERPRINT_SIZE] for i in range(0, len(encoded), _FINGERPRINT_SIZE)]
