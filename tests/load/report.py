"""A run as a table for people and as JSON for programs, and whether the load was held."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tests.load.memory import Growth
from tests.load.phases import Phase

STATUS_KINDS = ("ocsp-get", "ocsp-post", "crl")
CLIENTS_WAIT_MS = 5000.0
"""Sigstore's JavaScript client gives up after so long: a later answer, even a refusal, reaches nobody."""
GROWTH_SHARE = 0.05
GROWTH_MIB = 8.0


@dataclass(frozen=True)
class Verdict:
    """One thing that must hold, and whether it did."""

    what: str
    holds: bool
    seen: str


def verdicts(
    steady: Phase, overload: Phase, settling: Phase, recovered: Phase, *, fsck: str | None, short: bool
) -> list[Verdict]:
    """Judge a run; `fsck` is what it found wrong, `short` runs are not long enough to judge memory by.

    While it settles, what still waited in the overload may be refused; nothing may fail, nor a worker die.
    """
    died = sum(phase.died for phase in (steady, overload, settling, recovered))
    status = {kind: overload.kinds[kind] for kind in STATUS_KINDS if kind in overload.kinds}
    judged = [
        Verdict(
            "steady load: no error and no refusal",
            steady.errors == steady.refused == 0 and steady.served > 0,
            f"{steady.errors} errors, {steady.refused} refused of {steady.asked}",
        ),
        Verdict(
            "overload: each request is served, or refused with a time to come back",
            overload.errors == settling.errors == 0,
            f"{overload.errors} errors of {overload.asked}: {overload.all['statuses']}; "
            f"then {settling.errors} of {settling.asked}: {settling.all['statuses']}",
        ),
        Verdict(
            "overload: questions about status are never refused",
            all(facts["refused"]["count"] == 0 for facts in status.values()),
            ", ".join(f"{kind} {facts['statuses']}" for kind, facts in status.items()),
        ),
        Verdict(
            "overload: refusals come while clients still wait",
            overload.all["refused"].get("p99_ms", 0.0) < CLIENTS_WAIT_MS,
            f"99 of 100 within {overload.all['refused'].get('p99_ms', 0.0):.0f} ms",
        ),
        Verdict(
            "overload: it does not collapse",
            overload.served / overload.seconds > 0.5 * steady.served / steady.seconds,
            f"{overload.served / overload.seconds:.0f} served a second",
        ),
        Verdict(
            "five seconds afterwards: no error and no refusal",
            recovered.errors == recovered.refused == 0 and recovered.served > 0,
            f"{recovered.errors} errors, {recovered.refused} refused of {recovered.asked}",
        ),
        Verdict("no worker died", died == 0, f"{died} died"),
        Verdict("fsck: everything agrees", fsck is None, fsck or "it does"),
    ]
    if not short:
        judged.insert(1, flat(steady.memory))
    return judged


def flat(memory: Sequence[Growth]) -> Verdict:
    """Judge whether the workers' memory stayed where it was."""
    return Verdict(
        f"steady load: memory of each worker grows by less than {GROWTH_MIB:.0f} MiB and {GROWTH_SHARE:.0%}",
        bool(memory)
        and all(each.last - each.first < min(GROWTH_MIB, GROWTH_SHARE * each.first) for each in memory),
        "; ".join(f"{each.first:.1f} to {each.last:.1f} MiB" for each in memory) or "no samples",
    )


def table(phases: Sequence[Phase]) -> str:
    """What each phase asked and got, by kind of request."""
    lines = [
        "| phase | kind | asked | 200 | refused | errors | served/s | p50 ms | p99 ms | refused p99 ms |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for phase in phases:
        for kind, facts in phase.kinds.items():
            asked = sum(facts["statuses"].values())
            good, refused = facts["good"], facts["refused"]
            errors = asked - good["count"] - refused["count"]
            counts = f"{asked} | {good['count']} | {refused['count']} | {errors}"
            times = " | ".join(
                f"{found:.0f}" if (found := spent.get(name)) is not None else "–"
                for spent, name in ((good, "p50_ms"), (good, "p99_ms"), (refused, "p99_ms"))
            )
            lines.append(
                f"| {phase.name} | {kind} | {counts} | {good['count'] / phase.seconds:.1f} | {times} |"
            )
    lines += ["", "| phase | seconds | users | offered/s | asked/s | service CPU | locust CPU | memory MiB |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for phase in phases:
        memory = ", ".join(f"{each.first:.1f}→{each.last:.1f}" for each in phase.memory) or "–"
        offered = f"{phase.offered:.0f}" if phase.offered else "all it takes"
        lines.append(
            f"| {phase.name} | {phase.seconds:.0f} | {phase.users} | {offered} | "
            f"{phase.asked / phase.seconds:.0f} | {phase.server_cpu:.2f} cores | "
            f"{phase.locust_cpu:.2f} cores | {memory} |"
        )
    return "\n".join(lines)


def spoken(judged: Sequence[Verdict]) -> str:
    """The verdicts, one a line."""
    return "\n".join(f"{'held  ' if each.holds else 'FAILED'} {each.what}: {each.seen}" for each in judged)


def as_json(phases: Sequence[Phase], judged: Sequence[Verdict], about: dict[str, Any]) -> dict[str, Any]:
    """Everything, for programs."""
    return {
        **about,
        "held": all(each.holds for each in judged),
        "phases": [asdict(phase) for phase in phases],
        "verdicts": [asdict(each) for each in judged],
    }
