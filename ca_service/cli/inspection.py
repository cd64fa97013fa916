"""The run of `fsck`: which portions are read, by how many processes, and where an interrupted run goes on."""

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from time import monotonic

from cryptography import x509

from ca_service.authority.audit import FIRST_PREVIOUS
from ca_service.authority.entry_inspection import EntryInspection
from ca_service.authority.finding import Finding
from ca_service.authority.status_inspection import inspect_revocation, inspect_shard
from ca_service.authority.tree_inspection import TreeInspection, inspect_tile
from ca_service.errors import ConfigurationError
from ca_service.files.durable import write_file
from ca_service.merkle.tiles import TILE_WIDTH
from ca_service.merkle.tree import HASH_SIZE, complete_root
from ca_service.pki.keys import key_id
from ca_service.store.audit import SqlAudit
from ca_service.store.database import Database
from ca_service.store.inspection import InspectedLog, SqlInspection, inspect_records
from ca_service.vocabulary import TimestampMs

PORTION = 8 * TILE_WIDTH
"""Entries that are read at once: about 7 MB."""

_KEPT_FINDINGS = 1000
_SAVE_SECONDS = 2.0
_WORTH_PROCESSES = 8 * PORTION

Tell = Callable[[str, int, int], None]
"""Is told what is being inspected, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class Subject:
    """What is inspected: a database, and the certificates that the settings name (DER, issuing one first)."""

    url: str
    folder: Path
    chain: tuple[bytes, ...]


@dataclass
class Progress:
    """How far an inspection came, and what it found; the first thousand findings are kept."""

    findings: list[Finding] = field(default_factory=list)
    count: int = 0
    checked: dict[str, int] = field(default_factory=dict)
    trees: dict[str, dict[str, object]] = field(default_factory=dict)
    holes: set[str] = field(default_factory=set)

    def add(self, finding: Finding) -> None:
        """Keep a finding, or only count it."""
        self.count += 1
        if len(self.findings) < _KEPT_FINDINGS:
            self.findings.append(finding)

    def encode(self) -> bytes:
        """Write it for a state file."""
        said = {
            "format": 1,
            "findings": [finding.members() for finding in self.findings],
            "count": self.count,
            "trees": self.trees,
            "holes": sorted(self.holes),
        }
        return json.dumps(said).encode()

    @classmethod
    def decode(cls, content: bytes) -> "Progress":
        """Read a state file; raises ValueError, KeyError or TypeError when it is none."""
        said = json.loads(content)
        if said["format"] != 1:
            raise ValueError("it is of another version")
        findings = [
            Finding(one["rule"], one["where"], one["expected"], one["found"]) for one in said["findings"]
        ]
        for shard, state in said["trees"].items():
            TreeInspection.of_state(shard, state)
        return cls(findings, int(said["count"]), {}, dict(said["trees"]), set(said["holes"]))


def read_state(path: Path) -> Progress:
    """Where an earlier run stopped, or the beginning when there is no such file; ConfigurationError."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return Progress()
    try:
        return Progress.decode(content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(
            f"--resume: {path} is not the state of an inspection ({error}); remove it to begin anew"
        ) from error


@dataclass(frozen=True)
class _Portion:
    """What one portion of a log gave."""

    roots: list[bytes]
    tail: list[bytes]
    newest: int
    holes: bool
    findings: list[Finding]


class _Reader:
    """Inspects portions; one in each process."""

    def __init__(self, subject: Subject) -> None:
        self.database = Database(subject.url, folder=subject.folder)
        self.reads = SqlInspection(self.database)
        self.certificates = self.reads.certificates()
        self.shard_urls = self.reads.shard_urls()
        self.roots = frozenset(subject.chain[-1:])
        self._rules: dict[str, EntryInspection] = {}

    def portion(self, log: int, shard: str, kind: str, start: int, end: int) -> _Portion:
        rules = self._rules.get(shard)
        if rules is None:
            rules = EntryInspection(shard, kind, self.certificates, self.roots, self.shard_urls)
            self._rules[shard] = rules
        leaves, issued, tiles = self.reads.portion(log, start, end)
        hashes, newest, findings = rules.inspect(start, end, leaves, issued)
        filled: list[bytes] = []
        for place, known in enumerate(hashes):
            row = tiles.get((start + place) // TILE_WIDTH)
            at = (start + place) % TILE_WIDTH * HASH_SIZE
            # A tile still knows the hash of a leaf that is gone: what is around it can then be judged.
            filled.append(known or (row[1][at : at + HASH_SIZE] if row else b"").ljust(HASH_SIZE, b"\0"))
        full = len(filled) // TILE_WIDTH * TILE_WIDTH
        roots = []
        for first in range(0, full, TILE_WIDTH):
            its = filled[first : first + TILE_WIDTH]
            index = (start + first) // TILE_WIDTH
            root = complete_root(its)
            findings.extend(inspect_tile(shard, 0, index, its, root, tiles.get(index)))
            roots.append(root)
        return _Portion(roots, filled[full:], newest, None in hashes, findings)


_reader: _Reader | None = None


def _begin(subject: Subject) -> None:
    global _reader
    _reader = _Reader(subject)


def _work(log: int, shard: str, kind: str, start: int, end: int) -> _Portion:
    assert _reader is not None  # noqa: S101 - the pool's initializer made it
    return _reader.portion(log, shard, kind, start, end)


class Inspection:
    """One run over everything in a database."""

    def __init__(
        self, subject: Subject, progress: Progress, tell: Tell, *, state: Path | None, processes: int
    ) -> None:
        """Go on from `progress`; `state` is where to write how far it came, None for nowhere."""
        self._subject = subject
        self._progress = progress
        self._tell = tell
        self._state = state
        self._processes = processes
        self._saved = monotonic()

    def run(self) -> None:
        """Inspect; findings are in the progress. Raises StoreUnavailable and ConfigurationError."""
        database = Database(self._subject.url, folder=self._subject.folder)
        try:
            database.check()
        finally:
            database.close()
        local = _Reader(self._subject)
        try:
            found, strays = local.reads.logs()
            for stray in strays:
                self._once(Finding("stray", stray.name, stray.lacks, "a row that belongs to nothing"))
            self._certificates(local)
            left = sum(log.head.tree_size - self._done(log) for log in found)
            with self._pool(left) as pool:
                for log in found:
                    self._log(log, local, pool)
            self._revocations(local)
            self._shards(local)
            self._audit(local)
        except BaseException:
            self._save(at_once=True)
            raise
        finally:
            local.database.close()
        if self._state is not None:
            self._state.unlink(missing_ok=True)

    # -- logs ----------------------------------------------------------------------------------------

    def _done(self, log: InspectedLog) -> int:
        state = self._progress.trees.get(log.head.shard)
        return 0 if state is None else TreeInspection.of_state(log.head.shard, state).size

    @contextmanager
    def _pool(self, entries: int) -> Iterator[ProcessPoolExecutor | None]:
        if self._processes < 2 or entries < _WORTH_PROCESSES:
            yield None
            return
        pool = ProcessPoolExecutor(
            self._processes, get_context("spawn"), initializer=_begin, initargs=(self._subject,)
        )
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)

    def _log(self, log: InspectedLog, local: _Reader, pool: ProcessPoolExecutor | None) -> None:
        shard, size = log.head.shard, log.head.tree_size
        state = self._progress.trees.get(shard)
        tree = TreeInspection(shard) if state is None else TreeInspection.of_state(shard, state)
        if tree.size > size:
            raise ConfigurationError(
                f"--resume: the state is of {tree.size} entries of log {shard}, which now has {size}; "
                "it is of another database: remove it to begin anew"
            )
        tail: list[bytes] = []
        self._tell(f"log {shard}", tree.size, size)
        for portion in self._portions(log, tree.size, local, pool):
            tail = portion.tail
            if portion.holes:
                self._progress.holes.add(shard)
            for finding in portion.findings:
                # The entries after the last full tile are read again by a run that goes on.
                self._once(finding)
            tree.newest = max(tree.newest, portion.newest)
            for finding in tree.take(
                portion.roots, lambda level, index: local.reads.tile(log.number, level, index)
            ):
                self._once(finding)
            self._progress.trees[shard] = tree.state()
            self._tell(f"log {shard}", tree.size + len(tail), size)
            self._save()
        for finding in tree.finish(tail, log.head, hold=shard not in self._progress.holes):
            self._once(finding)
        self._progress.checked[f"entries of log {shard}"] = size

    def _portions(
        self, log: InspectedLog, first: int, local: _Reader, pool: ProcessPoolExecutor | None
    ) -> Iterator[_Portion]:
        size = log.head.tree_size
        ranges = ((start, min(start + PORTION, size)) for start in range(first, size, PORTION))
        if pool is None:
            for start, end in ranges:
                yield local.portion(log.number, log.head.shard, log.kind, start, end)
            return
        waiting: deque[Future[_Portion]] = deque()
        for start, end in ranges:
            waiting.append(pool.submit(_work, log.number, log.head.shard, log.kind, start, end))
            if len(waiting) > 3 * self._processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    # -- what is beside the logs ----------------------------------------------------------------------

    def _certificates(self, local: _Reader) -> None:
        for print_, der in local.certificates.items():
            hashed = sha256(der).digest()
            if hashed != print_:
                self._once(
                    Finding(
                        "chain-certificate",
                        f"chain certificate {print_.hex()}",
                        "a certificate with that SHA-256",
                        f"one with {hashed.hex()}",
                    )
                )
        self._progress.checked["chain certificates"] = len(local.certificates)

    def _revocations(self, local: _Reader) -> None:
        after, count = ("", ""), 0
        while rows := local.reads.revocations(after, PORTION):
            for row in rows:
                for finding in inspect_revocation(row):
                    self._once(finding)
            count += len(rows)
            after = (rows[-1].authority_key, rows[-1].serial)
            self._tell("revocations", count, count)
        self._progress.checked["revocations"] = count

    def _shards(self, local: _Reader) -> None:
        issuing = _by_key_id([*self._subject.chain, *local.certificates.values()])
        names = sorted(local.reads.shard_urls())
        for done, (authority_key, name) in enumerate(names, 1):
            shard, listed = local.reads.shard(authority_key, name)
            if shard is not None:
                for finding in inspect_shard(shard, issuing.get(authority_key), listed):
                    self._once(finding)
            self._tell("CRL shards", done, len(names))
        self._progress.checked["CRL shards"] = len(names)

    def _audit(self, local: _Reader) -> None:
        records = SqlAudit(local.database, lambda: TimestampMs(0))
        sequence, previous, count = 0, FIRST_PREVIOUS, 0
        while page := records.records(after=sequence):
            for finding in inspect_records(page, sequence, previous):
                self._once(finding)
            sequence, previous = page[-1].sequence, page[-1].hash
            count += len(page)
            self._tell("audit records", count, count)
        self._progress.checked["audit records"] = count

    # -- findings and state ---------------------------------------------------------------------------

    def _once(self, finding: Finding) -> None:
        if finding not in self._progress.findings:
            self._progress.add(finding)

    def _save(self, *, at_once: bool = False) -> None:
        if self._state is not None and (at_once or monotonic() - self._saved > _SAVE_SECONDS):
            write_file(self._state, self._progress.encode(), mode=0o600)
            self._saved = monotonic()


def _by_key_id(ders: Iterable[bytes]) -> dict[str, x509.Certificate]:
    found: dict[str, x509.Certificate] = {}
    for der in ders:
        try:
            certificate = x509.load_der_x509_certificate(der)
            found.setdefault(key_id(certificate.public_key()), certificate)
        except ValueError:
            continue  # what is no certificate has no key; its entries and its fingerprint are reported
    return found
