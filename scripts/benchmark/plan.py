"""What a measurement is asked for, and what it answers."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ENGINES = ("sqlite", "postgresql")
NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


@dataclass(frozen=True)
class Plan:
    """One load: server workers, concurrent clients, seconds for each phase; a folder to work in."""

    workers: int
    clients: int
    seconds: float
    folder: Path


@dataclass(frozen=True)
class Options:
    """What was asked for on the command line; empty sequences are what the mode takes by itself."""

    folder: Path
    engines: Sequence[str] = ()
    workers: Sequence[int] = ()
    clients: Sequence[int] = ()
    variants: Sequence[Mapping[str, str]] = ({},)
    """Settings of the service, by their names in the environment: each is measured beside the others."""
    seconds: float = 4.0
    rounds: int = 3
    sizes: Sequence[int] = ()
    lists: Sequence[int] = (100_000, 1_000_000)
    png: Path | None = None
    stacks: Path | None = None

    def plan(self, folder: Path, *, workers: int | None = None, clients: int | None = None) -> Plan:
        """The load with these numbers, or with the first that were asked for."""
        return Plan(
            workers or next(iter(self.workers), 2),
            clients or next(iter(self.clients), 16),
            self.seconds,
            folder,
        )


@dataclass(frozen=True)
class Goal:
    """What the design asks of a figure: at most so much, or at least; today, and in the end."""

    now: float | None = None
    then: float | None = None
    at_least: bool = False

    def reached(self, value: float, limit: float) -> bool:
        """Whether a figure is on the right side of `now` or `then`."""
        return value >= limit if self.at_least else value <= limit


@dataclass(frozen=True)
class Row:
    """One line of the table: a name, a number, its unit; what else is known of it."""

    name: str
    value: float
    unit: str
    ratio: float | None = None
    """How many times what it is compared with."""
    spread: tuple[float, float] | None = None
    """The lowest and the highest of the rounds whose median `value` is."""
    goal: Goal | None = None
    note: str = ""
    facts: Mapping[str, float] = field(default_factory=dict)
    """What else was measured, by name with unit, for those who read JSON."""


@dataclass(frozen=True)
class Result:
    """What one mode measured."""

    title: str
    rows: Sequence[Row]


def middle(
    name: str,
    values: Sequence[float],
    unit: str,
    *,
    goal: Goal | None = None,
    note: str = "",
    facts: Mapping[str, float] | None = None,
) -> Row:
    """The row whose figure is the median of several rounds."""
    spread = (min(values), max(values)) if len(values) > 1 else None
    return Row(name, statistics.median(values), unit, spread=spread, goal=goal, note=note, facts=facts or {})
