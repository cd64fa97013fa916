"""A log as static files (c2sp.org/static-ct-api): the bytes of each, the same over HTTP and in a folder."""

import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Never

from ca_service.authority.entries import PRECERTIFICATES, EntryCodec
from ca_service.authority.log import LogIdentity
from ca_service.authority.ports import LogEntry, LogReader, TreeHead
from ca_service.merkle.checkpoint import checkpoint_note
from ca_service.merkle.tiles import TILE_WIDTH, Tile
from ca_service.vocabulary import format_time

CHECKPOINT = "checkpoint"
DESCRIPTION = "log.v3.json"

MAXIMUM_MERGE_DELAY_SECONDS = 86_400
"""Entries are merged before their SCT exists; a head may be hours old, and it must not be older than this."""


@dataclass(frozen=True, slots=True)
class LogAddress:
    """Where a log is found: `url` of its submission and monitoring prefix, without a closing slash.

    Its certificates expire within [`expires_from`, `expires_until`).
    """

    url: str
    expires_from: datetime
    expires_until: datetime


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
        self.description = _description(identity, address)

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


def _description(identity: LogIdentity, address: LogAddress) -> bytes:
    """The log.v3.json: an entry of a log list, as Sunlight's logs publish theirs."""
    since = format_time(address.expires_from)
    document = {
        "description": identity.origin,
        "log_id": _base64(identity.log_id),
        "key": _base64(identity.public_key_der),
        "mmd": MAXIMUM_MERGE_DELAY_SECONDS,
        "submission_url": f"{address.url}/",
        "monitoring_url": f"{address.url}/",
        "temporal_interval": {
            "start_inclusive": since,
            "end_exclusive": format_time(address.expires_until),
        },
        "state": {"usable": {"timestamp": since}},
    }
    return json.dumps(document, indent=2).encode() + b"\n"


def _base64(octets: bytes) -> str:
    return b64encode(octets).decode("ascii")
