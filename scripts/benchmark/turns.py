"""Measure in turns, so that a machine that is busy for a while is so for everything that is compared."""

import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Cell = TypeVar("Cell", bound=Hashable)
Reference = TypeVar("Reference")


@dataclass(frozen=True)
class Turn(Generic[Reference]):
    """What one load measured, and the reference just before and just after it."""

    measured: Mapping[str, Any]
    before: Reference
    after: Reference


def in_turns(
    rounds: int,
    cells: Sequence[Cell],
    measure: Callable[[Cell], Mapping[str, Any]],
    reference: Callable[[Cell], Reference],
) -> dict[Cell, list[Turn[Reference]]]:
    """Measure each cell once in each round, with the reference before and after each."""
    turns: dict[Cell, list[Turn[Reference]]] = {cell: [] for cell in cells}
    for number in range(rounds):
        for cell in cells:
            progress(f"round {number + 1} of {rounds}: {cell}")
            before = reference(cell)
            measured = measure(cell)
            turns[cell].append(Turn(measured, before, reference(cell)))
    return turns


def progress(what: str) -> None:
    """Say on standard error what is being done: results alone go to standard output."""
    print(f"  … {what}", file=sys.stderr, flush=True)
