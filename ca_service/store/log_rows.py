"""What a batch of entries becomes: leaves, chain certificates, full tiles, and the log's new head."""

from collections.abc import Sequence
from hashlib import sha256

from sqlalchemy import bindparam, func, literal_column, select, update

from ca_service.authority.log import LogHead, NewLeaf, NextHead
from ca_service.authority.log_ports import TreeHead
from ca_service.authority.log_shards import Period
from ca_service.errors import LogClosed, StoreUnavailable
from ca_service.merkle.tiles import completed_tiles
from ca_service.merkle.tree import Frontier, complete_root
from ca_service.store.entry_kinds import BesideLeaf
from ca_service.store.logs import tile_hashes
from ca_service.store.quick import DriverRow, Insertion, Statement, Transaction
from ca_service.store.schema import chain_certificates, hash_prefix, leaves, tiles, tree_heads
from ca_service.vocabulary import TimestampMs

LOCKED_HEAD = Statement(
    select(
        tree_heads.c.tree_size,
        tree_heads.c.timestamp,
        tree_heads.c.frontier,
        tree_heads.c.frozen,
        tree_heads.c.starts,
        tree_heads.c.ends,
    )
    .where(tree_heads.c.log == bindparam("log_number"))
    .with_for_update()
)
"""The head of the log `log_number`, under its lock."""

_MOVE = (
    update(tree_heads)
    .where(
        tree_heads.c.log == bindparam("log_number"),
        tree_heads.c.tree_size == bindparam("old_size"),
    )
    .values(
        tree_size=bindparam("new_size"),
        timestamp=bindparam("new_timestamp"),
        root_hash=bindparam("new_root_hash"),
        frontier=bindparam("new_frontier"),
        signature=bindparam("new_signature"),
    )
)
_MOVED = _MOVE.returning(tree_heads.c.log).cte("moved")
# PostgreSQL takes the head with COMMIT, so it must refuse by itself what moves no row: 1 / 0 is an error.
_NEXT_HEAD = Statement(_MOVE, select(literal_column("1").op("/")(func.count())).select_from(_MOVED))
_NEW_LEAVES = Insertion(leaves)
_NEW_TILES = Insertion(tiles)
_NEW_CERTIFICATES = Insertion(chain_certificates, unless_there=True)


def read_head(row: DriverRow | None, shard: str) -> tuple[LogHead, Period]:
    """Read a row of LOCKED_HEAD; raises LogClosed for a frozen log, StoreUnavailable where there is none."""
    if row is None:
        raise StoreUnavailable("the log has no tree head: the database is damaged")
    size, timestamp, frontier, frozen, starts, ends = row
    if frozen:
        raise LogClosed(
            f"the log shard {shard} is frozen: its last tree head is signed and it takes no entries",
            retry_after=1,
        )
    return LogHead(Frontier.decode(size, frontier), TimestampMs(timestamp)), Period(starts, ends)


def store_leaves(
    transaction: Transaction,
    number: int,
    kind: str,
    stored: Sequence[tuple[BesideLeaf, NewLeaf]],
    known_certificates: set[bytes],
) -> set[bytes]:
    """Insert leaves, and certificates of their chains that are not known; the fingerprints of all chains."""
    chains = {one.chain: [sha256(der).digest() for der in one.chain] for one, _ in stored}
    prints = {print_ for chain in chains.values() for print_ in chain}
    if not prints <= known_certificates:
        pairs = {pair for chain, its in chains.items() for pair in zip(its, chain, strict=True)}
        transaction.insert(_NEW_CERTIFICATES, sorted(pairs))
    joined = {chain: b"".join(its) for chain, its in chains.items()}
    transaction.insert(
        _NEW_LEAVES,
        [
            (
                number,
                leaf.leaf_index,
                hash_prefix(leaf.leaf_hash),
                leaf.leaf_hash,
                kind,
                joined[one.chain],
                one.signature,
                leaf.leaf,
                one.octets,
            )
            for one, leaf in stored
        ],
    )
    return prints


def store_full_tiles(transaction: Transaction, number: int, before: int, after: int) -> None:
    """Insert the tiles that a log completes when it grows from one size to another."""
    for tile in completed_tiles(before, after):
        assert tile.level is not None  # noqa: S101 - completed_tiles gives hash tiles only
        hashes = tile_hashes(transaction, number, tile.level, tile.index)
        row = (number, tile.level, tile.index, complete_root(hashes), b"".join(hashes))
        transaction.insert(_NEW_TILES, [row])


def store_head(
    transaction: Transaction, number: int, before: LogHead, following: NextHead, signed: TreeHead
) -> None:
    """Put the new head in the old one's place; raises StoreUnavailable when the old one is not there.

    PostgreSQL raises it with COMMIT.
    """
    size = before.frontier.size
    transaction.require_change(
        _NEXT_HEAD,
        {
            "log_number": number,
            "old_size": size,
            "new_size": signed.tree_size,
            "new_timestamp": signed.timestamp,
            "new_root_hash": signed.root_hash,
            "new_frontier": following.head.frontier.encode(),
            "new_signature": signed.signature,
        },
        f"the log's head moved from {size} while its lock was held, so nothing was stored; make sure that "
        "every process uses this database and no copy of it",
    )
