"""One run over everything: the order of its parts, and the parts that are small enough for one process."""

from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path
from time import monotonic

from cryptography import x509

from ca_service.authority.finding import Finding
from ca_service.authority.mark import NO_AUDIT
from ca_service.authority.service_inspection import inspect_block, inspect_periods
from ca_service.authority.status_inspection import inspect_revocation, inspect_shard
from ca_service.authority.tree_inspection import TreeInspection
from ca_service.cli.inspection.portions import PORTION, Reader, Subject, Workers, working
from ca_service.cli.inspection.progress import Progress, Tell
from ca_service.cli.inspection.surroundings import Said, Surroundings
from ca_service.errors import ConfigurationError, StoreUnavailable
from ca_service.files.durable import write_file
from ca_service.pki.keys import key_id
from ca_service.store.audit import SqlAudit
from ca_service.store.database import Database
from ca_service.store.inspection import InspectedLog, SqlInspection, inspect_records
from ca_service.store.integrity import SqlIntegrity
from ca_service.store.log_shards import SqlLogShards
from ca_service.vocabulary import TimestampMs

_SAVE_SECONDS = 2.0

_READ_BY = {
    "logs": {"logs", "tree_heads", "chain_certificates", "crl_shards"},
    "shards of the log": {"logs", "tree_heads"},
    "revocations": {"revocations", "crl_shards"},
    "CRL shards": {"revocations", "crl_shards", "chain_certificates"},
    "audit records": {"audit"},
    "blocks": {"blocks"},
    "high-water mark": {"logs", "tree_heads", "audit", "generations", "crl_shards"},
}
"""The tables whose values each part takes to be of their columns' types."""


class Inspection:
    """One run over everything in a database, and over the files that belong to it."""

    def __init__(
        self,
        subject: Subject,
        surroundings: Surroundings,
        progress: Progress,
        tell: Tell,
        *,
        state: Path | None,
        processes: int,
    ) -> None:
        """Go on from `progress`; `state` is where to write how far it came, None for nowhere."""
        self._subject = subject
        self._surroundings = surroundings
        self._progress = progress
        self._tell = tell
        self._state = state
        self._processes = processes
        self._saved = monotonic()
        self._broken: set[str] = set()
        self._file_inspected = False

    def run(self) -> None:
        """Inspect; findings are in the progress. Raises StoreUnavailable and ConfigurationError."""
        database = Database(self._subject.url, folder=self._subject.folder)
        try:
            database.check()
            self._integrity(SqlIntegrity(database))
            self._part("high-water mark", self._mark, database)
            self._part("shards of the log", self._log_shards, database)
            self._say(self._surroundings.root_crl(self._subject.chain[-1]))
            self._part("blocks", self._blocks, database)
            self._part("audit records", self._audit, database)
            self._part("logs", self._logs, database)
            self._part("revocations", self._revocations, database)
            self._part("CRL shards", self._shards, database)
            self._file(database)
        except BaseException:
            self._save(at_once=True)
            raise
        finally:
            database.close()
        if self._state is not None:
            self._state.unlink(missing_ok=True)

    # -- the database itself ---------------------------------------------------------------------------

    def _integrity(self, integrity: SqlIntegrity) -> None:
        self._say(integrity.inspect_schema())
        for table, finding in integrity.inspect_types():
            self._broken.add(table)
            self._progress.add(finding)

    def _part(self, name: str, inspect: Callable[[Database], None], database: Database) -> None:
        """Inspect one part, unless it would stumble over what is known to be wrong already."""
        if broken := self._broken & _READ_BY[name]:
            right, found = "values of their columns' types", f"others, so that {name} were not inspected"
            self._progress.add(Finding("not-inspected", " and ".join(sorted(broken)), right, found))
            return
        try:
            inspect(database)
        except StoreUnavailable as error:
            self._file(database)
            if not self._progress.count:
                raise  # nothing is wrong with what is stored: it could not be asked
            self._progress.add(Finding("unreadable", name, "rows that can be read", error.message))

    def _file(self, database: Database) -> None:
        if not self._file_inspected:
            self._say(SqlIntegrity(database).inspect_file())
            self._file_inspected = True

    def _mark(self, database: Database) -> None:
        self._say(self._surroundings.mark(database))

    # -- logs ------------------------------------------------------------------------------------------

    def _log_shards(self, database: Database) -> None:
        shards = SqlLogShards(database, lambda: TimestampMs(0)).all()
        self._say(inspect_periods(shards))
        self._say(self._surroundings.log_keys(shards))

    def _logs(self, _: Database) -> None:
        local = Reader(self._subject)
        try:
            found, strays = local.reads.logs()
            for stray in strays:
                self._progress.add(Finding("stray", stray.name, stray.lacks, "a row that belongs to nothing"))
            self._certificates(local)
            left = sum(log.head.tree_size - self._done(log) for log in found)
            with working(self._subject, local, left, self._processes) as workers:
                self._tell("database file", 0, 1)
                file = workers.file()
                for log in found:
                    self._log(log, local, workers)
                self._say(file.result())
                self._file_inspected = True
                self._tell("database file", 1, 1)
        finally:
            local.database.close()

    def _done(self, log: InspectedLog) -> int:
        state = self._progress.trees.get(log.head.shard)
        return 0 if state is None else TreeInspection.of_state(log.head.shard, state).size

    def _log(self, log: InspectedLog, local: Reader, workers: Workers) -> None:
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
        for portion in workers.portions(log, tree.size):
            tail = portion.tail
            if portion.holes:
                self._progress.holes.add(shard)
            # The entries after the last full tile are read again by a run that goes on.
            self._say(portion.findings)
            tree.newest = max(tree.newest, portion.newest)
            self._say(
                tree.take(portion.roots, lambda level, index: local.reads.tile(log.number, level, index))
            )
            self._progress.trees[shard] = tree.state()
            self._tell(f"log {shard}", tree.size + len(tail), size)
            self._save()
        self._say(tree.finish(tail, log.head, hold=shard not in self._progress.holes))
        self._progress.checked[f"entries of log {shard}"] = size

    def _certificates(self, local: Reader) -> None:
        for print_, der in local.certificates.items():
            hashed = sha256(der).digest()
            if hashed != print_:
                where, expected = f"chain certificate {print_.hex()}", "a certificate with that SHA-256"
                self._progress.add(Finding("chain-certificate", where, expected, f"one with {hashed.hex()}"))
        self._progress.checked["chain certificates"] = len(local.certificates)

    # -- what is beside the logs -----------------------------------------------------------------------

    def _revocations(self, database: Database) -> None:
        reads, after, count = SqlInspection(database), ("", ""), 0
        while rows := reads.revocations(after, PORTION):
            for row in rows:
                self._say(inspect_revocation(row))
            count += len(rows)
            after = (rows[-1].authority_key, rows[-1].serial)
            self._tell("revocations", count, count)
        self._progress.checked["revocations"] = count

    def _shards(self, database: Database) -> None:
        reads = SqlInspection(database)
        issuing = _by_key_id([*self._subject.chain, *reads.certificates().values()])
        withdrawn = reads.withdrawn()
        names = sorted(reads.shard_urls())
        for done, (authority_key, name) in enumerate(names, 1):
            shard, listed = reads.shard(authority_key, name)
            if shard is not None:
                self._say(inspect_shard(shard, issuing.get(authority_key), listed, withdrawn))
            self._tell("CRL shards", done, len(names))
        self._progress.checked["CRL shards"] = len(names)

    def _audit(self, database: Database) -> None:
        records = SqlAudit(database, lambda: TimestampMs(0))
        sequence, previous, count = 0, NO_AUDIT, 0
        while page := records.records(after=sequence):
            self._say(inspect_records(page, sequence, previous))
            sequence, previous = page[-1].sequence, page[-1].hash
            count += len(page)
            self._tell("audit records", count, count)
        self._progress.checked["audit records"] = count

    def _blocks(self, database: Database) -> None:
        rows = SqlInspection(database).blocks()
        for row in rows:
            self._say(inspect_block(row))
        self._progress.checked["blocks"] = len(rows)

    # -- findings and state ----------------------------------------------------------------------------

    def _say(self, said: Iterable[Said]) -> None:
        for one in said:
            if isinstance(one, Finding):
                self._progress.add(one)
            else:
                self._progress.notes.append(one)

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
