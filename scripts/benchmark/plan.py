"""What a measurement is asked for, and what it answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Plan:
    """How much load: server workers, concurrent clients, seconds for each phase; a folder to work in."""

    workers: int
    clients: int
    seconds: float
    folder: Path


@dataclass(frozen=True)
class Row:
    """One line of the table: a name, a number, its unit, and the ratio to what it is compared with."""

    name: str
    value: float
    unit: str
    ratio: float | None = None


@dataclass(frozen=True)
class Result:
    """What one mode measured."""

    title: str
    rows: Sequence[Row]
