"""The log as static files: checkpoint, tiles, issuers, log.v3.json (c2sp.org/static-ct-api).

Each file has one path: any other way to write it is 404, as it would be on a file server.
"""

import gzip
import re
from collections.abc import Callable, Mapping

from flask import Blueprint, Response, request

from ca_service.authority.static_log import StaticLog
from ca_service.errors import NotFound
from ca_service.merkle.tiles import parse_path
from ca_service.web.conditions import tagged
from ca_service.web.replies import CACHED_FOR_MINUTES, NEVER_CACHED, allow_any_origin, bytes_reply

TILE = "application/octet-stream"

_NEVER_CHANGES = "public, max-age=604800, immutable"
_FINGERPRINT = re.compile(r"[0-9a-f]{64}", re.ASCII)
_FASTEST = 1


def blueprint(logs: Mapping[str, StaticLog]) -> Blueprint:
    """Serve the logs, by shard name."""
    calls = Blueprint("static_log", __name__, url_prefix="/ctlog/<shard>")
    allow_any_origin(calls)

    def file(path: str, answer: Callable[..., Response]) -> None:
        def view(shard: str, **parts: str) -> Response:
            served = logs.get(shard)
            if served is None:
                raise NotFound("there is no log of this name here")
            return answer(served, **parts)

        calls.add_url_rule(path, answer.__name__, view)

    file("/checkpoint", get_checkpoint)
    file("/tile/<level>/<rest:tile>", get_tile)
    file("/tile/data/<rest:tile>", get_data_tile)
    file("/issuer/<fingerprint>", get_issuer)
    file("/log.v3.json", get_log_description)
    return calls


def get_checkpoint(log: StaticLog) -> Response:
    """Answer with the newest signed tree head as a checkpoint: the very signature that get-sth gives."""
    return tagged(
        bytes_reply(log.checkpoint(log.reader.head()), "text/plain; charset=utf-8", cache=NEVER_CACHED)
    )


def get_tile(log: StaticLog, level: str, tile: str) -> Response:
    """Answer with a tile of hashes, whole or partial."""
    return tagged(bytes_reply(_content(log, f"tile/{level}/{tile}"), TILE, cache=_NEVER_CHANGES))


def get_data_tile(log: StaticLog, tile: str) -> Response:
    """Answer with a tile of entries, compressed for callers who take gzip."""
    content = _content(log, f"tile/data/{tile}")
    headers = [("Vary", "Accept-Encoding")]
    if request.accept_encodings.quality("gzip") > 0:
        # Other octets, so another ETag. Certificates hardly shrink, their repetition does: quick is enough.
        content = gzip.compress(content, _FASTEST, mtime=0)
        headers.append(("Content-Encoding", "gzip"))
    return tagged(bytes_reply(content, TILE, cache=_NEVER_CHANGES, headers=headers))


def get_issuer(log: StaticLog, fingerprint: str) -> Response:
    """Answer with a certificate that data tiles name by its SHA-256."""
    der = log.issuer(bytes.fromhex(fingerprint)) if _FINGERPRINT.fullmatch(fingerprint) else None
    if der is None:
        raise NotFound("no entry of this log has a certificate with this SHA-256 in its chain")
    return tagged(bytes_reply(der, "application/pkix-cert", cache=_NEVER_CHANGES))


def get_log_description(log: StaticLog) -> Response:
    """Answer with the log's entry for a list of logs."""
    return tagged(bytes_reply(log.description(), "application/json", cache=CACHED_FOR_MINUTES))


def _content(log: StaticLog, path: str) -> bytes:
    tile = parse_path(path)
    content = None if tile is None else log.tile(tile)
    if content is None:
        raise NotFound("the log has no tile of this name, or it is not yet that large")
    return content
