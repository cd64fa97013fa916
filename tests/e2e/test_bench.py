"""scripts/bench: each of its modes runs and says what it promises; how quick anything was is not judged."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from scripts.benchmark.__main__ import main, options, parser
from tests.support.processes import environment

REPOSITORY = Path(__file__).parents[2]
TINY = ("--seconds", "0.3", "--rounds", "1", "--workers", "1", "--clients", "2")


def bench(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "scripts.benchmark", *map(str, arguments), *TINY],
        cwd=REPOSITORY,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def measured(*arguments: str | Path) -> dict[str, Mapping[str, Any]]:
    """The rows by their names, as JSON."""
    said = json.loads(bench(*arguments, "--json", "-").stdout)
    assert said["machine"]["cores"] > 0
    return {row["name"]: row for result in said["results"] for row in result["rows"]}


def test_without_a_mode_every_target_is_measured_and_judged() -> None:
    rows = measured("--sizes", "10", "20", "--lists", "50")
    ours = ["SQLite, 1 worker, 2 clients", "PostgreSQL, 1 worker, 2 clients", "SQLite, 20 against 10"]
    ours += ["gunicorn alone, 1 worker, 2 clients", "revocation → all of 200 connections know"]
    for name in ours:
        assert rows[name]["now_reached"] in (True, False), name
        assert rows[name]["value"] > 0, name
    for name in ("behind nginx, 1 worker, 2 clients", "  times as fast as openssl ca -gencrl"):
        assert rows[name]["then_reached"] in (True, False), name
        assert rows[name]["value"] > 0, name
    assert rows["floor: five operations"]["unit"] == "µs CPU"
    assert rows["PostgreSQL, 1 worker, 2 clients"]["facts"]["server_cpu_us"] > 0
    assert rows["SQLite, 1 worker, 2 clients"]["facts"]["database_cpu_us"] == 0
    assert rows["revocation → all of 200 connections know"]["facts"]["first_ms"] > 0


def test_each_mode_that_is_not_in_the_table_runs() -> None:
    rows = measured("log", "revocation", "identity", "where", "--engine", "sqlite", "--sizes", "100")
    assert rows["100: inclusion proof"]["value"] > 0
    assert rows["100: issuance, CPU"]["value"] > 0
    assert rows["revoking 1 %"]["unit"] == "ms"
    assert rows["OCSP, 100 certificates"]["value"] > 0
    assert rows["e-mail: all but that"]["value"] > 0
    assert rows["the request's thread"]["value"] > 0


def test_growth_draws_its_curves_and_the_profile_keeps_its_stacks(tmp_path: Path) -> None:
    png, stacks, said = (tmp_path / name for name in ("growth.png", "stacks.txt", "said.json"))
    asked = ("growth", "profile", "--engine", "sqlite", "--sizes", "10", "--variant", "server.threads=4")
    done = bench(*asked, "--png", png, "--stacks", stacks, "--json", said)
    assert "start, until /readyz" in done.stdout
    assert "SQLite, 10 certificates before" in done.stdout
    assert png.read_bytes().startswith(b"\x89PNG")
    assert png.stat().st_size < 120_000
    if "cProfile instead" not in done.stderr:  # where the machine lets nobody look into another process
        assert "log-sequencer" in done.stdout
        assert "by function, with all that it calls" in done.stdout
        assert stacks.read_text()
    assert "ca_service." in done.stdout
    assert json.loads(said.read_text())["asked"]["modes"] == ["growth", "profile"]


@pytest.mark.parametrize(
    "asked", [["nothing"], ["issuance", "--variant", "threads=4"], ["--engine", "oracle"]]
)
def test_what_it_does_not_know_is_refused(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["scripts/bench", *asked])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert asked[-1] in capsys.readouterr().err


def test_settings_to_compare_are_named_as_in_ca_toml(tmp_path: Path) -> None:
    asked = parser().parse_args(["--variant", "server.threads=4,log.batch_size=64"])
    assert options(asked, tmp_path).variants == (
        {},
        {"CASVC_SERVER__THREADS": "4", "CASVC_LOG__BATCH_SIZE": "64"},
    )
