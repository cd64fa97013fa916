"""Entry codecs: what one kind of log entry looks like, in its leaf and in each form that readers ask for.

A further log needs a codec here, its rows in store, and a line in the table of logs; the tree is the same.
"""

import hashlib
from functools import lru_cache
from typing import Protocol, TypeVar

from ca_service.authority.log_ports import LogEntry, PendingCertificate
from ca_service.pki.sct import precertificate_extra_data, precertificate_leaf
from ca_service.pki.tile_leaf import encode_tile_leaf

PRECERTIFICATE_KIND = "precertificate"

_Entry = TypeVar("_Entry", contravariant=True)


class EntryCodec(Protocol[_Entry]):
    """The bytes of one kind of entry. Pure: the same entry at the same place always gives the same bytes."""

    @property
    def kind(self) -> str:
        """The name of the kind, as it stands in the table of logs; never changed once a log has it."""
        ...

    def leaf(self, timestamp: int, index: int, entry: _Entry) -> bytes:
        """The leaf that the tree hashes; `timestamp` in milliseconds. No two entries may give the same."""
        ...

    def extra_data(self, stored: LogEntry) -> bytes:
        """What get-entries answers beside the leaf (RFC 6962 §4.6)."""
        ...

    def tile_entry(self, stored: LogEntry) -> bytes:
        """The entry as it stands in a data tile (static-ct-api §Log Entries)."""
        ...


class PrecertificateCodec:
    """Entries of a certificate log: precertificates with their chain (RFC 6962 §3.1)."""

    kind = PRECERTIFICATE_KIND

    def leaf(self, timestamp: int, index: int, entry: PendingCertificate) -> bytes:
        """The MerkleTreeLeaf, which is also what the SCT signs (RFC 6962 §3.4)."""
        return precertificate_leaf(timestamp, index, entry.issuer_key_hash, entry.tbs)

    def extra_data(self, stored: LogEntry) -> bytes:
        """The PrecertChainEntry (RFC 6962 §4.6)."""
        return precertificate_extra_data(stored.precertificate, stored.chain)

    def tile_entry(self, stored: LogEntry) -> bytes:
        """The TileLeaf; its chain is named by fingerprints (static-ct-api §Log Entries)."""
        return encode_tile_leaf(
            stored.leaf, stored.precertificate, [fingerprint(der) for der in stored.chain]
        )


@lru_cache(maxsize=64)
def fingerprint(der: bytes) -> bytes:
    """SHA-256 of a chain certificate, by which data tiles name it; a log has few of them."""
    return hashlib.sha256(der).digest()


PRECERTIFICATES = PrecertificateCodec()
