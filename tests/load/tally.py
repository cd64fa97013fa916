"""What came back, counted while it comes, and written down at the end."""

import json
from array import array
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.load.connection import Reply


@dataclass
class Kind:
    """Answers to one kind of request."""

    statuses: Counter[str] = field(default_factory=Counter)
    good: "array[float]" = field(default_factory=lambda: array("f"))
    refused: "array[float]" = field(default_factory=lambda: array("f"))

    def facts(self) -> dict[str, Any]:
        """As JSON: counts by status, and the times of what was served and of what was refused, in ms."""
        return {
            "statuses": dict(sorted(self.statuses.items())),
            "good": times(self.good),
            "refused": times(self.refused),
        }


class Tally:
    """Answers by kind. A refusal is 429 or 503 that says when to ask again; all else but 200 is an error."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.kinds: defaultdict[str, Kind] = defaultdict(Kind)

    def answered(self, kind: str, reply: Reply) -> str | None:
        """Count an answer; returns what is wrong with it, None for a good one or a refusal."""
        counted = self.kinds[kind]
        if reply.status == 200:
            counted.statuses["200"] += 1
            counted.good.append(reply.seconds)
            return None
        if reply.status in (429, 503) and reply.retry_after:
            counted.statuses[str(reply.status)] += 1
            counted.refused.append(reply.seconds)
            return None
        wrong = f"{reply.status}" if reply.status not in (429, 503) else f"{reply.status} without Retry-After"
        counted.statuses[wrong] += 1
        return wrong

    def failed(self, kind: str, error: Exception) -> None:
        """Count a request that got no answer."""
        self.kinds[kind].statuses[type(error).__name__] += 1

    def write(self, file: Path) -> None:
        """Store the counts as JSON, of all kinds together too."""
        together = Kind()
        for kind in self.kinds.values():
            together.statuses.update(kind.statuses)
            together.good.extend(kind.good)
            together.refused.extend(kind.refused)
        kinds = {**dict(sorted(self.kinds.items())), "all": together}
        file.write_text(json.dumps({name: kind.facts() for name, kind in kinds.items()}))


def times(seconds: "array[float]") -> dict[str, float]:
    """How many, the median, what 99 of 100 stay below, and the longest, in milliseconds."""
    if not seconds:
        return {"count": 0}
    ordered = sorted(seconds)
    last = len(ordered) - 1
    return {
        "count": len(ordered),
        "p50_ms": 1000 * ordered[last // 2],
        "p99_ms": 1000 * ordered[last * 99 // 100],
        "max_ms": 1000 * ordered[last],
    }
