"""Publishing a log as files, so that file servers and caches can answer for it without this program.

The order is what makes it safe: issuers, hash tiles, data tiles, and only when all are durable the
checkpoint that commits to them. Whoever reads a checkpoint finds every tile it speaks of.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from ca_service.authority.entries import fingerprint
from ca_service.authority.log_ports import TreeHead
from ca_service.authority.log_shards import ShardState
from ca_service.authority.static_log import CHECKPOINT, DESCRIPTION, StaticLog
from ca_service.errors import LogForked
from ca_service.merkle.checkpoint import Checkpoint, parse_checkpoint
from ca_service.merkle.tiles import TILE_WIDTH, Tile, completed_tiles, partial_tiles

_STEP = 16 * TILE_WIDTH
"""Entries between two moves of the cursor: what is done again after a crash, and held in memory, at most."""

Cosign = Callable[[bytes], bytes]
"""Takes a checkpoint and returns it with the signature lines of witnesses that saw it, or as it is.

It answers in bounded time and never raises: witnesses that are down must not stop the publishing."""


def without_witnesses(checkpoint: bytes) -> bytes:
    """Return the checkpoint as it is."""
    return checkpoint


@dataclass(frozen=True, slots=True)
class Published:
    """What a run did: the size that is published now, and how many files it stored, log.v3.json apart."""

    tree_size: int
    stored: int


class LogFiles(Protocol):
    """Where one log is published as files, for readers without this program; one process writes at a time.

    A folder does it now; an object store would keep the same contract. All raise StoreUnavailable.
    """

    def turn(self, pause: float) -> AbstractContextManager[bool]:
        """Try to become the one who publishes; the rest of this port is for who got True, inside.

        False, at once, when another process is at it, or when the checkpoint was replaced less than `pause`
        seconds ago. The turn of a process that dies ends with it.
        """
        ...

    def cursor(self) -> int:
        """The size that `advance` was given last, 0 at first."""
        ...

    def keep(self, path: str, content: bytes) -> bool:
        """Store a file that never changes; readers see all of it or nothing. False when it is there already.

        Raises LogForked, and leaves the file as it is, when it is there with other content. It is durable
        only after `settle`.
        """
        ...

    def settle(self) -> None:
        """Return only after all that was kept is durable."""
        ...

    def drop_partial_tiles(self, path: str) -> None:
        """Forget the partial tiles that the durable full tile at `path` replaces; a place may keep them."""
        ...

    def advance(self, size: int) -> None:
        """Record, durably, that every file of the first `size` entries is durable."""
        ...

    def current(self, path: str) -> bytes | None:
        """A file that changes, as readers see it now; None before the first `replace`."""
        ...

    def replace(self, path: str, content: bytes) -> None:
        """Store a file that changes: the checkpoint, log.v3.json. Readers see the old or the new; durable."""
        ...


class LogPublisher:
    """Brings a place of files up to the newest signed tree head of one log."""

    def __init__(self, log: StaticLog, files: LogFiles, cosign: Cosign = without_witnesses) -> None:
        """Take the log, where its files go, and who else signs its checkpoints."""
        self._log = log
        self._files = files
        self._cosign = cosign

    def publish(self) -> Published:
        """Store what is missing up to the newest tree head, then its checkpoint; does nothing a second time.

        To be called in the files' turn. Killed at any point, the next call ends with the same files. Raises
        LogForked when what was published before is not of this log or not a prefix of it (nothing is stored
        then), and StoreUnavailable.
        """
        head = self._log.reader.head()
        before = self._published()
        if self._log.state is ShardState.RETIRED:
            self._describe()
            if before is not None and (before.size, before.timestamp) > (head.tree_size, head.timestamp):
                # It was closed because the database lost its newest entries: what was published stands.
                return Published(before.size, 0)
        self._refuse_fork(head, before)
        stored = sum(self._store(start, end) for start, end in _steps(self._files.cursor(), head.tree_size))
        self._describe()
        if before is None or (before.size, before.timestamp) != (head.tree_size, head.timestamp):
            self._files.replace(CHECKPOINT, self._cosign(self._log.checkpoint(head)))
            stored += 1
        return Published(head.tree_size, stored)

    def _store(self, start: int, end: int) -> int:
        """Store the entries start..end, end excluded, and say how many files that took."""
        issuers: dict[str, bytes] = {}
        data_tiles: dict[str, bytes] = {}
        for tile in _data_tiles(start, end):
            first = tile.index * TILE_WIDTH
            entries = self._log.reader.entries(first, first + tile.width)
            for entry in entries:
                issuers.update((f"issuer/{fingerprint(der).hex()}", der) for der in entry.chain)
            data_tiles[tile.path] = self._log.data_tile(entries)
        full = completed_tiles(start, end)
        hash_tiles = {tile.path: self._hash_tile(tile) for tile in [*full, *partial_tiles(end)]}

        stored = 0
        for files in (issuers, hash_tiles, data_tiles):
            stored += sum(self._files.keep(path, content) for path, content in files.items())
        self._files.settle()
        # Readers of an older checkpoint take the full tile where a partial one is gone (c2sp.org/tlog-tiles).
        for tile in full:
            self._files.drop_partial_tiles(tile.path)
            if tile.level == 0:
                self._files.drop_partial_tiles(Tile(None, tile.index).path)
        self._files.advance(end)
        return stored

    def _describe(self) -> None:
        description = self._log.description()
        if self._files.current(DESCRIPTION) != description:
            self._files.replace(DESCRIPTION, description)

    def _hash_tile(self, tile: Tile) -> bytes:
        content = self._log.reader.tile(tile)
        if content is None:
            raise LogForked(f"the log no longer has {tile.path}, which a tree head covers: it went back")
        return content

    def _published(self) -> Checkpoint | None:
        note = self._files.current(CHECKPOINT)
        if note is None:
            return None
        identity = self._log.identity
        try:
            return parse_checkpoint(note.decode(), identity.origin, identity.log_id)
        except ValueError as error:
            raise LogForked(f"what is published there is not this log: {error}") from error

    def _refuse_fork(self, head: TreeHead, before: Checkpoint | None) -> None:
        cursor = self._files.cursor()
        if cursor > head.tree_size:
            raise LogForked(
                f"files of {cursor} entries were stored there, and the database has {head.tree_size}: it was "
                "rolled back, or is another one"
            )
        if before is None:
            return
        if (before.size, before.timestamp) > (head.tree_size, head.timestamp):
            raise LogForked(
                f"a checkpoint of {before.size} entries was published, and the database's newest tree head, "
                f"of {head.tree_size}, is older: it was rolled back, or is another one"
            )
        if self._log.reader.root_at(before.size) != before.root:
            raise LogForked(
                f"the published checkpoint of {before.size} entries has another root than the database: "
                "these are two logs under one key"
            )


def _steps(start: int, end: int) -> Iterator[tuple[int, int]]:
    """Cut start..end at whole tiles, so that only the last step leaves partial ones."""
    while start < end:
        following = min(end, (start // _STEP + 1) * _STEP)
        yield start, following
        start = following


def _data_tiles(start: int, end: int) -> Iterator[Tile]:
    for index in range(start // TILE_WIDTH, -(-end // TILE_WIDTH)):
        yield Tile(None, index, min(TILE_WIDTH, end - index * TILE_WIDTH))
