"""Run the modes asked for and print one table: `scripts/bench --help`."""

import argparse
import dataclasses
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from scripts.benchmark.modes import MODES, TABLE
from scripts.benchmark.plan import ENGINES, Options, Result
from scripts.benchmark.table import as_json, heading, lines, machine

_ABOUT = """\
Measure the service on this machine: one table, ratios against what was measured beside it in the same run,
medians of --rounds turns, and whether the figures reach what docs/design/performance.md asks for.

Without a MODE: {table} (some minutes). CPU for a certificate is user and system time of all
of the server's processes; PostgreSQL's own is shown apart. Settings come from the environment, as always:
CASVC_SERVER__THREADS=8 scripts/bench.
"""
_EXAMPLES = """\
  scripts/bench                                                       every figure that has a target
  scripts/bench issuance --engine postgresql --workers 1 2 --clients 1 8 16 32
  scripts/bench issuance --variant server.threads=4                     the default beside another setting
  scripts/bench size --sizes 1000 1000000                             does the millionth cost more?
  scripts/bench profile --seconds 20 --stacks stacks.txt              where time goes; a file for speedscope
  scripts/bench growth --sizes 1000 10000 100000 1000000 --png growth.png
  scripts/bench ocsp crl --json -                                     JSON instead of the table
"""


def main() -> None:
    """Measure and print; what misses its target is no failure, since another machine may be busy."""
    commands = parser()
    asked = commands.parse_args()
    modes = [*asked.modes, *(asked.named or [])] or list(TABLE)
    for mode in modes:
        if mode not in MODES:
            commands.error(f"there is no mode {mode}; there are {', '.join(MODES)}")
    alone = asked.json == "-"
    if not alone:
        told = machine()
        print(
            f"{told['cpu']}, {told['cores']} cores, Python {told['python']}, commit {told['commit']}, "
            f"load {told['load'][0]} before\n\n{heading()}",
            flush=True,
        )
    results: list[Result] = []
    for mode in modes:
        with tempfile.TemporaryDirectory(prefix="ca-service-bench-") as folder:
            for result in MODES[mode].measure(options(asked, Path(folder))):
                results.append(result)
                if not alone:
                    print("\n".join(lines(result)), flush=True)
    if not alone:
        print(f"\nload {os.getloadavg()[0]:.1f} afterwards")
    if asked.json:
        content = json.dumps(as_json(results, _said(asked, modes)), indent=2)
        if alone:
            print(content)
        else:
            Path(asked.json).write_text(content + "\n")


def parser() -> argparse.ArgumentParser:
    """What may be asked for."""
    what = "\n".join(f"  {name:12}{mode.what}" for name, mode in MODES.items())
    commands = argparse.ArgumentParser(
        prog="scripts/bench",
        description=_ABOUT.format(table=", ".join(TABLE)),
        epilog=f"modes:\n{what}\n\nexamples:\n{_EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = commands.add_argument
    add("modes", nargs="*", metavar="MODE", help="what to measure: see below")
    for mode in ("profile", "growth", "log", "revocation", "identity"):
        add(f"--{mode}", dest="named", action="append_const", const=mode, help=f"the mode {mode}")
    add("--engine", "--engines", dest="engines", nargs="+", choices=ENGINES, default=(), help="databases")
    add("--workers", type=int, nargs="+", default=(), help="server processes [2; 1 for profile]")
    add("--clients", type=_clients, nargs="+", default=(), help="concurrent connections, at most 256 [8 32]")
    add("--seconds", type=_seconds, default=4.0, help="for each load, at most 120 [4]")
    add("--rounds", type=int, default=3, help="how often everything is measured, in turns [3]")
    add("--sizes", type=int, nargs="+", default=(), help="certificates: size, log, revocation, growth")
    add("--lists", type=int, nargs="+", default=(100_000, 1_000_000), help="entries: crl [100000 1000000]")
    add(
        "--variant",
        action="append",
        type=_variant,
        default=[],
        metavar="SETTING=VALUE[,…]",
        help="settings to measure beside the others; may be repeated",
    )
    add("--json", metavar="FILE|-", help="write JSON too, or instead of the table")
    add("--png", type=Path, metavar="FILE", help="growth: draw its curves")
    add(
        "--stacks", type=Path, metavar="FILE", help="profile: the stacks, for speedscope.app or flamegraph.pl"
    )
    return commands


def _clients(text: str) -> int:
    return max(1, min(int(text), 256))


def _seconds(text: str) -> float:
    return min(float(text), 120.0)


def _variant(text: str) -> dict[str, str]:
    """Settings as `server.threads=8,log.batch_size=64`, by their names in the environment."""
    pairs = [pair.partition("=") for pair in text.split(",")]
    if not all(equals and "." in name for name, equals, _ in pairs):
        raise argparse.ArgumentTypeError(f"{text} is not SECTION.SETTING=VALUE")
    return {f"CASVC_{name.upper().replace('.', '__')}": value for name, _, value in pairs}


def options(asked: argparse.Namespace, folder: Path) -> Options:
    """What a mode is told, of what was asked for."""
    names = {field.name for field in dataclasses.fields(Options)} - {"folder", "variants"}
    given = {name: value for name, value in vars(asked).items() if name in names}
    return Options(folder, variants=({}, *asked.variant), **given)


def _said(asked: argparse.Namespace, modes: list[str]) -> dict[str, Any]:
    said = {name: str(value) if isinstance(value, Path) else value for name, value in vars(asked).items()}
    return {**said, "modes": modes}


if __name__ == "__main__":
    main()
