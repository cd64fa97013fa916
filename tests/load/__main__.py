"""The command behind scripts/load."""

import argparse
import json
import os
import platform
import sys
import tempfile
from pathlib import Path

from tests.load.phases import cores
from tests.load.place import stage
from tests.load.report import as_json, spoken, table
from tests.load.run import Plan, run


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/load",
        description="Hold the service under load with locust: a share of what it takes for minutes, then too "
        "much, then the share again. Exit code 1 when something did not hold.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="how long the steady load lasts")
    parser.add_argument("--share", type=float, default=0.8, help="steady load, as a share of the capacity")
    parser.add_argument("--overload", type=float, default=3.0, help="overload, as a multiple of the capacity")
    parser.add_argument("--engine", choices=["sqlite", "postgresql"], default="sqlite", help="the database")
    parser.add_argument("--workers", type=int, default=cores(), help="worker processes of the service")
    parser.add_argument("--short", action="store_true", help="seconds in place of minutes, to try it out")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write everything measured there")
    return parser.parse_args()


def main() -> int:
    """Run as the arguments say, print the table and the verdicts."""
    asked = _arguments()
    if asked.short:
        plan = Plan(6.0, 15.0, 10.0, 10.0, asked.share, asked.overload)
    else:
        plan = Plan(steady_seconds=asked.minutes * 60, share=asked.share, overload=asked.overload)
    began = os.getloadavg()[0]
    with (
        tempfile.TemporaryDirectory(prefix="ca-service-load-") as folder,
        stage(
            Path(folder),
            engine=asked.engine,
            workers=asked.workers,
            signers=200 if asked.short else 2000,
            issued=64 if asked.short else 400,
        ) as prepared,
    ):
        done = run(prepared, plan, lambda words: print(f"{words} …", file=sys.stderr, flush=True))
    about = {
        "capacity": done.capacity,
        "engine": asked.engine,
        "workers": asked.workers,
        "cores": cores(),
        "python": platform.python_version(),
        "load_average": {"before": began, "after": os.getloadavg()[0]},
    }
    print(
        f"Capacity {done.capacity:.0f} requests a second of the mix; {asked.engine}, {asked.workers} workers,"
    )
    print(f"{cores()} cores for service and locust together, load average {began:.1f} before the run.\n")
    print(table(done.phases) + "\n")
    print(spoken(done.judged))
    if asked.json:
        asked.json.write_text(json.dumps(as_json(done.phases, done.judged, about), indent=1) + "\n")
    return 0 if all(each.holds for each in done.judged) else 1


if __name__ == "__main__":
    sys.exit(main())
