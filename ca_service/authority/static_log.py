"""A log as static files (c2sp.org/static-ct-api): the bytes of each, the same over HTTP and in a folder."""

import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Never

from ca_service.authority.entries import PRECERTIFICATES, EntryCodec
from ca_service.authority.log import LogIdentity
from ca_service.authority.log_ports import LogEntry, LogReader, TreeHead
from ca_service.authority.log_shards import ShardState
from ca_service.merkle.checkpoint import checkpoint_note
from ca_service.merkle.tiles import TILE_WIDTH, Tile
from ca_service.vocabulary import format_seconds, format_time

CHECKPOINT = "checkpoint"
DESCRIPTION = "log.v3.json"

MAXIMUM_MERGE_DELAY_SECONDS = 86_400
"""Entries are merged before their SCT exists; a head may be hours old, and it must not be older than this."""


@dataclass(frozen=True, slots=True)
class LogAddress:
    """Where a log is found: `url` of its submission and monitoring prefix, without a closing slash.

    Its certificates expire within [`expires_from`, `expires_until`); the first of them is logged after
    `used_from` (by default `expires_from`). `state` is what was known of it before its tree head was read.
    """

    url: str
    expires_from: datetime
    expires_until: datetime
    used_from: datetime | None = None
    state: ShardState = ShardState.ACTIVE


class StaticLog:
    """The files of one log. What it returns for a tile or an issuer never changes."""

    def __init__(
        self,
        identity: LogIdentity,
        reader: LogReader,
        address: LogAddress,
        codec: EntryCodec[Never] = PRECERTIFICATES,
    ) -> None:
        """Take the log, where it is read, where it is found, and the codec of its entries."""
        self.identity = identity
        self.reader = reader
        self._codec = codec
        self._address = address

    @property
    def state(self) -> ShardState:
        """Where the log is in its life, as it was known when this object was made."""
        return self._address.state

    def description(self) -> bytes:
        """The log.v3.json: an entry of a log list, as Sunlight's logs publish theirs; StoreUnavailable."""
        identity, address = self.identity, self._address
        document = {
            "description": identity.origin,
            "log_id": _base64(identity.log_id),
            "key": _base64(identity.public_key_der),
            "mmd": MAXIMUM_MERGE_DELAY_SECONDS,
            "submission_url": f"{address.url}/",
            "monitoring_url": f"{address.url}/",
            "temporal_interval": {
                "start_inclusive": format_time(address.expires_from),
                "end_exclusive": format_time(address.expires_until),
            },
            "state": self._listed_state(),
        }
        return json.dumps(document, indent=2).encode() + b"\n"

    def checkpoint(self, head: TreeHead) -> bytes:
        """A tree head as a checkpoint: the very signature that get-sth gives."""
        return checkpoint_note(
            self.identity.origin,
            self.identity.log_id,
            size=head.tree_size,
            root=head.root_hash,
            timestamp=head.timestamp,
            signature=head.signature,
        ).encode()

    def tile(self, tile: Tile) -> bytes | None:
        """A hash tile or a data tile; None when the signed tree has not all its entries. StoreUnavailable."""
        if tile.level is not None:
            return self.reader.tile(tile)
        if not tile.exists_at(self.reader.head().tree_size):
            return None
        start = tile.index * TILE_WIDTH
        return self.data_tile(self.reader.entries(start, start + tile.width))

    def data_tile(self, entries: Sequence[LogEntry]) -> bytes:
        """The data tile of these entries."""
        return b"".join(map(self._codec.tile_entry, entries))

    def issuer(self, fingerprint: bytes) -> bytes | None:
        """The DER of a chain certificate by its SHA-256, or None; raises StoreUnavailable."""
        return self.reader.chain_certificate(fingerprint)

    def _listed_state(self) -> dict[str, object]:
        """The state in the words of log lists (version 3)."""
        address = self._address
        if address.state is ShardState.RETIRED:
            # What it signed until then is believed, and there is no final head that anybody vouches for.
            return {"retired": {"timestamp": format_time(address.expires_until)}}
        if address.state is ShardState.PREPARED:
            # Believed by whoever fetches the trust files, and not yet used.
            return {"qualified": {"timestamp": _moment(self.reader.head())}}
        if address.state is ShardState.FROZEN:
            # The state was known before the head is read here, so it is the final one.
            final = self.reader.head()
            tree = {"sha256_root_hash": _base64(final.root_hash), "tree_size": final.tree_size}
            return {"readonly": {"timestamp": _moment(final), "final_tree_head": tree}}
        return {"usable": {"timestamp": format_time(address.used_from or address.expires_from)}}


def _moment(head: TreeHead) -> str:
    return format_seconds(head.timestamp // 1000)


def _base64(octets: bytes) -> str:
    return b64encode(octets).decode("ascii")
