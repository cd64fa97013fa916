"""A whole run: how much the service takes, a share of that for minutes, too much for one, and afterwards."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.load.phases import Phase, Stage
from tests.load.report import Verdict, verdicts

_CLOSED_USERS = 48
_SHORT_SECONDS = 60.0


@dataclass(frozen=True)
class Plan:
    """How long and how much: seconds of each phase, and rates as shares of the measured capacity."""

    measure_seconds: float = 20.0
    steady_seconds: float = 600.0
    overload_seconds: float = 60.0
    recovery_seconds: float = 60.0
    share: float = 0.8
    overload: float = 3.0
    settling_seconds: float = 5.0


@dataclass(frozen=True)
class Run:
    """What came of it; `capacity` is requests a second of the mix, all of them served."""

    capacity: float
    phases: list[Phase]
    judged: list[Verdict]


def run(stage: Stage, plan: Plan, say: Callable[[str], object]) -> Run:
    """Run all phases against a prepared service."""
    say("warming up")
    stage.closed("warm-up", _CLOSED_USERS, plan.measure_seconds / 2)
    say("measuring its capacity: as fast as it answers")
    measured = stage.closed("capacity", _CLOSED_USERS, plan.measure_seconds)
    capacity = measured.served / measured.seconds
    steady_rate = plan.share * capacity
    say(f"{capacity:.0f} requests a second; now {steady_rate:.0f} for {plan.steady_seconds:.0f} s")
    steady = stage.at_rate("steady", steady_rate, plan.steady_seconds)
    say(f"now {plan.overload:g} times its capacity for {plan.overload_seconds:.0f} s")
    overload = stage.at_rate("overload", plan.overload * capacity, plan.overload_seconds)
    # What still waited in the overload is refused in the first of these seconds.
    say(f"now {steady_rate:.0f} a second again: for {plan.settling_seconds:.0f} s to come to rest")
    settling = stage.at_rate("settling", steady_rate, plan.settling_seconds)
    say(f"and for {plan.recovery_seconds:.0f} s")
    recovered = stage.at_rate("recovery", steady_rate, plan.recovery_seconds)
    say("fsck")
    checked = stage.service.cli("fsck")
    judged = verdicts(
        steady,
        overload,
        settling,
        recovered,
        fsck=None if checked.returncode == 0 else checked.stdout + checked.stderr,
        short=plan.steady_seconds < _SHORT_SECONDS,
    )
    return Run(capacity, [measured, steady, overload, settling, recovered], judged)
