"""Some seconds of fuzzing in every run: whatever octets come, the answer is one of our errors."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import environment

SECONDS = int(os.environ.get("FUZZ_SECONDS", "10"))
ROOT = Path(__file__).resolve().parents[2]


def fuzz(target: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    corpus = folder / "corpus"
    corpus.mkdir()
    command = [sys.executable, "-m", "tests.fuzz", target, f"-max_total_time={SECONDS}", "-timeout=60"]
    return subprocess.run(
        [*command, "-rss_limit_mb=2048", f"-artifact_prefix={folder}/", *options, str(corpus)],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=SECONDS + 240,
        check=False,
    )


@pytest.mark.parametrize("target", ["token", "csr", "public-key", "ocsp-request", "ocsp-path"])
def test_nothing_but_our_errors_comes_of_any_octets(target: str, tmp_path: Path) -> None:
    done = fuzz(target, tmp_path)
    found = [f"{path.name}: {path.read_bytes()!r}" for path in tmp_path.iterdir() if path.is_file()]
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{found}"
    runs = re.search(r"^Done (\d+) runs", done.stdout, re.MULTILINE)
    assert runs, done.stdout[-2000:]
    assert int(runs[1]) > 200
    covered = [int(number) for number in re.findall(r" cov: (\d+)", done.stdout)]
    assert covered, "nothing was instrumented, so nothing guided the inputs"
    assert covered[-1] > 50


def test_a_fault_is_found(tmp_path: Path) -> None:
    done = fuzz("faulty", tmp_path, "-runs=200000")
    assert done.returncode != 0
    assert "ValueError: not one of ours" in done.stdout
    assert any(path.name.startswith("crash-") for path in tmp_path.iterdir())
