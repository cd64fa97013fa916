"""Run the modes asked for and print them: `scripts/bench --help`."""

import argparse
import dataclasses
import json
import os
import sys
import tempfile
from pathlib import Path

from scripts.benchmark import log as growth
from scripts.benchmark import revocation
from scripts.benchmark.modes import MODES
from scripts.benchmark.plan import Plan, Result


def main() -> None:
    """Measure and print; nothing is judged, the ratios are for the reader."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measure the service on this machine.")
    parser.add_argument(
        "modes", nargs="*", metavar="MODE", help=f"of {', '.join(MODES)}; all when none is named"
    )
    parser.add_argument("--identity", action="store_true", help="the mode of this name")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="server processes")
    parser.add_argument("--clients", type=int, default=16, help="concurrent connections")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each mode, at most 120")
    parser.add_argument(
        "--log",
        action="store_true",
        help="measure the log while it grows to --sizes, on --engines, beside a reference (over ten minutes)",
    )
    parser.add_argument(
        "--sizes", type=int, nargs="+", help="entries or certificates, for --log and --revocation"
    )
    parser.add_argument(
        "--engines", nargs="+", choices=growth.ENGINES, default=growth.ENGINES, help="for --log"
    )
    parser.add_argument(
        "--revocation",
        action="store_true",
        help="measure lists, answers and time to visibility at 100 and at 1,000,000 issued certificates",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument(
        "--profile", action="store_true", help="where a certificate's time goes: the mode `where`"
    )
    asked = parser.parse_args()
    asked.modes += ["identity"] if asked.identity else []
    asked.modes += ["where"] if asked.profile else []
    unknown = [mode for mode in asked.modes if mode not in MODES]
    if unknown:
        parser.error(f"there is no mode {unknown[0]}; there are {', '.join(MODES)}")
    results: dict[str, Result] = {}
    if asked.log:
        with tempfile.TemporaryDirectory(prefix="ca-service-bench-") as folder:
            plan = Plan(asked.workers, asked.clients, min(asked.seconds, 120.0), Path(folder))
            for result in growth.log(plan, asked.engines, asked.sizes or growth.SIZES):
                results[result.title] = result
                if not asked.json:
                    show(result)
    if asked.revocation:
        with tempfile.TemporaryDirectory(prefix="ca-service-bench-") as folder:
            plan = Plan(asked.workers, min(asked.clients, 256), min(asked.seconds, 120.0), Path(folder))
            for result in revocation.revocation(plan, asked.sizes or revocation.SIZES):
                results[result.title] = result
                if not asked.json:
                    show(result)
    for mode in asked.modes or ({} if asked.log or asked.revocation else MODES):
        with tempfile.TemporaryDirectory(prefix="ca-service-bench-") as folder:
            plan = Plan(asked.workers, min(asked.clients, 256), min(asked.seconds, 120.0), Path(folder))
            results[mode] = MODES[mode](plan)
        if not asked.json:
            show(results[mode])
    if asked.json:
        about = {"workers": asked.workers, "clients": asked.clients, "seconds": asked.seconds}
        measured = {mode: dataclasses.asdict(result) for mode, result in results.items()}
        json.dump({"plan": about, "modes": measured}, sys.stdout, indent=2)
        print()


def show(result: Result) -> None:
    """Print one mode as a table."""
    print(f"\n{result.title}")
    for row in result.rows:
        ratio = "" if row.ratio is None else f"   {row.ratio:5.2f} ×"
        print(f"  {row.name:36}{row.value:10,.1f} {row.unit:10}{ratio}")


if __name__ == "__main__":
    main()
