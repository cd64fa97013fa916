"""What the page of metrics shows beside the counts: the state of the service when the page is asked for."""

import logging
import os
import platform
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509

from ca_service.authority.mark_ports import HighWaterMark
from ca_service.errors import CAError
from ca_service.files.high_water_mark import MarkFile
from ca_service.store.standing import SqlStanding, Standing
from ca_service.telemetry.metrics import Value
from ca_service.vocabulary import LogId

if TYPE_CHECKING:
    from ca_service.app.service import Service

FRESH_SECONDS = 5.0
"""The database is asked no more often, however many pages are."""
PATIENCE_SECONDS = 2.0
"""How long a page waits for the database; Prometheus waits ten seconds."""

_PROC = Path("/proc")
_LOG = logging.getLogger(__name__)


class ServiceState:
    """Reads the state; made in the first process, used in each worker."""

    def __init__(self, service: "Service", clock: Callable[[], float] = time.monotonic) -> None:
        """Take the service, which is not asked for anything yet."""
        self._service = service
        self._clock = clock
        self._started = time.time()
        self._first_process = os.getpid()
        self._standing = SqlStanding(service.database)
        self._mark: HighWaterMark = MarkFile(service.settings.high_water_mark.path)
        self._lock = threading.Lock()
        self._reading: threading.Event | None = None
        self._read_at = float("-inf")
        self._found: tuple[Value, ...] = ()

    def read(self) -> list[Value]:
        """Everything, with `casvc_state_read` 0 where the database did not answer in time; never raises."""
        found = [*self._process(), *self._static()]
        with self._lock:
            if self._reading is None and self._clock() - self._read_at >= FRESH_SECONDS:
                self._reading = threading.Event()
                threading.Thread(target=self._ask, args=(self._reading,), name="state", daemon=True).start()
            reading = self._reading
        if reading is not None and not reading.wait(PATIENCE_SECONDS):
            self._service.observer.count("state_not_read")
            return [*found, Value("casvc_state_read", (), 0), Value("casvc_ready", (), 0)]
        return [*found, *self._found]

    def _ask(self, done: threading.Event) -> None:
        checked: list[Value] = []
        standing: list[Value] = []
        try:
            checked = list(_checks(self._service.checks(), self._service.extras()))
            standing = [*self._stored(self._standing.read()), Value("casvc_state_read", (), 1)]
        except CAError:
            self._not_read(standing)
        except Exception:  # noqa: BLE001 - the page must be shown, most of all when something is wrong
            _LOG.exception("the state of the service could not be read")
            self._not_read(standing)
        finally:
            self._found = (*checked, *standing)
            self._read_at = self._clock()
            with self._lock:
                self._reading = None
            done.set()

    def _not_read(self, standing: list[Value]) -> None:
        self._service.observer.count("state_not_read")
        standing.append(Value("casvc_state_read", (), 0))

    def _stored(self, standing: Standing) -> Iterator[Value]:
        seen: Mapping[LogId, int] = {}
        with suppress(CAError):  # casvc_check_ok says so
            seen = {log_id: mark.tree_size for log_id, mark in self._mark.read().logs.items()}
        for log in standing.logs:
            name = (log.name,)
            yield Value("casvc_log_tree_size", name, log.tree_size)
            yield Value("casvc_log_tree_head_timestamp_seconds", name, log.timestamp / 1000)
            yield Value("casvc_log_frozen", name, bool(log.frozen))
            if log.ends is not None:
                yield Value("casvc_log_period_end_timestamp_seconds", name, log.ends)
            if log.log_id in seen:
                yield Value("casvc_high_water_mark_tree_size", name, seen[log.log_id])
        for crls in standing.crls:
            key = (crls.authority_key,)
            yield Value("casvc_crl_shards", key, crls.shards)
            yield Value("casvc_crl_shards_dirty", key, crls.dirty)
            yield Value("casvc_crl_bytes", key, crls.octets)
            yield Value("casvc_crl_largest_bytes", key, crls.largest)
            yield Value("casvc_crl_oldest_this_update_timestamp_seconds", key, crls.oldest_this_update)
            yield Value("casvc_crl_next_update_timestamp_seconds", key, crls.first_next_update)
        yield Value("casvc_revocation_generation", (), standing.generation)
        yield Value("casvc_audit_records", (), standing.audit_records)
        yield Value("casvc_blocks", (), standing.blocks)

    def _static(self) -> Iterator[Value]:
        service, settings = self._service, self._service.settings
        built = (version("ca-service"), platform.python_version(), service.database.engine_name)
        yield Value("casvc_build_info", built, 1)
        yield Value("casvc_start_time_seconds", (), self._started)
        yield Value("casvc_workers_configured", (), settings.server.workers or len(os.sched_getaffinity(0)))
        yield Value("casvc_high_water_mark_strict", (), settings.high_water_mark.strict)
        authorities = service.authorities.current()
        root = authorities[0].root
        for key, crl in service.publication.root_crls().items():
            yield Value("casvc_root_crl_next_update_timestamp_seconds", (key,), crl.next_update)
            yield Value("casvc_root_crl_bytes", (key,), len(crl.der))
            yield _ends("root", key, root)
        for authority in authorities:
            yield _ends("issuing", authority.key_id, authority.certificate)
            until = authority.issues_until.timestamp()
            yield Value("casvc_authority_issues_until_timestamp_seconds", (authority.key_id,), until)
            try:
                signer = service.delegates.present(authority) if service.delegates else None
            except CAError:
                signer = None  # OCSP answers tryLater then, which is counted
            if signer is not None:
                yield _ends("ocsp", authority.key_id, signer.certificate)
        if settings.server.tls_certificate is not None:
            yield from _tls(settings.server.tls_certificate)
        directory = service.issuers.current()
        for issuer in (*directory.issuers, *directory.wildcards):
            yield Value("casvc_issuer_configured", (issuer.issuer_url,), 1)

    def _process(self) -> Iterator[Value]:
        """From /proc, where there is one: processor time of ended workers is their parent's."""
        pids = self._service.observer.processes()
        memory = {pid: used for pid in pids if (used := _memory(pid)) is not None}
        if not memory:
            return
        workers = [used for pid, used in memory.items() if pid != self._first_process]
        yield Value("casvc_resident_memory_bytes", (), sum(memory.values()))
        yield Value("casvc_worker_resident_memory_max_bytes", (), max(workers or memory.values()))
        yield Value("casvc_cpu_seconds", (), sum(_cpu(pid, pid == self._first_process) for pid in memory))
        yield Value("casvc_open_fds", (), sum(map(_open_files, memory)))


def _checks(needed: Mapping[str, str | None], extras: Mapping[str, str | None]) -> Iterable[Value]:
    yield Value("casvc_ready", (), all(trouble is None for trouble in needed.values()))
    for name, trouble in {**needed, **extras}.items():
        yield Value("casvc_check_ok", (name,), trouble is None)


def _ends(role: str, key: str, certificate: x509.Certificate) -> Value:
    ends = certificate.not_valid_after_utc.timestamp()
    return Value("casvc_certificate_not_after_timestamp_seconds", (role, key), ends)


def _tls(path: Path) -> Iterator[Value]:
    try:
        yield _ends("tls", "", x509.load_pem_x509_certificate(path.read_bytes()))
    except (OSError, ValueError) as error:
        _LOG.warning("the end of %s is not known: %s", path, type(error).__name__)


def _memory(pid: int) -> int | None:
    try:
        return int((_PROC / str(pid) / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None  # it has just ended


def _cpu(pid: int, with_children: bool) -> float:
    try:
        # After the name, which may hold anything: user, system, and both of children that were waited for.
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[11:15]
    except OSError:
        return 0.0
    return sum(map(int, fields[: 4 if with_children else 2])) / os.sysconf("SC_CLK_TCK")


def _open_files(pid: int) -> int:
    try:
        return len(os.listdir(_PROC / str(pid) / "fd"))  # noqa: PTH208 - a number, not paths
    except OSError:
        return 0
