"""Logs and the reads of them: heads, entries, tiles, proofs."""

from collections.abc import Sequence
from hashlib import sha256

from sqlalchemy import Connection, Row, func, insert, select

from ca_service.authority.log import LogIdentity
from ca_service.authority.ports import LogEntry, TreeHead
from ca_service.errors import AlreadyExists, ConfigurationError, StoreUnavailable
from ca_service.merkle.tiles import TILE_WIDTH, Tile, split_hashes, subtree_from_tiles
from ca_service.merkle.tree import (
    Frontier,
    Subtree,
    consistency_proof,
    inclusion_proof,
    range_root,
)
from ca_service.store.database import Database
from ca_service.store.faults import RowRefused
from ca_service.store.schema import chain_certificates, leaves, logs, tiles, tree_heads
from ca_service.vocabulary import LeafIndex, LogId, TimestampMs

_FINGERPRINT_SIZE = sha256().digest_size


def create_log(database: Database, log: LogIdentity, head: TreeHead) -> None:
    """Store a new log with the signed head of its empty tree; raises AlreadyExists, StoreUnavailable."""
    if head.tree_size != 0:
        raise ValueError("a new log has no entries")
    try:
        with database.writing() as connection:
            number = connection.execute(select(func.coalesce(func.max(logs.c.id), 0) + 1)).scalar_one()
            connection.execute(
                insert(logs).values(
                    id=number,
                    shard=log.shard,
                    origin=log.origin,
                    log_id=log.log_id,
                    public_key=log.public_key_der,
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
                )
            )
    except RowRefused:
        raise AlreadyExists(
            f"the database has a log of shard {log.shard}, or with its key, already"
        ) from None


def find_log(connection: Connection, shard: str) -> Row[int, bytes]:
    """The number and the log id of a shard; raises ConfigurationError when there is no such log."""
    row = connection.execute(select(logs.c.id, logs.c.log_id).where(logs.c.shard == shard)).first()
    if row is None:
        raise ConfigurationError(
            f"the database has no log of shard {shard}; was it made with this directory?"
        )
    return row


def tile_hashes(connection: Connection, log: int, level: int, index: int) -> Sequence[bytes]:
    """The hashes a tile has so far: one row of a full tile, or one short column of what is below it."""
    full = connection.execute(
        select(tiles.c.hashes).where(tiles.c.log == log, tiles.c.level == level, tiles.c.tile_index == index)
    ).scalar()
    if full is not None:
        return split_hashes(full)
    first = index * TILE_WIDTH
    if level == 0:
        place, hashed, rows = leaves.c.leaf_index, leaves.c.leaf_hash, leaves.c.log == log
    else:
        place, hashed = tiles.c.tile_index, tiles.c.root_hash
        rows = (tiles.c.log == log) & (tiles.c.level == level - 1)
    query = select(hashed).where(rows, place >= first, place < first + TILE_WIDTH).order_by(place)
    return connection.execute(query).scalars().all()


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
        with self._database.reading() as connection:
            log, log_id = self._log(connection)
            row = connection.execute(select(tree_heads).where(tree_heads.c.log == log)).one()
        return TreeHead(log_id, row.tree_size, TimestampMs(row.timestamp), row.root_hash, row.signature)

    def entries(self, start: int, end: int) -> Sequence[LogEntry]:
        """Entries start..end, end excluded; raises StoreUnavailable."""
        query = (
            select(leaves.c.leaf_index, leaves.c.leaf, leaves.c.precertificate, leaves.c.chain)
            .where(leaves.c.leaf_index >= start, leaves.c.leaf_index < end)
            .order_by(leaves.c.leaf_index)
        )
        with self._database.reading() as connection:
            rows = connection.execute(query.where(leaves.c.log == self._log(connection)[0])).all()
            return [
                LogEntry(
                    LeafIndex(row.leaf_index),
                    row.leaf,
                    row.precertificate,
                    tuple(self._certificate(connection, print_) for print_ in _fingerprints(row.chain)),
                )
                for row in rows
            ]

    def index_of(self, leaf_hash: bytes) -> LeafIndex | None:
        """Where the leaf with this Merkle leaf hash is, or None; raises StoreUnavailable."""
        with self._database.reading() as connection:
            index = connection.execute(
                select(leaves.c.leaf_index).where(
                    leaves.c.log == self._log(connection)[0], leaves.c.leaf_hash == leaf_hash
                )
            ).scalar()
        return None if index is None else LeafIndex(index)

    def inclusion_proof(self, index: int, tree_size: int) -> list[bytes]:
        """The audit path of RFC 6962 §2.1.1; raises StoreUnavailable."""
        with self._database.reading() as connection:
            return inclusion_proof(self._subtree(connection), index, tree_size)

    def consistency_proof(self, first: int, second: int) -> list[bytes]:
        """The proof of RFC 6962 §2.1.2; raises StoreUnavailable."""
        with self._database.reading() as connection:
            return consistency_proof(self._subtree(connection), first, second)

    def root_at(self, tree_size: int) -> bytes:
        """The root hash the log had at a size up to its present one; raises StoreUnavailable."""
        with self._database.reading() as connection:
            return range_root(self._subtree(connection), 0, tree_size)

    def tile(self, tile: Tile) -> bytes | None:
        """A hash tile's content; None when the signed tree has not all its entries. StoreUnavailable."""
        if tile.level is None:
            raise ValueError("a data tile is made from entries")
        with self._database.reading() as connection:
            log = self._log(connection)[0]
            size = connection.execute(
                select(tree_heads.c.tree_size).where(tree_heads.c.log == log)
            ).scalar_one()
            if not tile.exists_at(size):
                return None
            return b"".join(tile_hashes(connection, log, tile.level, tile.index)[: tile.width])

    def chain_certificate(self, fingerprint: bytes) -> bytes | None:
        """The DER of a certificate that stands in some entry's chain, by its SHA-256; StoreUnavailable."""
        with self._database.reading() as connection:
            der: bytes | None = connection.execute(
                select(chain_certificates.c.der).where(chain_certificates.c.fingerprint == fingerprint)
            ).scalar()
        return der

    def _log(self, connection: Connection) -> tuple[int, LogId]:
        if self._found is None:
            row = find_log(connection, self._shard)
            self._found = (row.id, LogId(row.log_id))
        return self._found

    def _subtree(self, connection: Connection) -> Subtree:
        log = self._log(connection)[0]
        return subtree_from_tiles(lambda level, index: tile_hashes(connection, log, level, index))

    def _certificate(self, connection: Connection, fingerprint: bytes) -> bytes:
        known = self._chain_certificates.get(fingerprint)
        if known is None:
            known = connection.execute(
                select(chain_certificates.c.der).where(chain_certificates.c.fingerprint == fingerprint)
            ).scalar()
            if known is None:
                raise StoreUnavailable(
                    f"the log names the chain certificate {fingerprint.hex()}, which is not stored; "
                    "the database is damaged: run `ca-service fsck`"
                )
            self._chain_certificates[fingerprint] = known
        return known


def _fingerprints(encoded: bytes) -> list[bytes]:
    return [encoded[i : i + _FINGERPRINT_SIZE] for i in range(0, len(encoded), _FINGERPRINT_SIZE)]
