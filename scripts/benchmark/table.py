"""One table of everything that was measured, and the same as JSON."""

import dataclasses
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from scripts.benchmark.plan import Goal, Result, Row

_NAME, _FIGURE, _SPREAD, _GOAL = 47, 21, 17, 13


def heading() -> str:
    """What the columns are; printed once."""
    return (
        f"{'':{_NAME}}{'measured':>11}{'':{_FIGURE - 11}}{'lowest–highest':{_SPREAD}}"
        f"{'must be now':{_GOAL}}{'in the end':{_GOAL}}"
    ).rstrip()


def lines(result: Result) -> list[str]:
    """A mode's part of the table."""
    return ["", result.title, *map(_line, result.rows)]


def _line(row: Row) -> str:
    spread = "" if row.spread is None else f"{number(row.spread[0])}–{number(row.spread[1])}"
    goal = row.goal or Goal()
    notes = [row.note] if row.note else []
    if row.ratio is not None:
        notes.insert(0, f"{row.ratio:.2f} ×")
    return (
        f"  {row.name:{_NAME - 2}}{number(row.value):>11} {row.unit:{_FIGURE - 12}}{spread:{_SPREAD}}"
        f"{_asked(row, goal, goal.now):{_GOAL}}{_asked(row, goal, goal.then):{_GOAL}}{'; '.join(notes)}"
    ).rstrip()


def _asked(row: Row, goal: Goal, limit: float | None) -> str:
    if limit is None:
        return ""
    reached = "yes" if goal.reached(row.value, limit) else "no"
    return f"{'≥' if goal.at_least else '≤'} {limit:g}: {reached}"


def number(value: float) -> str:
    """Three digits that count, or whole numbers."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 1:
        return f"{value:.1f}" if abs(value) >= 20 else f"{value:.2f}"
    return f"{value:.3g}"


def as_json(results: Sequence[Result], asked: dict[str, Any]) -> dict[str, Any]:
    """Everything measured, with what is needed to compare it: the machine, its load, the commit."""
    return {"machine": machine(), "asked": asked, "results": [_result(result) for result in results]}


def _result(result: Result) -> dict[str, Any]:
    said = dataclasses.asdict(result)
    for row, told in zip(result.rows, said["rows"], strict=True):
        if row.goal is not None:
            for name, limit in (("now", row.goal.now), ("then", row.goal.then)):
                if limit is not None:
                    told[f"{name}_reached"] = row.goal.reached(row.value, limit)
    return said


def machine() -> dict[str, Any]:
    """What was measured on."""
    commit = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    )
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "python": platform.python_version(),
        "load": [round(one, 2) for one in os.getloadavg()],
        "commit": commit.stdout.strip() or "unknown",
    }
