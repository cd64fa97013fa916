"""The directory through which worker processes share their metrics.

Must run before anything imports prometheus_client, so this module does not.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def open_metrics_directory() -> Path:
    """Make an empty directory of our own and name it in the environment.

    Raises RuntimeError when prometheus_client is imported already: it would count per process for ever.
    """
    if "prometheus_client" in sys.modules and VARIABLE not in os.environ:
        raise RuntimeError("prometheus_client was imported before its directory was made")
    directory = Path(tempfile.mkdtemp(prefix="ca-service-metrics-"))
    os.environ[VARIABLE] = str(directory)
    return directory


def close_metrics_directory(directory: Path) -> None:
    """Remove the directory with all it holds."""
    shutil.rmtree(directory, ignore_errors=True)


def forget_process(pid: int) -> None:
    """Drop the gauges of a worker that ended; its counters stay counted."""
    from prometheus_client.multiprocess import mark_process_dead  # late: see the top

    mark_process_dead(pid)  # type: ignore[no-untyped-call]  # the library leaves it untyped
