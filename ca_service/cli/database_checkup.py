"""What `doctor` looks at in the database: the log, the clock against it, and the high-water mark."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

from cryptography.hazmat.primitives.serialization import load_der_public_key

from ca_service.app import material
from ca_service.app.rollback import guard_of
from ca_service.authority.authorities import Authorities
from ca_service.authority.log import CLOCK_TOLERANCE_MS
from ca_service.authority.log_ports import TreeHead
from ca_service.authority.log_shards import LogShard, ShardState
from ca_service.cli.findings import FAILED, GOOD, WARNING, Finding
from ca_service.cli.host import clock
from ca_service.errors import CAError, ConfigurationError, StoreUnavailable
from ca_service.files.high_water_mark import MarkFile
from ca_service.merkle.checkpoint import tree_head_input
from ca_service.pki.signatures import verify_sha256
from ca_service.settings import Settings
from ca_service.store.database import Database
from ca_service.store.log_shards import SqlLogShards
from ca_service.store.logs import SqlLogReader
from ca_service.store.shards import SqlShards
from ca_service.vocabulary import format_seconds


def stored(
    settings: Settings, keys: material.LogKeys | None, authorities: Authorities | None
) -> Iterator[Finding]:
    """What the database holds, and whether `keys` and `authorities`, where they could be read, fit it."""
    try:
        with closing(Database(settings.database.url, folder=settings.folder)) as database:
            database.check()
            yield Finding("database", GOOD, f"{database.engine_name} answers, its schema is this version's")
            shards = SqlLogShards(database, clock).all()
            heads = {shard.name: SqlLogReader(database, shard.name).head() for shard in shards}
            signed_by = SqlShards(database).authority_keys()
    except CAError as error:
        yield Finding("database", FAILED, error.message)
        yield Finding("log", FAILED, "cannot be looked at, nor the clock, while the database cannot be read")
        return
    for key in sorted(signed_by - set(authorities.by_key)) if authorities is not None else ():
        yield Finding(
            "issuing key and certificate",
            FAILED,
            f"the database has CRLs of the key {key}, which is not here; copy its folder to"
            f" {settings.authority.rotated_dir} from the host where it was made",
        )
    yield from _clock_against(heads.values())
    for shard in shards:
        if keys is not None:
            yield _log(shard, heads[shard.name], keys)
    would_expire = clock() // 1000 + settings.authority.lifetime_seconds
    if not any(shard.state(would_expire) is ShardState.ACTIVE for shard in shards):
        yield Finding("log", FAILED, "no shard takes what would be issued now; `ca-service log rotate --now`")


def high_water_mark(settings: Settings) -> Iterator[Finding]:
    """What the mark holds, and whether the database is behind it; raises MarkUnavailable."""
    path = settings.high_water_mark.path
    mark = MarkFile(path).read()
    entries = sum(seen.tree_size for seen in mark.logs.values())
    holds = (
        f"{path} holds {entries} log entries, revocation generation {mark.generation}, audit record "
        f"{mark.audit_sequence}, {len(mark.crl_numbers)} CRLs"
    )
    try:
        with closing(Database(settings.database.url, folder=settings.folder)) as database:
            database.check()
            wrong = guard_of(settings, database).examine()
    except (ConfigurationError, StoreUnavailable):
        unread = "nobody can tell whether the database is behind it, since that cannot be read"
        yield Finding("high-water mark", FAILED, f"{holds}; {unread}")
        return
    for one in wrong:
        yield Finding("high-water mark", FAILED, f"{one.sentence}; see `ca-service recover`")
    if not wrong:
        yield Finding("high-water mark", GOOD, f"{holds}; the database is not behind it")
    if settings.database.url.startswith("sqlite:") and _on_one_device(settings, path):
        yield Finding(
            "high-water mark",
            WARNING,
            f"{path} is on the volume of the database: what restores that volume restores both, unnoticed",
        )


def _on_one_device(settings: Settings, path: Path) -> bool:
    # The folder of the default database stands for wherever SQLite is: a URL is the store's to read.
    return path.parent.stat().st_dev == settings.folder.stat().st_dev


def _clock_against(heads: Iterable[TreeHead]) -> Iterator[Finding]:
    newest = max((head.timestamp for head in heads), default=0)
    ahead = newest - clock()
    if ahead > CLOCK_TOLERANCE_MS:
        yield Finding("clock", FAILED, f"this machine's clock is {ahead} ms behind the log's newest entry")
    else:
        yield Finding("clock", GOOD, f"not behind the log's newest head of {format_seconds(newest // 1000)}")


def _log(shard: LogShard, head: TreeHead, keys: material.LogKeys) -> Finding:
    signed = tree_head_input(head.timestamp, head.tree_size, head.root_hash)
    try:
        # A DigitallySigned struct: hash, algorithm, two octets of length, signature (RFC 5246 §4.7).
        verify_sha256(load_der_public_key(shard.identity.public_key_der), head.signature[4:], signed)
    except ValueError:
        return Finding("log", FAILED, f"the newest tree head of {shard.name} is not signed with its key")
    if shard.frozen:
        return Finding("log", GOOD, f"{shard.name}: {head.tree_size} entries, closed")
    try:
        keys.signer(shard.identity)
    except ConfigurationError as error:
        return Finding("log", FAILED, error.message)
    return Finding("log", GOOD, f"{shard.name}: {head.tree_size} entries, its key signed the newest head")
