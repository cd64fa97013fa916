"""scripts/demo, the first command a newcomer runs, does what it says and leaves nothing behind."""

import re
import subprocess
from pathlib import Path

from tests.support.processes import environment

REPOSITORY = Path(__file__).parents[2]


def test_the_demo_goes_from_token_to_revoked_and_cleans_up(tmp_path: Path) -> None:
    done = subprocess.run(
        [REPOSITORY / "scripts" / "demo"],
        env=environment({"TMPDIR": str(tmp_path)}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    steps = [int(number) for number in re.findall(r"^(\d+)\. ", done.stdout, re.MULTILINE)]
    assert steps == list(range(1, len(steps) + 1))
    assert re.search(r": good$", done.stdout, re.MULTILINE)
    assert "revoked (keyCompromise)" in done.stdout
    assert "this certificate, since" in done.stdout
    assert re.search(r"refused: this identity gets no certificates: block 1 ", done.stdout)
    assert re.search(r"revoke-identity.*ticket-4711", done.stdout)
    assert list(tmp_path.glob("ca-service-demo*")) == []
