"""Where a certificate's time goes in running workers: by thread, by room or library, by function and by line.

How much CPU each thread takes is the kernel's account, without a profiler; py-spy only says in what it was
spent, by looking at the stacks a hundred times a second without stopping anybody. It sees threads that want
to run, also those that have no core yet; the kernel says how long they waited for one, and that much is taken
from the lines that wait. What C code does (signing, SQLite) counts for the line of Python that calls it.
"""

import json
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import psutil

from scripts.benchmark.asking import signing_requests
from scripts.benchmark.plan import Options, Plan, Result, Row
from scripts.benchmark.server import founded, load, service_of, warmed
from scripts.benchmark.stacks import Counted, Stack, by_function, by_line, by_room, read_stacks
from scripts.benchmark.turns import progress
from scripts.benchmark.where import where
from tests.support.issuer import LocalIssuer
from tests.support.postgres import LocalPostgres
from tests.support.processes import RunningService, environment, running

_SPY = Path(sys.executable).parent / "py-spy"
_LOOKS = 100
"""A second, at each worker."""
_CLIENTS = 32
_MOST_ROWS = 25


class _MayNotLook(Exception):
    """The machine does not let py-spy read the memory of another process."""


@dataclass(frozen=True)
class _Spent:
    """What threads had: CPU seconds, seconds without a core, how often they waited or lost their core."""

    seconds: float = 0.0
    without_core: float = 0.0
    waits: int = 0
    losses: int = 0

    def __add__(self, other: "_Spent") -> "_Spent":
        return _Spent(*(mine + its for mine, its in zip(astuple(self), astuple(other), strict=True)))

    def since(self, other: "_Spent") -> "_Spent":
        """What was had after an earlier account."""
        return _Spent(*(mine - its for mine, its in zip(astuple(self), astuple(other), strict=True)))


def profile(options: Options) -> Iterator[Result]:
    """Tables by thread, room, function and line; by cProfile in one process where py-spy may not look."""
    engine = (options.engines or ("sqlite",))[0]
    workers, clients = (options.workers or (1,))[0], (options.clients or (_CLIENTS,))[0]
    folder = options.folder / "profile"
    with ExitStack() as stack:
        issuer = stack.enter_context(LocalIssuer())
        postgres = stack.enter_context(LocalPostgres(durable=True)) if engine == "postgresql" else None
        environ = {"CASVC_DATABASE__URL": postgres.new_database()} if postgres else {}
        environ = founded(folder, issuer, {**environ, **options.variants[0]})
        service = stack.enter_context(running(service_of(folder, workers, environ)))
        plan = options.plan(folder, workers=workers, clients=clients)
        progress("warm up")
        requests = warmed(plan, service, lambda: signing_requests(service, issuer))
        try:
            # Some threads are only begun under load, so names are asked for after it.
            before = _accounts(service)
            measured = load(plan, service, requests, plan.seconds)
            spent = _by_name(service, before, _accounts(service))
            progress("the same load again, and py-spy looks")
            before = _accounts(service)
            stacks = _looked(plan, service, requests)
            weights = _weights(stacks, spent, _by_name(service, before, _accounts(service)))
        except _MayNotLook as refusal:
            progress(f"py-spy may not look into other processes here ({refusal}): cProfile instead")
            yield where(options)
            return
    if options.stacks is not None:
        options.stacks.write_text("".join(f"{';'.join(each.frames)} {each.count}\n" for each in stacks))
    yield from _tables(engine, plan, measured, spent, stacks, weights)


def _tables(
    engine: str,
    plan: Plan,
    measured: Mapping[str, Any],
    spent: Mapping[str, _Spent],
    stacks: Sequence[Stack],
    weights: Mapping[tuple[str, bool], float],
) -> Iterator[Result]:
    good = max(measured["good"], 1)
    total = sum(each.seconds for each in spent.values()) / good * 1e6
    threads = []
    for name, each in sorted(spent.items(), key=lambda named: -named[1].seconds):
        cost, without = each.seconds / good * 1e6, each.without_core / good * 1e6
        note = f"{cost / total:.0%}; waits {each.waits / good:.1f} times, {without:,.0f} µs without a core"
        threads.append(Row(name, cost, "µs CPU", note=note, facts={"waits": each.waits / good}))
    if sum(each.without_core for each in spent.values()) > sum(each.seconds for each in spent.values()):
        progress("the machine is busy with something else: believe the threads below, hardly the lines")
    yield Result(
        f"Where a certificate's {total:,.0f} µs CPU go: {engine}, {plan.workers} workers, "
        f"{plan.clients} clients, {measured['rate']:,.0f} a second; by thread, as the kernel counts",
        threads,
    )
    seen = sum(stack.count for stack in stacks)
    per_certificate = {thread: weight / good * 1e6 for thread, weight in weights.items()}
    for title, found in (
        ("by room and library, own time", by_room(stacks)),
        ("by function, with all that it calls", by_function(stacks)),
        ("by line, own time", by_line(stacks)),
    ):
        yield Result(f"… {title} ({seen:,} stacks seen)", _ranked(found, per_certificate, total))


def _ranked(found: Counted, weights: Mapping[tuple[str, bool], float], total: float) -> list[Row]:
    """The costliest of what was found: CPU by name and note, and by thread."""
    rows = []
    for (name, note), counts in found.items():
        shares: dict[str, float] = defaultdict(float)
        for (thread, waiting), count in counts.items():
            shares[thread] += count * weights.get((thread, waiting), 0.0)
        spent = sum(shares.values())
        most = sorted(shares.items(), key=lambda share: -share[1])[:3]
        parts = note or ", ".join(f"{thread} {share:.0f}" for thread, share in most)
        rows.append(Row(name, spent, "µs CPU", note=f"{spent / total:4.0%}; {parts}", facts=dict(shares)))
    return sorted(rows, key=lambda row: -row.value)[:_MOST_ROWS]


def _weights(
    stacks: Sequence[Stack], spent: Mapping[str, _Spent], meanwhile: Mapping[str, _Spent]
) -> dict[tuple[str, bool], float]:
    """CPU seconds that one look at a thread stands for, at lines that wait and at others.

    `spent` is without py-spy, `meanwhile` with it. A thread is seen while it has a core and while it wants
    one. It wants one after each wait, at a line that waits; and after each loss of its core, anywhere.
    """
    seen: Counter[tuple[str, bool]] = Counter()
    for stack in stacks:
        seen[stack.thread, stack.waiting] += stack.count
    weights = {}
    for name, had in meanwhile.items():
        waiting, busy = seen[name, True], seen[name, False]
        if not waiting + busy or not had.seconds or name not in spent:
            continue
        share = waiting / (waiting + busy)
        after_waits = had.without_core * had.waits / max(had.waits + had.losses, 1)
        anywhere = had.without_core - after_waits
        idle = share * (had.seconds + had.without_core) - after_waits - share * anywhere
        at_waits = min(max(idle, 0.0) / had.seconds, 1.0) if busy else 1.0
        if waiting:
            weights[name, True] = spent[name].seconds * at_waits / waiting
        if busy:
            weights[name, False] = spent[name].seconds * (1.0 - at_waits) / busy
    return weights


# -- the kernel's account ------------------------------------------------------------------------------------


def _accounts(service: RunningService) -> dict[tuple[int, int], _Spent]:
    """What every thread has had so far (/proc/PID/task/TID: schedstat, status)."""
    accounts = {}
    for process in service.family():
        for task in Path(f"/proc/{process.pid}/task").iterdir():
            status = dict(line.split(":\t", 1) for line in (task / "status").read_text().splitlines())
            ran, without, _ = (int(number) for number in (task / "schedstat").read_text().split())
            accounts[process.pid, int(task.name)] = _Spent(
                ran / 1e9,
                without / 1e9,
                int(status["voluntary_ctxt_switches"]),
                int(status["nonvoluntary_ctxt_switches"]),
            )
    return accounts


def _by_name(
    service: RunningService,
    before: Mapping[tuple[int, int], _Spent],
    after: Mapping[tuple[int, int], _Spent],
) -> dict[str, _Spent]:
    names = {process.pid: _names(process) for process in service.workers()}
    spent: dict[str, _Spent] = defaultdict(_Spent)
    for (pid, task), now in after.items():
        name = names[pid].get(task, "threads without Python") if pid in names else "gunicorn's master process"
        spent[name] += now.since(before.get((pid, task), _Spent()))
    return spent


def _names(worker: psutil.Process) -> dict[int, str]:
    """What each thread of a worker is for, by its number."""
    dumped = _spy("dump", "--json", "--pid", str(worker.pid))
    return {each["os_thread_id"]: purpose(each["thread_name"]) for each in json.loads(dumped)}


def purpose(thread: str | None) -> str:
    """What a thread is for, by its name: one name for all that serve requests."""
    if thread is None:
        return "threads without a name"
    if thread.startswith(("ThreadPoolExecutor", "server-")):
        return "requests"
    return "main thread" if thread == "MainThread" else thread


# -- py-spy ------------------------------------------------------------------------------------------------


def _looked(plan: Plan, service: RunningService, requests: Sequence[bytes]) -> list[Stack]:
    """Stacks of all workers under the same load."""
    files = {worker.pid: plan.folder / f"stacks-{worker.pid}" for worker in service.workers()}
    loader = threading.Thread(target=load, args=(plan, service, requests, plan.seconds + 2))
    loader.start()
    try:
        spies = [
            threading.Thread(target=_record, args=(pid, file, plan.seconds)) for pid, file in files.items()
        ]
        for spy in spies:
            spy.start()
        for spy in spies:
            spy.join()
    finally:
        loader.join()
    found = [stack for file in files.values() if file.exists() for stack in read_stacks(file, purpose)]
    if not found:
        raise _MayNotLook("it saw nothing")
    return found


def _record(pid: int, file: Path, seconds: float) -> None:
    _spy(
        *("record", "--pid", str(pid), "--duration", str(max(1, round(seconds))), "--rate", str(_LOOKS)),
        *("--nonblocking", "--threads", "--format", "raw", "--output", str(file)),
    )


def _spy(*arguments: str) -> str:
    done = subprocess.run(
        [str(_SPY), *arguments], env=environment(), capture_output=True, text=True, timeout=240, check=False
    )
    if done.returncode != 0:
        raise _MayNotLook(done.stderr.strip().splitlines()[0] if done.stderr.strip() else "no reason given")
    return done.stdout
