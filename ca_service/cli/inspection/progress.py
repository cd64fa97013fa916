"""How far an inspection came and what it found, in memory and in the file that `--resume` names."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ca_service.authority.finding import Finding
from ca_service.authority.tree_inspection import TreeInspection
from ca_service.errors import ConfigurationError

_FORMAT = 1
_KEPT_FINDINGS = 1000

Tell = Callable[[str, int, int], None]
"""Is told what is being inspected, how much of it is done, and how much there is."""


@dataclass
class Progress:
    """How far an inspection came, and what it found; the first thousand findings are kept.

    `notes` are what somebody should know who reads that everything agrees.
    """

    findings: list[Finding] = field(default_factory=list)
    count: int = 0
    checked: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    trees: dict[str, dict[str, object]] = field(default_factory=dict)
    holes: set[str] = field(default_factory=set)

    def add(self, finding: Finding) -> None:
        """Keep a finding, or only count it; one that is kept already is the same found again."""
        if finding in self.findings:
            return
        self.count += 1
        if len(self.findings) < _KEPT_FINDINGS:
            self.findings.append(finding)

    def encode(self) -> bytes:
        """Write it for a state file."""
        said = {
            "format": _FORMAT,
            "findings": [finding.members() for finding in self.findings],
            "count": self.count,
            "trees": self.trees,
            "holes": sorted(self.holes),
        }
        return json.dumps(said).encode()

    @classmethod
    def decode(cls, content: bytes) -> "Progress":
        """Read a state file; raises ValueError, KeyError or TypeError when it is none."""
        said = json.loads(content)
        if said["format"] != _FORMAT:
            raise ValueError("it is of another version")
        findings = [
            Finding(one["rule"], one["where"], one["expected"], one["found"]) for one in said["findings"]
        ]
        for shard, state in said["trees"].items():
            TreeInspection.of_state(shard, state)
        return cls(findings, int(said["count"]), trees=dict(said["trees"]), holes=set(said["holes"]))


def read_state(path: Path) -> Progress:
    """Where an earlier run stopped, or the beginning when there is no such file; ConfigurationError."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return Progress()
    try:
        return Progress.decode(content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(
            f"--resume: {path} is not the state of an inspection ({error}); remove it to begin anew"
        ) from error
